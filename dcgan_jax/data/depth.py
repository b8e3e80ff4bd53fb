"""Pictures with more than eight bits a value: which of their values are black and white."""

import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

Range = tuple[float, float]
FULL = (0.0, 65535.0)
"""What 16 bits hold."""
_DARK = 16
"""A set that uses less than this part of its range gets a notice."""
_STRIP = 64  # rows that are computed at a time, in float64
# Pillow keeps the high byte of 16-bit colours. Read with the other byte order, it is the low one.
_LOW_BYTE = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}


class Values(NamedTuple):
    """The lowest and the highest value of a picture, or of ``count`` of them, and what their files show as black and
    white."""

    low: float
    high: float
    black: float
    white: float
    count: float = 1

    def merged(self, other: "Values | None") -> "Values":
        """The two together, which mean the same by black and white."""
        if other is None:
            return self
        low, high = min(self.low, other.low), max(self.high, other.high)
        return self._replace(low=low, high=high, count=self.count + other.count)


def notices(seen: Iterable[Values], name: str, stated: Range | None) -> list[str]:
    """Lines on the values of a set: pictures that are almost of one brightness, and a stated range without effect."""
    if stated:
        return _about_stated(list(seen), name, stated)
    lines = []
    for low, high, black, white, count in seen:
        top = max(black, white)
        if low < high < (top + 1) / _DARK:
            most = 2 ** int(high).bit_length() - 1
            range_, dark = (f"0 {most}", "black") if black < white else (f"{most} 0", "white")
            lines.append(
                f"pictures of more than 8 bits a value in {name}: {count:g}, with values from {low:g} to {high:g} of 0 "
                f"to {top:g}, so that they are almost {dark}: to say which values are black and white, give --range "
                f"{range_}"
            )
    return lines


def _about_stated(seen: list[Values], name: str, stated: Range) -> list[str]:
    if not seen:
        return [f"no picture in {name} has more than 8 bits a value: --range changes nothing"]
    low, high = min(one.low for one in seen), max(one.high for one in seen)
    if min(stated) <= low and high <= max(stated):
        return []
    ends = "{:g} {:g}".format(*stated)
    return [f"values in {name} go from {low:g} to {high:g}: what lies beyond --range {ends} is cut off"]


def stretched(values: np.ndarray, black: float, white: float, *, top: int = 255) -> np.ndarray:
    """Numbers of any type to uint8, or uint16 if ``top`` is 65535, of the same shape: ``black`` becomes 0, ``white``
    the largest number, and what is beyond as these.

    Raises:
      ValueError: a value is not finite.
    """
    scaled = np.empty(values.shape, np.uint8 if top == 255 else np.uint16)
    for start in range(0, len(values), _STRIP):
        part = values[start : start + _STRIP].astype(np.float64)
        if not np.isfinite(part).all():
            raise ValueError("a pixel is infinite or not a number")
        part = (part - black) * (top / (white - black))
        scaled[start : start + _STRIP] = np.clip(np.rint(part, out=part), 0, top, out=part)
    return scaled


def _tile(image):
    return next(iter(getattr(image, "tile", ())), None)


def rawmode(image: Image.Image) -> str:
    """Pillow's name of how the pixels lie in the file, or an empty string. Only before they are loaded."""
    tile = _tile(image)
    args = tile.args if tile else ""
    args = args[0] if isinstance(args, tuple) and args else args
    return args if isinstance(args, str) else ""


def is_wide(image: Image.Image, stated: Range | None, deep: bool = False) -> bool:
    """Whether ``eight_bits`` reads a picture twice: Pillow halves the values of colours of 16 bits."""
    return ";16" in rawmode(image) and image.mode[0] != "I" and bool(deep or stated or "transparency" in image.info)


def eight_bits(
    image: Image.Image,
    stated: Range | None,
    again: Callable[[], Image.Image] | None = None,
    deep: bool = False,
) -> tuple[Image.Image | np.ndarray, Values | None]:
    """Turn a picture upright, as its EXIF says, and make its values 8 bits wide, if they are wider.

    Args:
      stated: the values that become black and white; by default what the file means by them.
      again: opens the file once more.
      deep: make of values of which 8 bits would lose something uint16 (H, W, 1 or 3) instead, from 0 to 65535. Pictures
        with transparency or a colour profile get 8 bits all the same.

    Raises:
      ValueError: the values have no defined range, or cannot be read.
    """
    raw, tiff = rawmode(image), getattr(image, "tag_v2", {})
    if tiff.get(284) == 2 and max(tiff.get(258, (8,))) > 8:  # PlanarConfiguration, BitsPerSample: read as 8 bits
        raise ValueError("16-bit colours in separate planes, which are not supported")
    twice = again is not None and is_wide(image, stated, deep)
    deep = deep and not image.info.get("icc_profile")
    key, tile = image.info.get("transparency"), _tile(image)
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        full = (0.0, 4095.0) if raw == "I;12" else FULL
        top = 65535  # to which Pillow scales PGM files
        if tile and tile.codec_name.startswith("ppm") and isinstance(tile.args, tuple):
            top = tile.args[1]
        stated = stated and (stated[0] * 65535 / top, stated[1] * 65535 / top)
        full = full[::-1] if tiff.get(262) == 0 else full  # PhotometricInterpretation: WhiteIsZero
        picture, values = _gray(image, key, full, stated, deep)
        return picture, values._replace(**{name: getattr(values, name) * top / 65535 for name in Values._fields[:4]})
    if ";16" not in raw:
        return image, None
    tops = np.asarray(image.getextrema())[: 1 if raw.startswith("LA") else 3]
    values = Values(256.0 * tops.min(), 256.0 * tops.max() + 255, *FULL)
    return (_wide(image, raw, key, stated or FULL, again, deep) if twice and again else image), values


def of_array(
    array: np.ndarray, stated: Range | None, deep: bool = False
) -> tuple[Image.Image | np.ndarray, Values | None]:
    """Pixels of any type of numbers, (H, W) or (H, W, 3), as ``eight_bits`` does it.

    Raises:
      ValueError: the values have no defined range.
    """
    if array.dtype == np.uint8:
        return Image.fromarray(array), None
    values = _checked(array, FULL, stated)
    if (levels := _levels(array, stated or FULL, deep)) is not None:
        return levels, values
    return Image.fromarray(stretched(array, *(stated or FULL))), values


def _checked(array, full, stated):
    if array.dtype.kind == "f" and not stated:
        raise ValueError("floating-point pixels have no defined range: state it with --range LOW HIGH")
    low, high = float(array.min()), float(array.max())
    if not stated and (low < FULL[0] or high > FULL[1]):
        raise ValueError(f"values from {low:.10g} to {high:.10g}, beyond 0 to 65535: state them with --range LOW HIGH")
    return Values(low, high, *full)


def _levels(values, ends, deep):
    """uint16 (H, W, C), if 8 bits would lose something of these values; else None."""
    if not deep or (values.dtype.kind in "iu" and abs(ends[1] - ends[0]) <= 255):
        return None
    levels = stretched(values, *ends, top=65535)
    return levels.reshape(*levels.shape[:2], -1) if (levels % 257).any() else None


def _gray(image, key, full, stated, deep):
    array = np.asarray(image)
    values = _checked(array, full, stated)
    if key is None and (levels := _levels(array, stated or full, deep)) is not None:
        return levels, values
    gray = Image.fromarray(stretched(array, *(stated or full)))
    if key is not None:
        gray.putalpha(Image.fromarray(np.where(array == key, 0, 255).astype(np.uint8)))
    if profile := image.info.get("icc_profile"):
        gray.info["icc_profile"] = profile
    return gray, values


def _wide(image, raw, key, stated, again, deep):
    """A picture of 16-bit colours, from its high bytes and its low ones."""
    if raw == "LA;16B":
        bytes_ = np.asarray(_read(again, "RGBA")).astype(np.uint16)
        colours, clear = bytes_[..., 0] << 8 | bytes_[..., 1], bytes_[..., 2].astype(np.uint8)
    else:
        kind, _, order = raw.partition(";")
        if kind not in ("RGB", "RGBA", "RGBX"):
            raise ValueError(f"--range does not apply to pictures of the kind {raw}")
        low = np.asarray(_read(again, f"{kind};{_LOW_BYTE[order]}"))[..., :3]
        pixels = np.asarray(image)
        colours = pixels[..., :3].astype(np.uint16) << 8 | low
        clear = pixels[..., 3] if kind == "RGBA" else None
        if key is not None:
            clear = np.where((colours == np.asarray(key)).all(-1), 0, 255).astype(np.uint8)
    levels = _levels(colours, stated, deep)
    if levels is not None and (clear is None or clear.min() == 255):
        return levels
    narrow = Image.fromarray(stretched(colours, *stated))
    if clear is not None:
        narrow.putalpha(Image.fromarray(clear))
    if profile := image.info.get("icc_profile"):
        narrow.info["icc_profile"] = profile
    return narrow


def _read(again, raw):
    with again() as image:
        image.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in image.tile
        ]
        ImageOps.exif_transpose(image, in_place=True)
        return image.copy()
