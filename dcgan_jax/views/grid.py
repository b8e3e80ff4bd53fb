"""Images laid out as one sheet, and PNG files."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dcgan_jax.config import Config, check_shown, has_alpha
from dcgan_jax.data.decode import MODES
from dcgan_jax.data.listing import DRAWN
from dcgan_jax.gan.pixels import rounded_to_uint8, to_uint8
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import read_bytes, replacing

_SIDE = 8192  # pixels of a grid that is read

SIDE = 4096
"""Pixels, at most, that a sheet of any number of images is wide; ``grid`` itself lays out up to 64 million pixels."""
_LIMIT = 64_000_000


def visible(images: np.ndarray, channels: Sequence[int] | None = None) -> np.ndarray:
    """Of uint8 images (..., C) what can be shown: (..., 1 or 3).

    Args:
      images: of any number of channels.
      channels: those to show as red, green and blue, or one as grey, counted from 1; by default all, or the first three
        of more than four.
    """
    if channels is not None:
        return images[..., np.subtract(channels, 1)]
    return images[..., :3] if images.shape[-1] > 4 else images


def shown_shape(config: Config) -> tuple[int, int, int]:
    """Height, width and channels of the images of a run as its pictures show them."""
    height, width, channels = config.image_shape
    return height, width, visible(np.empty((0, channels)), config.show).shape[-1]


def square_columns(count: int, shape: tuple[int, ...], padding: int = 2) -> int:
    """How many columns give as many rows, of ``count`` images (H, W, C), or of so many of them that no side of the
    sheet has more than ``SIDE`` pixels."""
    return min(math.isqrt(max(count - 1, 0)) + 1, max(1, (SIDE - padding) // (max(shape[:2]) + padding)))


def grid(images: np.ndarray, columns: int, padding: int = 2) -> np.ndarray:
    """Lay uint8 images (N, H, W, C) out row by row on white, with alpha on nothing, as ``visible`` shows them; the last
    row may be short.

    Returns:
      uint8 array (rows·(H + padding) + padding, columns·(W + padding) + padding, C).

    Raises:
      InputError: that is more than 64 million pixels.
    """
    images = visible(images)
    n, h, w, c = images.shape
    rows = -(-n // columns)
    height, width = rows * (h + padding) + padding, columns * (w + padding) + padding
    if height * width > _LIMIT:
        raise InputError(f"{n} images make a sheet of {width}x{height} pixels, which is too large: lay out fewer")
    sheet = np.full((height, width, c), 0 if has_alpha(c) else 255, np.uint8)
    for i, image in enumerate(images):
        y, x = padding + i // columns * (h + padding), padding + i % columns * (w + padding)
        sheet[y : y + h, x : x + w] = image
    return sheet


def tiles(sheet: np.ndarray, height: int, width: int, padding: int = 2) -> np.ndarray:
    """Cut what ``grid`` laid out into its images of ``height`` × ``width``; a short last row gives empty ones.

    Args:
      sheet: uint8 (H, W) or (H, W, C).

    Returns:
      uint8 (rows, columns, height, width, C).
    """
    sheet = sheet if sheet.ndim == 3 else sheet[..., None]
    cell = height + padding, width + padding
    rows, columns = ((side - padding) // one for side, one in zip(sheet.shape[:2], cell, strict=True))
    cut = sheet[padding : padding + rows * cell[0], padding : padding + columns * cell[1]]
    return cut.reshape(rows, cell[0], columns, cell[1], -1)[:, :height, :, :width].swapaxes(1, 2)


def show(images: ArrayLike, *, columns: int | None = None, channels: Sequence[int] | None = None) -> Image.Image:
    """Lay images out as one picture, which a notebook displays when it is the last line of a cell.

    Args:
      images: (N, H, W, C), floats in [-1, 1] as ``sample`` draws them, or uint8 or uint16 as a ``Store`` holds them.
      columns: by default as many as make a square.
      channels: those to show as red, green and blue, or one as grey, counted from 1; by default all, or the first three
        of more than four.

    Raises:
      InputError: they have another shape.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.shape[3]:
        raise InputError(f"images must be of the shape (N, H, W, C), not {images.shape}")
    check_shown("channels", channels, images.shape[3])
    stored = images.dtype in (np.uint8, np.uint16)
    pixels = visible(rounded_to_uint8(images) if stored else to_uint8(images), channels)
    return picture(grid(pixels, columns or math.isqrt(max(len(pixels) - 1, 0)) + 1))


def picture(pixels: np.ndarray) -> Image.Image:
    """One uint8 image (H, W, 1 to 4) as Pillow's; its colours are not premultiplied."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def read_tiles(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """Read a PNG file that ``save_png`` made of a ``grid`` of images of ``shape`` (H, W, C), cut as by ``tiles``.

    A grid of as many other channels as pictures have is converted: what a run shows may change.

    Returns:
      uint8 (rows, columns, H, W, C).

    Raises:
      InputError: it is damaged, or no such grid of such images.
      OSError: it cannot be read (see ``reading``).
    """
    content, (height, width, channels) = read_bytes(path), shape
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.mode not in MODES.values() or max(image.size) > _SIDE:
                raise ValueError(f"{image.width}x{image.height} of mode {image.mode}")
            sheet = np.asarray(image.convert(MODES[channels]))
        sides = zip(sheet.shape[:2], (height, width), strict=True)
        if any(side < size + 4 or (side - 2) % (size + 2) for side, size in sides):
            raise ValueError(f"{sheet.shape[1]}x{sheet.shape[0]} is no grid of images of {width}x{height} pixels")
    except Exception as error:  # decoders raise anything on bad bytes
        raise InputError(f"{path} is damaged ({first_line(error)}): delete it") from None
    return tiles(sheet, height, width)


def save_png(path: Path, image: np.ndarray, *, synced: bool = True) -> None:
    """Write one uint8 image (H, W, 1 to 4) as PNG; see ``replacing``."""
    info = PngInfo()
    info.add(b"tEXt", DRAWN)
    with replacing(path, synced=synced) as file:
        picture(image).save(file, "PNG", pnginfo=info)
