"""Images from a trained generator."""

import functools

import jax
import jax.numpy as jnp

from dcgan_jax.gan.state import GANState, GeneratorParams, check_key, generator_params
from dcgan_jax.system.errors import InputError

_CHUNK = 64  # images: one compilation of the network for any number of them


@functools.partial(jax.jit, static_argnames="num")
def _latents(params: GeneratorParams, key, num):
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num))
    return jax.vmap(lambda k: params.latent.draw(k, 1)[0])(keys)


@jax.jit
def _decode(params: GeneratorParams, z):
    variables = {"params": params.params, "batch_stats": params.batch_stats}
    return params.generator.apply(variables, z, train=False)


def as_params(params) -> GeneratorParams:
    if isinstance(params, GANState):
        return generator_params(params)
    if not isinstance(params, GeneratorParams):
        raise InputError(
            f"params must be what restore(workdir) or generator_params(state) returns, not {type(params).__name__}"
        )
    return params


def decode(params: GeneratorParams | GANState, z: jax.Array) -> jax.Array:
    """Map latent vectors to their images. BatchNorm is in inference mode: no image depends on the others.

    Args:
      params: as for ``sample``.
      z: (N, latent_dim). Gradients with respect to it are defined.

    Returns:
      float32 (N, H, W, C) in [-1, 1].
    """
    params = as_params(params)
    if z.ndim != 2 or z.shape[1] != params.latent.dim:
        raise InputError(f"z must be of the shape (N, {params.latent.dim}), not {z.shape}")
    chunks = []
    for start in range(0, z.shape[0], _CHUNK):
        part = z[start : start + _CHUNK]
        padded = jnp.pad(part, ((0, _CHUNK - part.shape[0]), (0, 0)))
        chunks.append(_decode(params, padded)[: part.shape[0]])
    return jnp.concatenate(chunks)


def sample(params: GeneratorParams | GANState, key: jax.Array, num: int = 64) -> jax.Array:
    """Draw ``num`` images from a trained generator.

    Image ``i`` depends only on ``params``, ``key`` and ``i``, not on ``num``.

    Args:
      params: what ``dcgan_jax.restore`` returns, or a whole training state.
      key: a JAX random key, such as ``jax.random.key(0)``.
      num: how many images, at least 1.

    Returns:
      float32 (num, H, W, C) in [-1, 1].

    Raises:
      InputError: an argument has the wrong type or value.
    """
    check_key(key)
    params = as_params(params)
    if num < 1:
        raise InputError(f"num {num} must be at least 1")
    return decode(params, _latents(params, key, num))


def slerp(start: jax.Array, end: jax.Array, num: int) -> jax.Array:
    """``num`` latent vectors on the arc between two, ends included: (dim,) and (dim,) -> (num, dim).

    On a straight line the middle would be shorter than any vector of N(0, 1). Source: Shoemake 1985.
    """
    t = jnp.linspace(0.0, 1.0, num)[:, None]
    cosine = start @ end / (jnp.linalg.norm(start) * jnp.linalg.norm(end))
    angle = jnp.arccos(jnp.clip(cosine, -1 + 1e-6, 1 - 1e-6))  # never 0 or pi: the sine is divided by
    return (jnp.sin((1 - t) * angle) * start[None] + jnp.sin(t * angle) * end[None]) / jnp.sin(angle)
