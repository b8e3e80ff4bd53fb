import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from dcgan_jax import InputError
from dcgan_jax.views.grid import grid, read_tiles, save_png, show


def test_grid_and_png_keep_every_pixel(tmp_path):
    for channels in (1, 3):
        images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, channels), np.uint8)
        sheet = grid(images, columns=3, padding=1)
        assert sheet.shape == (11, 16, channels)
        np.testing.assert_array_equal(sheet[6:10, 6:10], images[4])
        np.testing.assert_array_equal(sheet[1:5, 11:15], images[2])  # the end of the first row
        assert (sheet[6:, 11:] == 255).all()  # the place that is left over
        save_png(tmp_path / "sheet.png", sheet)
        with Image.open(tmp_path / "sheet.png") as saved:
            np.testing.assert_array_equal(np.asarray(saved).reshape(sheet.shape), sheet)


@pytest.fixture
def sheet():
    """A sheet of six images of 16 pixels, three in a row."""
    return grid(np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), np.uint8), columns=3)


def test_a_sheet_is_cut_into_the_images_it_was_made_of(sheet, tmp_path):
    save_png(tmp_path / "sheet.png", sheet)
    images = read_tiles(tmp_path / "sheet.png", (16, 16, 3))
    assert images.shape == (2, 3, 16, 16, 3)
    np.testing.assert_array_equal(images[1, 2], sheet[20:36, 38:54])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_sheet_of_what_was_shown_before_becomes_what_is_shown_now(sheet, tmp_path, channels):
    save_png(tmp_path / "sheet.png", sheet[..., :channels] if channels < 4 else np.dstack([sheet, sheet[..., :1]]))
    modes = ("L", "LA", "RGB", "RGBA")
    with Image.open(tmp_path / "sheet.png") as saved:
        assert saved.mode == modes[channels - 1]
        tile = saved.crop((38, 20, 54, 36))
    for wanted, mode in enumerate(modes, 1):
        images = read_tiles(tmp_path / "sheet.png", (16, 16, wanted))
        assert images.shape == (2, 3, 16, 16, wanted)
        np.testing.assert_array_equal(images[1, 2], np.asarray(tile.convert(mode)).reshape(16, 16, wanted))


def test_images_of_16_bits_are_shown_as_those_of_8():
    pixels = np.random.default_rng(2).integers(0, 256, (4, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(show(pixels.astype(np.uint16) * 257), show(pixels))


def png(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
NO_SHEETS = {
    "1x1": lambda whole: png(Image.new("RGB", (1, 1))),
    "a pixel too wide": lambda whole: png(ImageOps.expand(whole, (0, 0, 1, 0))),
    "a pixel too low": lambda whole: png(whole.crop((0, 0, whole.width, whole.height - 1))),
    "half an image": lambda whole: png(whole.crop((0, 0, 10, 10))),
    "one row of pixels": lambda whole: png(whole.crop((0, 0, whole.width, 1))),
    "too large": lambda whole: png(Image.new("RGB", (18 * 500 + 2, 20))),
    "a bomb": lambda whole: SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)),
    "no pixels": lambda whole: SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)),
    **{mode: lambda whole, mode=mode: png(whole.convert(mode)) for mode in ("P", "1", "I;16")},
    "JPEG": lambda whole: png(whole, "JPEG"),
    "GIF": lambda whole: png(whole, "GIF"),
    "a bit": lambda whole: png(whole)[:200] + bytes([png(whole)[200] ^ 1]) + png(whole)[201:],
    **{f"{n} bytes": lambda whole, n=n: png(whole)[:n] for n in (0, 1, 8, 20, 33, 200)},
    "half": lambda whole: png(whole)[: len(png(whole)) // 2],
    "text": lambda whole: b"<html>",
}


@pytest.mark.parametrize("kind", NO_SHEETS)
def test_another_picture_is_no_sheet(sheet, tmp_path, kind):
    path = tmp_path / "sheet.png"
    path.write_bytes(NO_SHEETS[kind](Image.fromarray(sheet)))
    with pytest.raises(InputError, match=r"sheet\.png is damaged \(.+\): delete it") as error:
        read_tiles(path, (16, 16, 3))
    assert "\n" not in str(error.value)
