"""The generator as plain transposed convolutions, for programs that know neither Flax nor BatchNorm."""

from typing import NamedTuple

import numpy as np

from dcgan_jax.gan.networks import BATCHNORM_EPSILON, Generator
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.system.errors import InputError


class Layer(NamedTuple):
    """A transposed convolution with a bias. A ReLU follows it, or tanh if it is the last.

    The first has stride 1 and padding 0, and makes a map of the size of its kernel, such as 4x4; the others are 4x4
    with stride 2 and padding 1, as in PyTorch.
    """

    kernel: np.ndarray  # float32 (h, w, in, out)
    bias: np.ndarray  # float32 (out,)


def folded(params: GeneratorParams) -> list[Layer]:
    """The layers of a generator in inference mode: BatchNorm's scale is in the kernels, the rest of it in the biases.

    Raises:
      InputError: it is a network of the user's own.
    """
    if type(params.generator) is not Generator:
        name = type(params.generator).__name__
        raise InputError(f"html and onnx hold the built-in Generator only, not {name}: export safetensors")
    layers = []
    for i in range(len(params.params) - 1):  # the last is a convolution alone
        block = params.params[f"GeneratorBlock_{i}"]
        norm, seen = block["BatchNorm_0"], params.batch_stats[f"GeneratorBlock_{i}"]["BatchNorm_0"]
        scale = np.asarray(norm["scale"]) / np.sqrt(np.asarray(seen["var"]) + BATCHNORM_EPSILON)
        bias = np.asarray(norm["bias"]) - np.asarray(seen["mean"]) * scale
        kernel = _kernel(block) * scale[None, None, None]
        if i == 0:
            kernel = kernel * params.generator.scales()[None, None, :, None]
        layers.append(Layer(kernel, bias))
    kernel = _kernel(params.params)
    return [*layers, Layer(kernel, np.zeros(kernel.shape[3], np.float32))]


def _kernel(block) -> np.ndarray:
    return np.asarray(block["ConvTranspose_0"]["kernel"]).swapaxes(2, 3)
