"""Directions of z along which a generator's pictures change most (SeFa, Shen & Zhou 2021)."""

import jax
import numpy as np

from dcgan_jax.gan.networks import BATCHNORM_EPSILON, Generator
from dcgan_jax.gan.sampling import as_params
from dcgan_jax.gan.state import GANState, GeneratorParams
from dcgan_jax.system.errors import InputError


def directions(params: GeneratorParams | GANState, num: int = 8) -> jax.Array:
    """The ``num`` directions of z that change the generator's first feature maps most.

    They are singular vectors of its first layer, as BatchNorm scales it. With a from -3 to 3
    ``decode(params, z + a * directions(params)[:1])`` is a clear change; from about 6 on pictures fall apart. What a
    direction means is to be seen: on game figures the first is their size, the next their colours.

    Args:
      params: as for ``sample``; of the built-in generator.
      num: how many, from 1 to latent_dim.

    Returns:
      float32 (num, latent_dim): unit vectors at right angles to each other, the strongest first. Of the two signs it
      is the one that makes the largest of its numbers positive.

    Raises:
      InputError: an argument has the wrong type or value, or the generator is one of the user's own.
    """
    params = as_params(params)
    if type(params.generator) is not Generator:
        raise InputError(f"directions are those of the built-in Generator, not of {type(params.generator).__name__}")
    if type(num) is not int or not 1 <= num <= params.latent.dim:
        raise InputError(f"num {num!r} must be a whole number from 1 to {params.latent.dim}, the length of z")
    block, seen = params.params["GeneratorBlock_0"], params.batch_stats["GeneratorBlock_0"]["BatchNorm_0"]
    scale = 1 / np.sqrt(np.asarray(seen["var"]) + BATCHNORM_EPSILON)
    if not params.generator.self_modulation:  # with it each image has scales of its own
        scale = np.asarray(block["BatchNorm_0"]["scale"]) * scale
    kernel = np.asarray(block["ConvTranspose_0"]["kernel"]) * scale[:, None]  # (4, 4, out, in)
    return jax.numpy.asarray(strongest(kernel.swapaxes(2, 3), latent_dim=params.latent.dim, num=num))


def strongest(kernel: np.ndarray, *, latent_dim: int, num: int) -> np.ndarray:
    """``directions`` of a first layer, (4, 4, in, out), of whose inputs the first ``latent_dim`` are z."""
    matrix = kernel[:, :, :latent_dim].swapaxes(2, 3).reshape(-1, latent_dim)
    vectors = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)[2][:num]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1)
    return (vectors * np.sign(largest)).astype(np.float32)
