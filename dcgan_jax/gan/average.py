"""The generator with averaged weights (Yazici et al. 2019), ready to sample from."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.gan.networks import apply
from dcgan_jax.gan.state import GANState, GeneratorParams
from dcgan_jax.system.xla import random_key, usual_numbers


def ema_decay(step: jax.Array, *, batch_size: int, half_life: float) -> jax.Array:
    """The weight of the old average in step ``step`` (from 1): 0.5 after ``half_life`` images.

    The half-life grows with the run: it is 0.05 of the images seen at most, so that the first weights are forgotten
    (Karras et al. 2020, StyleGAN2-ADA), also those of a model that a run starts from: it drew other pictures.
    """
    most = 0.05 * batch_size * step
    return 0.5 ** (batch_size / jnp.maximum(jnp.minimum(half_life, most), 1e-6))


@usual_numbers()
def generator_params(state: GANState, *, ema: bool = True, num: int = 16384) -> GeneratorParams:
    """The part of a training state that ``sample`` needs.

    Args:
      state: of training.
      ema: the running average of the weights; False takes the newest ones, with their running statistics.
      num: latents from which BatchNorm's statistics of the averaged weights are computed, in batches of the size of
        training. Those of the newest weights do not fit them.
    """
    G = state.generator
    params = GeneratorParams(G.params, G.batch_stats, G.module, state.latent, state.step, state.classes)
    if not ema:
        return params
    return precise_batch_norm(params.replace(params=state.ema), -(-num // state.batch_size), state.batch_size)


@functools.partial(jax.jit, static_argnames="batch_size")
def precise_batch_norm(params: GeneratorParams, batches: jax.Array | int, batch_size: int) -> GeneratorParams:
    """Give BatchNorm the statistics of its layers' inputs over ``batches`` batches (Wu & Johnson 2021).

    The variance counts how far the batches' means lie apart, too.
    """

    def updated(old, i):
        key = jax.random.fold_in(random_key(0), i)
        z = params.latent.draw(key, batch_size)
        if params.classes:
            z = params.classes.beside(z, params.classes.draw(key, batch_size, as_trained=True))
        return apply(params.generator, params.params, old, z, train=True)[1]

    zeros, ones = (jax.tree.map(fill, params.batch_stats) for fill in (jnp.zeros_like, jnp.ones_like))

    def moments(batch) -> dict[tuple, Any]:
        paths: dict[tuple, Any] = flatten_dict(batch)
        return {path: x + paths[*path[:-1], "mean"] ** 2 if path[-1] == "var" else x for path, x in paths.items()}

    def add(i, carry):
        # new = momentum * old + (1 - momentum) * batch, whatever the momentum of the network is. Its effect on ones is
        # found first, in the same loop: XLA compiles the network once then, not three times.
        share, total = carry
        old = jax.tree.map(lambda one, zero: jnp.where(i == 0, one, zero), ones, zeros)
        new = updated(old, jnp.maximum(i - 1, 0))
        share = jax.tree.map(lambda share, new: jnp.where(i == 1, 1 - (share - new), share), share, new)
        added = moments(jax.tree.map(jnp.divide, new, share))
        total = jax.tree.map(lambda total, x: jnp.where(i == 0, total, total + x), total, added)
        return jax.tree.map(lambda share, new: jnp.where(i == 0, new, share), share, new), total

    _, total = jax.lax.fori_loop(0, batches + 1, add, (ones, flatten_dict(zeros)))
    means = {path: x / batches for path, x in total.items()}
    stats = {path: x - means[*path[:-1], "mean"] ** 2 if path[-1] == "var" else x for path, x in means.items()}
    return params.replace(batch_stats=unflatten_dict(stats))
