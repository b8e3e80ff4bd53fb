"""The direction along which images become like given ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import some_generator

from dcgan_jax import InputError, decode, direction_towards, sample


class Gray(nn.Module):
    """A generator of plain pictures, whose brightness is z[1] and whose blue is z[2]."""

    @nn.compact
    def __call__(self, z, *, train):
        nn.BatchNorm(use_running_average=not train)(z)
        light = jnp.tanh(z[:, 1] * self.param("one", nn.initializers.ones, ()))
        colours = jnp.stack([light, light, jnp.tanh(z[:, 2])], axis=-1)
        return jnp.broadcast_to(colours[:, None, None], (len(z), 16, 16, 3))


@pytest.fixture(scope="module")
def gray():
    params, network = some_generator(image_size=16, width=4, latent_dim=8), Gray()
    variables = network.init(jax.random.key(0), jnp.zeros((1, 8)), train=False)
    return params.replace(generator=network, params=variables["params"], batch_stats=variables["batch_stats"])


def plain(*colours):
    return jnp.broadcast_to(jnp.asarray(colours)[:, None, None], (len(colours), 16, 16, 3))


def test_from_dark_pictures_to_light_ones_it_is_the_brightness_of_z(gray):
    for images, away_from, place in (
        (plain((0.9, 0.9, 0.0), (0.7, 0.7, 0.1)), plain((-0.9, -0.8, 0.05), (-0.7, -0.7, 0.0)), 1),
        (plain((0.0, 0.0, 0.9)), plain((0.0, 0.0, -0.9)), 2),
        (plain((0.9, 0.9, 0.0)), None, 1),
    ):
        way = np.asarray(direction_towards(gray, images, away_from))
        assert way.dtype == np.float32 and np.isclose(np.linalg.norm(way), 1)
        assert way[place] > 0.9, way


def test_samples_go_towards_the_darker_ones_as_their_brightness_does():
    """Of a network of convolutions, from its own pictures."""
    params = some_generator(image_size=16, width=8, latent_dim=16)
    pool = sample(params, jax.random.key(1), 64)
    order = np.asarray(pool.mean((1, 2, 3))).argsort()
    way = direction_towards(params, pool[order[:6]], pool[order[-6:]])
    z = params.latent.draw(jax.random.key(2), 64)
    lightness = [float(decode(params, z + a * way[None]).mean()) for a in (-3, 0, 3)]
    spread = float(pool.mean((1, 2, 3)).std())
    assert lightness[0] > lightness[1] > lightness[2] and lightness[0] - lightness[2] > 2 * spread
    back = direction_towards(params, pool[order[-6:]], pool[order[:6]])
    np.testing.assert_allclose(back, -way, atol=1e-5)


def test_what_says_no_direction_is_refused(gray):
    images = plain((0.9, 0.9, 0.0))
    for wrong, message in (
        ((images[:, :8], None), r"images must be of the shape \(N, 16, 16, 3\), N at least 1, not \(1, 8, 16, 3\)"),
        ((images[:0], None), "images must be of the shape"),
        ((images, images[0]), "away_from must be of the shape"),
        (("light", None), "images must be an array of numbers"),
        ((images, images), "give groups that differ"),
    ):
        with pytest.raises(InputError, match=message):
            direction_towards(gray, *wrong)
