"""Decode any picture to an image of the run's shape, of 8 or 16 bits, with bounded memory and time."""

import contextlib
import ctypes
import io
import platform
import re
import struct
import threading
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dcgan_jax.config import Config, has_alpha
from dcgan_jax.data import depth, planes
from dcgan_jax.data.colour import to_srgb
from dcgan_jax.data.planes import Planes
from dcgan_jax.system.disk import mib

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "TGA", "JPEG2000")
"""The formats that are decoded, whatever the file is called: Pillow would run Ghostscript on an EPS file named .png."""
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's names of pictures with so many channels."""
FILE_LIMIT = 128 << 20
"""Most bytes that the file of one picture may have."""
MEMORY_LIMIT = 400 << 20
"""Most bytes that decoding one picture may take."""
SIDE_LIMIT = 65_535
"""Most pixels along one side: a resize takes 16 bytes of coefficients for each."""
SCAN_LIMIT = 10**9
"""Most scans of a JPEG times its pixels, which take a few seconds. A usual file has at most ten scans."""
SLOW_LIMIT = 4_000_000
"""Most pixels of a picture that Pillow decodes in Python, which take a few seconds."""

SHARE = 128 << 20  # bytes that each worker may take at any time; pictures that need more are decoded one by one
_alone = threading.RLock()
# Bytes for each pixel, measured: the decoder's buffers, the picture, and a rotated or premultiplied copy.
_PER_PIXEL = {"PNG": 9.5, "GIF": 9.5, "TIFF": 13, "WEBP": 20, "AVIF": 20, "JPEG2000": 25}
_PER_PIXEL_OTHERS = 8.5
_PER_PIXEL_SCANS = 8  # more, for a JPEG of several scans: all its coefficients are held
_PER_PIXEL_PROFILE = 5  # more, for a colour profile of a picture that is not plain RGB
_PER_PIXEL_WIDE = 30  # more, for 16-bit colours that are read twice
_SLOW = ("bmp_rle", "ppm", "ppm_plain")  # Pillow's names of what it decodes in Python
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # neither a stuffed zero nor a restart


class Picture(NamedTuple):
    """A decoded picture, and what is to be known of it.

    Attributes:
      square: uint8 (H, W, C), of ``Config.image_shape``, its colours as in files; 0 where alpha is 0. uint16 where 8
        bits would lose something, and they are wanted.
      transparent: whether a ground is seen through some of its pixels.
      values: its lowest and highest value, if they are wider than 8 bits and integers.
      problem: why its colour profile was ignored.
      floating: whether its values were floating-point numbers.
      several: whether the file holds more pages or frames than this one, the first.
    """

    square: np.ndarray
    transparent: bool
    values: depth.Values | None
    problem: str | None
    floating: bool = False
    several: bool = False


def read_square(content: bytes | np.ndarray | Planes, config: Config) -> np.ndarray:
    """The ``square`` of ``read_picture``."""
    return read_picture(content, config).square


def read_picture(content: bytes | np.ndarray | Planes, config: Config) -> Picture:
    """Make ``square`` of a picture's file, of its pixels as (H, W) or (H, W, 3), uint8 also (H, W, 4), or of planes.

    Raises:
      ValueError: it is not a picture of a known format, needs too much memory or time, or has values whose range is
        not defined. On bad bytes decoders raise other exceptions, too.
    """
    if isinstance(content, Planes):
        levels, values = planes.levels(content, config)
        if has_alpha(config.channels):
            levels = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
        return _picture(levels, values, config)._replace(floating=content.values.dtype.kind == "f")
    if isinstance(content, np.ndarray):
        floating = content.dtype.kind == "f"
        deep = planes.bits(config) != "8"
        return _picture(*depth.of_array(content, config.range, deep), config)._replace(floating=floating)

    def opened():
        return Image.open(io.BytesIO(content), formats=FORMATS)

    try:
        with (
            _room(2 * len(content)),
            opened() as image,
            _room(2 * len(content) + _memory(image, content, config)),
        ):
            floating, deep = image.mode == "F", planes.bits(config) != "8"
            picture = _picture(*depth.eight_bits(image, config.range, opened, deep), config)
            return picture._replace(floating=floating, several=_has_several(image))
    except UnidentifiedImageError:
        raise ValueError("not a picture of a known format") from None


def _has_several(image: Image.Image) -> bool:
    """Whether a file that has been read holds other pages or frames, too; the previews beside a JPEG do not count."""
    if image.format == "MPO":
        return False
    try:
        return getattr(image, "is_animated", False)
    except (IndexError, struct.error):  # of a GIF that ends within the head of its second frame
        return True


def check_size(size: int) -> None:
    """Refuse a file of ``size`` bytes before it is read.

    Raises:
      ValueError: it is too large.
    """
    if size > FILE_LIMIT:
        raise ValueError(f"a file of {mib(size)}, more than {mib(FILE_LIMIT)}")


@contextlib.contextmanager
def _room(need: int):
    """Let pictures that need more than a worker's share be decoded one by one."""
    if need <= SHARE:
        yield
        return
    with _alone:
        try:
            yield
        finally:
            if platform.libc_ver()[0] == "glibc":  # which keeps freed memory for the thread that freed it
                ctypes.CDLL(None).malloc_trim(0)


def _memory(image, content: bytes, config: Config) -> int:
    """Estimate the bytes that decoding takes. A large JPEG is set to be decoded at a fraction of its size.

    Raises:
      ValueError: decoding would take too much memory or too long.
    """
    size, pixels, need = f"{image.width} x {image.height} pixels", image.width * image.height, 0
    if image.format in ("JPEG", "MPO"):
        if (scans := _scans(content)) > 1:
            need = _PER_PIXEL_SCANS * pixels
            if scans * pixels > SCAN_LIMIT:
                raise ValueError(f"{scans} scans of {size} would take too long")
        height, width, _ = config.image_shape
        image.draft(None, (2 * width, 2 * height))
        pixels = image.width * image.height
    if image.format == "TIFF":
        pixels = max(pixels, image.tag_v2.get(322, 0) * image.tag_v2.get(323, 0))  # TileWidth and TileLength
    need += int(pixels * _PER_PIXEL.get(image.format, _PER_PIXEL_OTHERS))
    if image.mode != "RGB" and image.info.get("icc_profile"):
        need += _PER_PIXEL_PROFILE * pixels
    if depth.is_wide(image, config.range, planes.bits(config) != "8"):
        need += _PER_PIXEL_WIDE * pixels
    if image.tile and image.tile[0].codec_name in _SLOW and pixels > SLOW_LIMIT:
        raise ValueError(f"{size} in a format that is slow to decode, more than {SLOW_LIMIT}")
    if need > MEMORY_LIMIT:
        raise ValueError(f"{size} would take {mib(need)} to decode, more than {mib(MEMORY_LIMIT)}")
    if max(image.size) > SIDE_LIMIT:
        raise ValueError(f"{size}, more than {SIDE_LIMIT} along one side")
    return need


def _scans(content: bytes) -> int:
    """How many scans a JPEG holds before its end marker."""
    at, scans = 2, 0
    while (marker := _MARKER.search(content, at)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        at = marker.end()
        if marker[1] > b"\xbf" and marker[1] != b"\xd8":  # a segment, which begins with its length
            at += int.from_bytes(content[at : at + 2], "big")
    return scans


def to_square(image: Image.Image, config: Config) -> np.ndarray:
    """Convert any picture to uint8 (H, W, C) of ``config.image_shape``, as ``config.resize`` says.

    EXIF orientation is applied, colours become sRGB, transparent pixels show the background unless ``config.channels``
    has alpha, wider values are scaled to 8 bits as ``config.range`` says, palettes and CMYK become RGB. Colours of
    transparent pixels have no part in those around them: pictures are resized premultiplied.

    Raises:
      ValueError: the values have no defined range, as floating-point ones.
    """
    return _picture(*depth.eight_bits(image, config.range), config).square


def _picture(image: Image.Image | np.ndarray, values: depth.Values | None, config: Config) -> Picture:
    if isinstance(image, np.ndarray):
        return Picture(planes.resized(image, config), False, values, None)
    image, problem = to_srgb(image)
    height, width, channels = config.image_shape
    mode, clear, alpha = MODES[channels], image.has_transparency_data, has_alpha(channels)
    if image.mode != (wanted := "RGBA" if clear else mode.removesuffix("A")):
        image = image.convert(wanted)
    size, filtering = (width, height), Image.Resampling.BILINEAR  # antialiased when shrinking
    if config.resize == "crop":
        image = ImageOps.fit(image, size, filtering)
    elif config.resize == "squash":
        image = image.resize(size, filtering)
    else:
        scale = max(image.width * height, image.height * width)  # of the longer side, beside that of the frame
        longest = height * width
        image = image.resize([max(1, round(longest * side / scale)) for side in image.size], filtering)
    clear = clear and image.getchannel("A").getextrema() != (255, 255)
    if image.size != size:
        image = planes.padded(image, size, "#0000" if alpha else config.background)
    if image.mode == "RGBA" and not alpha:
        image = Image.alpha_composite(Image.new("RGBA", size, config.background), image)
    pixels = np.array(image.convert(mode)).reshape(config.image_shape)
    if alpha:
        pixels[pixels[..., -1] == 0] = 0
    return Picture(pixels, clear, values, problem)
