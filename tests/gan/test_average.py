"""The running average of the generator's weights, and the statistics that are computed for it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import equal

from dcgan_jax import InputError, create_state, decode, generator_params, sample, train_step
from dcgan_jax.config import Config

KEY = jax.random.key(0)


def trained(config, steps):
    """The state after some steps, and the generator's weights after each of them, as NumPy arrays."""
    images = jax.random.uniform(KEY, (config.batch_size, 16, 16, 3), minval=-1)
    state, weights = create_state(config), []
    for _ in range(steps):
        state, _ = train_step(state, images, KEY)
        weights.append(jax.tree.map(np.array, state.generator.params))
    return state, weights


def test_the_average_halves_the_old_weights_after_a_half_life(tiny):
    """By hand: half-lives of 0.05 of the images seen, 12 at most; 4 images a step."""
    state = create_state(dataclasses.replace(tiny, ema_half_life=12))
    state = state.replace(step=jnp.int32(98))  # of 396 images seen, 0.05 is more than 12
    start = jax.tree.map(np.array, state.ema)
    images = jax.random.uniform(KEY, (4, 16, 16, 3), minval=-1)
    for _ in range(3):
        state, _ = train_step(state, images, KEY)
        decay = 0.5 ** (4 / 12)
        start = jax.tree.map(lambda old, new: decay * old + (1 - decay) * np.array(new), start, state.generator.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, start)


def test_a_young_average_forgets_the_first_weights(tiny):
    config = dataclasses.replace(tiny, ema_half_life=1e9)
    state, weights = trained(config, 3)
    expected = jax.tree.map(np.array, create_state(config).ema)
    for step, new in enumerate(weights, 1):
        decay = 0.5 ** (4 / (0.05 * 4 * step))
        expected = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, expected, new)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, expected)


def test_without_a_half_life_it_is_the_newest_weights(tiny):
    state, _ = trained(dataclasses.replace(tiny, ema_half_life=0), 2)
    assert equal(state.ema, state.generator.params)
    with pytest.raises(InputError, match="ema_half_life -1.0 must be at least 0"):
        Config(ema_half_life=-1)


def test_the_statistics_are_those_of_all_latents_together(tiny):
    """The first BatchNorm sees z times a kernel, which NumPy computes too: the spread between batches counts."""
    state, _ = trained(tiny, 3)
    params = generator_params(state, num=40)
    kernel = np.array(state.ema["GeneratorBlock_0"]["ConvTranspose_0"]["kernel"], np.float64)
    z = np.concatenate([state.latent.draw(jax.random.fold_in(KEY, i), tiny.batch_size) for i in range(10)])
    seen = np.einsum("bi,hwoi->bhwo", z.astype(np.float64), kernel).reshape(-1, kernel.shape[2])
    found = params.batch_stats["GeneratorBlock_0"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], seen.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], seen.var(0), rtol=1e-4)
    assert equal(params.params, state.ema)


@pytest.mark.slow
def test_many_latents_are_normalised(tiny):
    """With statistics of the averaged weights, inference looks like a batch in training mode."""
    state, _ = trained(dataclasses.replace(tiny, batch_size=64), 3)
    params = generator_params(state)
    z = state.latent.draw(jax.random.key(5), 4096)
    variables = {"params": params.params, "batch_stats": params.batch_stats}
    own, _ = params.generator.apply(variables, z, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(decode(params, z).std(), own.std(), rtol=0.02)
    raw = generator_params(state, ema=False)
    assert equal(raw.params, state.generator.params) and equal(raw.batch_stats, state.generator.batch_stats)


class Slow(nn.Module):
    """A generator whose BatchNorm has another momentum."""

    momentum: float

    @nn.compact
    def __call__(self, z, *, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum)(nn.Dense(16 * 16 * 3)(z))
        return jnp.tanh(x).reshape(-1, 16, 16, 3)


def test_the_momentum_of_a_network_of_your_own_does_not_matter(tiny):
    found = [
        generator_params(create_state(tiny, generator=Slow(momentum)), num=64).batch_stats for momentum in (0.5, 0.99)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5), *found)
    assert sample(create_state(tiny, generator=Slow(0.5)), KEY, 2).shape == (2, 16, 16, 3)
