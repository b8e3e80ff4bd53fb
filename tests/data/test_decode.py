import io

import numpy as np
import pytest
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data import decode, depth
from dcgan_jax.data.decode import to_square
from dcgan_jax.data.depth import eight_bits


def one(image, channels=3):
    """The value of a picture of one colour."""
    square = to_square(image, Config(image_size=16, channels=channels))
    assert square.shape == (16, 16, channels) and square.dtype == np.uint8
    assert (square == square[0, 0]).all()
    return tuple(map(int, square[0, 0]))


def test_every_mode_converts_to_what_a_viewer_shows():
    assert one(Image.new("RGB", (8, 6), (10, 20, 30))) == (10, 20, 30)
    assert one(Image.new("L", (8, 6), 77)) == (77, 77, 77)
    assert one(Image.new("1", (8, 6), 1)) == (255, 255, 255)
    assert one(Image.new("CMYK", (8, 6), (0, 255, 255, 0))) == (255, 0, 0)
    assert one(Image.fromarray(np.full((6, 8), 65535, np.uint16))) == (255, 255, 255)
    assert one(Image.fromarray(np.full((6, 8), 257 * 100, np.uint16))) == (100, 100, 100)
    palette = Image.new("P", (8, 6), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert one(palette) == (200, 100, 50)


def test_transparency_is_laid_over_the_background():
    clear_black = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    assert one(clear_black) == (255, 255, 255)
    assert tuple(to_square(clear_black, Config(image_size=16, background="#102030"))[0, 0]) == (16, 32, 48)
    assert one(Image.new("LA", (8, 6), (0, 0))) == (255, 255, 255)
    half = one(Image.new("RGBA", (8, 6), (0, 0, 0, 128)))
    assert half == (127, 127, 127)
    palette = Image.new("P", (8, 6), 0)
    palette.putpalette([9, 9, 9])
    palette.info["transparency"] = 0
    assert one(palette) == (255, 255, 255)


def test_grayscale_is_luma():
    assert one(Image.new("RGB", (8, 6), (255, 0, 0)), channels=1) == (76,)  # ITU-R 601: 0.299


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (16, 8), "white")
    image.paste("black", (0, 0, 8, 8))  # black left, white right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise: black on top
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        square = to_square(turned, Config(image_size=16, channels=1))[..., 0]
    assert (square[0] == 0).all() and (square[-1] == 255).all()


def test_floating_point_pixels_are_refused():
    with pytest.raises(ValueError, match="no defined range"):
        to_square(Image.new("F", (4, 4)), Config(image_size=16))


def test_pictures_that_are_not_square():
    image = Image.new("RGB", (64, 32), "blue")
    image.paste("red", (0, 0, 16, 32))  # the left quarter

    def square(way):
        return to_square(image, Config(image_size=16, resize=way, background="lime"))

    assert (square("crop")[:, 1:] == (0, 0, 255)).all()  # the quarters at both ends are cut off
    squashed, padded = square("squash"), square("pad")
    assert (squashed[:, :3] == (255, 0, 0)).all() and (squashed[:, 5:] == (0, 0, 255)).all()
    assert (padded[:4] == (0, 255, 0)).all() and (padded[12:] == (0, 255, 0)).all()
    assert (padded[4:12] == squashed[4:12]).all()


@pytest.mark.parametrize("way", ["crop", "squash", "pad"])
@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (3, 2), (16, 16), (17, 16)])
def test_every_shape_gives_a_square_of_its_colour(way, size):
    square = to_square(Image.new("RGBA", size, (255, 0, 0, 255)), Config(image_size=16, resize=way, background="red"))
    assert square.shape == (16, 16, 3) and (square == (255, 0, 0)).all()


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(monkeypatch):
    out, decoded = io.BytesIO(), []
    image = Image.new("RGB", (1600, 800), "blue")
    image.paste("red", (0, 0, 800, 800))
    image.save(out, "JPEG", quality=95)
    whole = to_square(image, Config(image_size=16)).astype(int)
    monkeypatch.setattr(
        depth, "eight_bits", lambda image, *args: (decoded.append(image.size), eight_bits(image, *args))[1]
    )
    assert abs(decode.read_square(out.getvalue(), Config(image_size=16)) - whole).max() < 6
    assert decoded == [(200, 100)]


def test_transparency_is_kept_where_channels_have_alpha():
    assert one(Image.new("RGBA", (16, 16), (10, 20, 30, 3)), channels=4) == (10, 20, 30, 3)
    assert one(Image.new("RGBA", (8, 6), (40, 20, 60, 204)), channels=4) == (40, 20, 60, 204)
    assert one(Image.new("RGBA", (8, 6), (10, 20, 30, 0)), channels=4) == (0, 0, 0, 0)  # nothing is nothing
    assert one(Image.new("RGB", (8, 6), (10, 20, 30)), channels=4) == (10, 20, 30, 255)
    assert one(Image.new("L", (8, 6), 77), channels=4) == (77, 77, 77, 255)
    assert one(Image.new("LA", (16, 16), (77, 9)), channels=2) == (77, 9)
    assert one(Image.new("RGBA", (16, 16), (255, 0, 0, 200)), channels=2) == (76, 200)
    assert one(Image.new("1", (8, 6), 1), channels=2) == (255, 255)
    key = Image.new("RGB", (8, 6), (1, 2, 3))
    key.info["transparency"] = (1, 2, 3)
    assert one(key, channels=4) == (0, 0, 0, 0)


@pytest.mark.parametrize("way", ["crop", "squash", "pad"])
@pytest.mark.parametrize("side", [64, 16, 9])
def test_the_colour_under_transparent_pixels_gives_no_halo(way, side):
    """Red on nothing, with green where nothing is seen: made smaller or larger, all that is seen is red."""
    image = Image.new("RGBA", (side, side + side // 3), (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), (side // 4, side // 3, side // 4 + side // 2, side))
    square = to_square(image, Config(image_size=16, channels=4, resize=way))
    seen = square[..., 3] > 0
    assert (square[seen][:, :3] == (255, 0, 0)).all() and (square[~seen] == 0).all()
    assert 20 < (square[..., 3] == 255).sum() < 150
    if way == "pad":
        assert (square[:, 0] == 0).all() and (square[:, -1] == 0).all()
