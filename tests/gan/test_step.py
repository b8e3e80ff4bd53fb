import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import compiled_step, train_step

KEY = jax.random.key(0)


@pytest.fixture
def images(tiny):
    return jax.random.uniform(KEY, (tiny.batch_size, 16, 16, 3), minval=-1)


def test_several_steps_are_compiled_once(tiny, images):
    state = create_state(dataclasses.replace(tiny, width=5))  # which no other test has compiled
    before = compiled_step._cache_size()
    for _ in range(4):
        state, _ = train_step(state, images, KEY)
    assert compiled_step._cache_size() == before + 1
    assert state.step == 4


def test_the_state_is_donated(tiny, images):
    state = create_state(tiny)
    train_step(state, images, KEY)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.generator.params))


def test_a_step_is_a_pure_function_and_each_step_has_noise_of_its_own(tiny, images):
    def losses(step):
        state = create_state(tiny)
        return train_step(state.replace(step=jnp.int32(step)), images, KEY)[1]

    assert jax.tree.all(jax.tree.map(np.array_equal, losses(0), losses(0)))
    assert losses(0)["D_G_z1"] != losses(1)["D_G_z1"]


def test_metrics_agree_with_their_definitions(tiny, images):
    """The losses of a discriminator whose logit is 0 everywhere are log 2, its probabilities 1/2."""
    state = create_state(tiny)
    D = state.discriminator
    blind = D.replace(params={**D.params, "kernel": jnp.zeros_like(D.params["kernel"])})
    _, metrics = train_step(state.replace(discriminator=blind), images, KEY)
    np.testing.assert_allclose(metrics["loss_D"], np.log(2), rtol=1e-6)
    assert metrics["D_x"] == metrics["D_G_z1"] == 0.5
    # G is judged by the D of after the update, whose logits are still small
    assert metrics["D_G_z2"] != 0.5
    np.testing.assert_allclose(jnp.exp(-metrics["loss_G"]), metrics["D_G_z2"], rtol=1e-3)
    assert metrics["grad_norm_D"] > 0 and metrics["grad_norm_G"] > 0


@pytest.mark.slow
def test_bf16_tracks_float32(tiny, images):
    """Losses stay within 5 % over 20 steps of a network wide enough for the bf16 products to be taken."""
    traces, states = {}, {}
    for precision in ("float32", "bf16"):
        state, trace = create_state(dataclasses.replace(tiny, width=16, precision=precision)), []
        for _ in range(20):
            state, metrics = train_step(state, images, KEY)
            trace.append((metrics["loss_D"], metrics["loss_G"]))
        traces[precision], states[precision] = np.asarray(trace), state
    np.testing.assert_allclose(traces["bf16"], traces["float32"], rtol=0.05)
    assert not np.array_equal(traces["bf16"], traces["float32"])
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(states["bf16"]))


def test_a_step_transfers_nothing(tiny, images):
    """No value crosses between host and device in the hot path once the key and the batch are there."""
    state, _ = train_step(create_state(tiny), images, KEY)
    with jax.transfer_guard("disallow"):
        train_step(state, images, KEY)
