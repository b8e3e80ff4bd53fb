"""Empty, short and odd inputs of the functions on arrays: an answer, or a sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import some_generator

from dcgan_jax import InputError, create_state, decode, sample, slerp, train_step

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def params():
    return some_generator(width=4, image_size=16)


def test_no_latents_give_no_images(params):
    images = decode(params, np.zeros((0, 8), np.float32))
    assert images.shape == (0, 16, 16, 3) and images.dtype == jnp.float32


def test_lists_and_other_numbers_are_taken(params):
    z = np.random.default_rng(0).normal(size=(2, 8)).round(1)
    np.testing.assert_array_equal(decode(params, z.tolist()), decode(params, z.astype(np.float32)))
    np.testing.assert_array_equal(decode(params, np.ones((1, 8), int)), decode(params, np.ones((1, 8), np.float32)))
    np.testing.assert_array_equal(sample(params, KEY, np.int64(2)), sample(params, KEY, 2))


def test_the_way_from_zero_is_straight():
    b = np.array([3.0, 4.0], np.float32)
    way = slerp(np.zeros(2), b, [0, 0.25, 1])
    np.testing.assert_allclose(way, [[0, 0], [0.75, 1], [3, 4]], atol=1e-5)
    np.testing.assert_allclose(slerp(b, np.zeros(2), [0, 0.75, 1]), [[3, 4], [0.75, 1], [0, 0]], atol=1e-5)
    np.testing.assert_array_equal(slerp(np.zeros(2), np.zeros(2), [0, 0.5]), np.zeros((2, 2)))
    assert slerp(b, b, []).shape == (0, 2)
    quarter = slerp([1.0, 0.0], [0.0, 1.0], 0.5)
    np.testing.assert_allclose(quarter, [[np.sqrt(0.5)] * 2], atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: decode(p, "z"), "z must be an array of numbers, not 'z'"),
        (lambda p: decode(p, [[1.0], [1.0, 2.0]]), "z must be an array of numbers"),
        (lambda p: decode(p, np.zeros((1, 8), complex)), "z must be an array of numbers"),
        (lambda p: decode(p, None), "z must be an array of numbers, not None"),
        (lambda p: decode(p, np.zeros(8)), r"z must be of the shape \(N, 8\), not \(8,\)"),
        (lambda p: decode(p, []), r"z must be of the shape \(N, 8\), not \(0,\)"),
        (lambda p: sample(p, KEY, 2.0), "num 2.0 must be a whole number"),
        (lambda p: sample(p, KEY, "2"), "num '2' must be a whole number"),
        (lambda p: sample(p, KEY, True), "num True must be a whole number"),
        (lambda p: sample(p, KEY, 2, start=0.5), "start 0.5 must be a whole number"),
        (lambda p: slerp([1.0, 2.0], [1.0], 0.5), r"of one shape \(..., latent_dim\), not \(2,\) and \(1,\)"),
        (lambda p: slerp(1.0, 2.0, 0.5), "of one shape"),
        (lambda p: slerp([1.0], [1.0], "t"), "t must be an array of numbers"),
    ],
)
def test_others_are_refused(params, call, message):
    with pytest.raises(InputError, match=message):
        call(params)


def test_a_step_of_no_images_or_a_list_is_refused(tiny):
    state = create_state(tiny)
    with pytest.raises(InputError, match=r"shape \(batch, \*\(16, 16, 3\)\), not \(0, 16, 16, 3\)"):
        train_step(state, np.zeros((0, 16, 16, 3), np.uint8), KEY)
    with pytest.raises(InputError, match="images must be an array, not"):
        train_step(state, [[0]], KEY)
