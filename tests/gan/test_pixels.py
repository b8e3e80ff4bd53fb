import jax
import numpy as np
import pytest
from PIL import Image

from dcgan_jax.gan.pixels import from_uint8, on_ground, opaque, to_uint8


def test_from_uint8_is_the_chapters_normalisation_bit_for_bit():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(from_uint8(pixels), pixels.astype(np.float32) / 127.5 - 1)
    np.testing.assert_array_equal(to_uint8(from_uint8(pixels)), pixels)
    on_device = jax.jit(from_uint8)(pixels.reshape(2, 128))
    assert on_device.dtype == np.float32
    np.testing.assert_array_equal(on_device, from_uint8(pixels).reshape(2, 128))


def test_to_uint8_rounds_and_clips():
    assert to_uint8(np.array([-1, -0.999, 0, 0.999, 1, 7])).tolist() == [0, 0, 128, 255, 255, 255]


@pytest.fixture(scope="module")
def translucent():
    """Every colour under every alpha, uint8 (256, 256, 4)."""
    alpha, colour = np.mgrid[:256, :256].astype(np.uint8)
    return np.stack([colour, 255 - colour, colour // 2, alpha], axis=-1)


@pytest.mark.parametrize("channels", [[0, 1, 2, 3], [0, 3]], ids=["RGBA", "LA"])
def test_colours_are_premultiplied_for_networks_and_as_they_were_in_files(translucent, channels):
    pixels = translucent[..., channels]
    floats = from_uint8(pixels)
    if len(channels) == 4:
        premultiplied = np.asarray(Image.fromarray(pixels).convert("RGBa"))
        assert np.abs((floats + 1) * 127.5 - premultiplied).max() <= 0.501
    np.testing.assert_array_equal(to_uint8(floats), np.where(pixels[..., -1:] == 0, 0, pixels))
    np.testing.assert_array_equal(jax.jit(from_uint8)(pixels), floats)


def test_what_lies_under_alpha_0_does_not_matter(translucent):
    assert (from_uint8(translucent)[0] == -1).all()
    drawn = np.float32([[0.3, -0.2, 1, -0.999], [0.5, 0, -1, -0.9], [1.2, -1.1, 0, 1.5]])  # of a generator
    assert to_uint8(drawn)[0].tolist() == [0, 0, 0, 0]
    assert to_uint8(drawn)[1].tolist() == [255, 255, 0, 13]  # more than all the light there is
    assert to_uint8(drawn)[2].tolist() == [255, 0, 128, 255]


@pytest.mark.parametrize(("ground", "colour"), [(-1.0, "black"), (1.0, "white"), (0.2, (153, 153, 153))])
def test_images_lie_on_a_ground_as_pillow_lays_them(translucent, ground, colour):
    wanted = Image.alpha_composite(Image.new("RGBA", (256, 256), colour), Image.fromarray(translucent)).convert("RGB")
    assert np.abs(opaque(translucent, ground).astype(int) - np.asarray(wanted)).max() <= 1
    floats = jax.jit(on_ground)(from_uint8(translucent), ground)
    assert np.abs((floats + 1) * 127.5 - np.asarray(wanted)).max() <= 1
    assert opaque(translucent[..., :3]) is not None and (opaque(translucent[..., :3]) == translucent[..., :3]).all()
