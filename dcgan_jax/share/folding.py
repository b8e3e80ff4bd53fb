"""The generator as plain transposed convolutions, for programs that know neither Flax nor BatchNorm."""

from typing import NamedTuple

import numpy as np

from dcgan_jax.gan.networks import BATCHNORM_EPSILON, Generator
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.system.errors import InputError


class Dense(NamedTuple):
    """``x @ kernel + bias``."""

    kernel: np.ndarray  # float32 (in, out)
    bias: np.ndarray  # float32 (out,)


class Layer(NamedTuple):
    """A transposed convolution with a bias. A ReLU follows it, or tanh if it is the last.

    The first has stride 1 and padding 0, and makes a map of the size of its kernel, such as 4x4; the others are 4x4
    with stride 2 and padding 1, as in PyTorch.

    What a layer with self-modulation gives is multiplied by ``scale``, and ``shift`` is added, before the ReLU; the two
    make them, for each channel, of the hidden numbers of the image.
    """

    kernel: np.ndarray  # float32 (h, w, in, out)
    bias: np.ndarray  # float32 (out,)
    scale: Dense | None = None
    shift: Dense | None = None


class Folded(NamedTuple):
    """A generator in inference mode: its layers; with self-modulation also what makes hidden numbers of z and the
    classes. A ReLU follows that."""

    layers: list[Layer]
    hidden: Dense | None = None


def folded(params: GeneratorParams) -> Folded:
    """The layers of a generator in inference mode: BatchNorm's scale is in the kernels, the rest of it in the biases.

    Raises:
      InputError: it is a network of the user's own.
    """
    if type(params.generator) is not Generator:
        name = type(params.generator).__name__
        raise InputError(f"html and onnx hold the built-in Generator only, not {name}: export safetensors")
    weights, inputs = params.params, params.generator.scales()
    blocks = [name for name in weights if name.startswith("GeneratorBlock_")]
    layers = [_layer(params, f"GeneratorBlock_{i}") for i in range(len(blocks))]
    layers[0] = layers[0]._replace(kernel=layers[0].kernel * inputs[None, None, :, None])
    kernel = _kernel(weights)
    layers.append(Layer(kernel, np.zeros(kernel.shape[3], np.float32)))
    if not params.generator.self_modulation:
        return Folded(layers)
    hidden = weights["Hidden_0"]
    return Folded(layers, Dense((np.asarray(hidden["kernel"]) * inputs).T, np.asarray(hidden["bias"])))


def _layer(params: GeneratorParams, name: str) -> Layer:
    block, seen = params.params[name], params.batch_stats[name]["BatchNorm_0"]
    kernel, mean = _kernel(block), np.asarray(seen["mean"])
    deviation = np.sqrt(np.asarray(seen["var"]) + BATCHNORM_EPSILON)
    if "Dense_0" not in block:
        scale = np.asarray(block["BatchNorm_0"]["scale"]) / deviation
        return Layer(kernel * scale, np.asarray(block["BatchNorm_0"]["bias"]) - mean * scale)
    kernels, biases = (np.split(np.asarray(block["Dense_0"][part]), 2, axis=-1) for part in ("kernel", "bias"))
    middle = np.float32(params.generator.batchnorm_scale_mean)
    scale, shift = Dense(kernels[0], middle + biases[0]), Dense(kernels[1], biases[1])
    return Layer(kernel / deviation, -mean / deviation, scale, shift)


def _kernel(block) -> np.ndarray:
    return np.asarray(block["ConvTranspose_0"]["kernel"]).swapaxes(2, 3)
