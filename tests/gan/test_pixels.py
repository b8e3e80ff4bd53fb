import jax
import numpy as np

from dcgan_jax.gan.pixels import from_uint8, to_uint8


def test_from_uint8_is_the_chapters_normalisation_bit_for_bit():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(from_uint8(pixels), pixels.astype(np.float32) / 127.5 - 1)
    np.testing.assert_array_equal(to_uint8(from_uint8(pixels)), pixels)
    on_device = jax.jit(from_uint8)(pixels.reshape(2, 128))
    assert on_device.dtype == np.float32
    np.testing.assert_array_equal(on_device, from_uint8(pixels).reshape(2, 128))


def test_to_uint8_rounds_and_clips():
    assert to_uint8(np.array([-1, -0.999, 0, 0.999, 1, 7])).tolist() == [0, 0, 128, 255, 255, 255]
