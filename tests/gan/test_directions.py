"""The directions of z that change pictures most."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Even, some_generator

from dcgan_jax import InputError, decode, directions


@pytest.mark.parametrize(
    "modulation", [False, True]
)  # what BatchNorm gives is looked at, before each image's own scales
def test_they_are_the_singular_vectors_of_what_the_first_layer_does_to_z(modulation):
    params = some_generator(image_size=16, width=4, latent_dim=12, self_modulation=modulation)

    def first_maps(z):
        variables = {"params": params.params, "batch_stats": params.batch_stats}
        _, seen = params.generator.apply(variables, z[None], train=False, capture_intermediates=True)
        return seen["intermediates"]["GeneratorBlock_0"]["BatchNorm_0"]["__call__"][0].ravel()

    jacobian = np.asarray(jax.jacobian(first_maps)(jnp.ones(12)), np.float64)
    _, strengths, vectors = np.linalg.svd(jacobian, full_matrices=False)
    found = np.asarray(directions(params, 5))
    np.testing.assert_allclose(abs((found * vectors[:5]).sum(1)), 1, atol=1e-4)  # the same, but for the sign
    np.testing.assert_allclose(np.linalg.norm(found @ jacobian.T, axis=1), strengths[:5], rtol=1e-4)
    np.testing.assert_allclose(found @ found.T, np.eye(5), atol=1e-5)
    assert (found[np.arange(5), abs(found).argmax(1)] > 0).all()


def test_the_first_changes_pictures_more_than_the_last():
    params = some_generator(image_size=16, width=8, latent_dim=64)
    z, all_of_them = params.latent.draw(jax.random.key(0), 32), directions(params, 64)

    def change(direction):
        return float(jnp.square(decode(params, z + 3 * direction[None]) - decode(params, z)).mean())

    assert change(all_of_them[0]) > 1.2 * change(all_of_them[-1])


def test_what_has_no_such_directions_is_refused():
    params = some_generator(image_size=16, width=4, latent_dim=12)
    for num in (0, 13, True, 2.0):
        with pytest.raises(InputError, match="from 1 to 12"):
            directions(params, num)
    with pytest.raises(InputError, match="params must be"):
        directions({})
    with pytest.raises(InputError, match="built-in Generator, not of Even"):
        directions(params.replace(generator=Even()))
