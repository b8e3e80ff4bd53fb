"""Images from a trained generator."""

import functools

import jax
import jax.numpy as jnp

from dcgan_jax.gan.networks import Generator
from dcgan_jax.gan.state import GeneratorParams

_CHUNK = 64  # one compilation whatever the number asked for, and memory that does not grow with it


@functools.partial(jax.jit, static_argnames="num")
def _latents(params: GeneratorParams, key, start, num):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(start + jnp.arange(num))
    return jax.vmap(lambda k: params.latent.draw(k, 1)[0])(keys)


@jax.jit
def _decode(params: GeneratorParams, z):
    variables = {"params": params.params, "batch_stats": params.batch_stats}
    return Generator.of(params.params).apply(variables, z, train=False)


def decode(params: GeneratorParams, z: jax.Array) -> jax.Array:
    """The images of given latents, (N, latent_dim) -> (N, H, W, C) float32 in [-1, 1], BatchNorm in
    inference mode: no image depends on its neighbours."""
    chunks = []
    for start in range(0, z.shape[0], _CHUNK):
        part = z[start : start + _CHUNK]
        padded = jnp.pad(part, ((0, _CHUNK - part.shape[0]), (0, 0)))
        chunks.append(_decode(params, padded)[: part.shape[0]])
    return jnp.concatenate(chunks)


def sample(params: GeneratorParams, key: jax.Array, num: int = 64) -> jax.Array:
    """Draw ``num`` images from a trained generator.

    Image ``i`` is a function of ``params``, ``key`` and ``i`` alone, whatever ``num`` is.

    Args:
      params: what ``dcgan_jax.restore`` returns. Latent size, width, resolution and channels follow
        from it.
      key: a JAX random key, such as ``jax.random.key(0)``.
      num: how many images, at least 1.

    Returns:
      float32 (num, H, W, C) in [-1, 1].
    """
    if num < 1:
        raise ValueError(f"num {num} must be at least 1")
    return decode(params, _latents(params, key, 0, num))
