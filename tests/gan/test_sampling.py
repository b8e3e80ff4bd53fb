import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax import sample
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import train_step
from dcgan_jax.system.errors import InputError

KEY = jax.random.key(5)


@pytest.fixture
def params(tiny):
    """Of a network with running statistics that are not the initial ones."""
    state = create_state(tiny)
    for _ in range(3):
        state, _ = train_step(state, jnp.zeros((4, 16, 16, 3)), KEY)
    return generator_params(state)


@pytest.mark.slow
def test_shapes_and_range_follow_from_the_parameters(tiny):
    for change in ({}, {"channels": 1}, {"image_size": 32, "latent_dim": 3}, {"width": 2}):
        config = dataclasses.replace(tiny, **change)
        images = sample(generator_params(create_state(config)), KEY, num=3)
        assert images.shape == (3, config.image_size, config.image_size, config.channels)
        assert images.dtype == jnp.float32 and jnp.abs(images).max() <= 1


def test_an_image_does_not_depend_on_its_neighbours(params):
    images = sample(params, KEY, num=64)
    for num in (1, 10, 65):
        some = sample(params, KEY, num=num)
        np.testing.assert_array_equal(some[: min(num, 64)], images[: min(num, 64)])
    assert len(np.unique(np.asarray(images).reshape(64, -1), axis=0)) == 64


def test_normalisation_is_by_the_running_statistics(params):
    """Doubling every running variance must change the images: batch statistics would hide it."""
    doubled = params.replace(batch_stats=jax.tree.map(lambda s: 2 * s + 1, params.batch_stats))
    assert not np.allclose(sample(params, KEY, num=2), sample(doubled, KEY, num=2), atol=1e-3)


def test_the_prior_of_the_run_is_the_prior_of_its_samples(tiny):
    normal = generator_params(create_state(tiny))
    uniform = generator_params(create_state(dataclasses.replace(tiny, latent="uniform")))
    assert not np.array_equal(sample(normal, KEY, num=2), sample(uniform, KEY, num=2))


def test_sampling_can_be_jitted_by_the_caller(params):
    np.testing.assert_allclose(
        jax.jit(lambda p, k: sample(p, k, num=3))(params, KEY), sample(params, KEY, num=3), atol=1e-6
    )


def test_none_is_refused(params):
    with pytest.raises(InputError, match="at least 1"):
        sample(params, KEY, num=0)
