"""The sizes of images that the networks draw and judge: rectangles that halve to a small map.

``image_size`` is a number for squares, such as 64, else HEIGHTxWIDTH, such as "96x64".
"""

import math
import re
from typing import Any, NamedTuple

from dcgan_jax.system.errors import InputError

ImageSize = int | str
LEAST, MOST = 16, 256
"""Pixels of a side."""
_MAP = range(3, 9)  # sides of the first map; 8 makes 64x128 one, whose sides are 4 and 8 times the same power of two


class Layout(NamedTuple):
    """How the sides of an image come about: ``height`` and ``width`` of the generator's first map, and how often it is
    doubled."""

    height: int
    width: int
    doublings: int


def sides(size: Any) -> tuple[int, int]:
    """Height and width of an ``image_size``: a number, "96x64", or two numbers.

    Raises:
      InputError: it is nothing of this kind.
    """
    if type(size) is int:
        return size, size
    if isinstance(size, str) and (text := re.fullmatch(r"\s*(\d{1,9})(?:\s*[xX×]\s*(\d{1,9}))?\s*", size)):
        return int(text[1]), int(text[2] or text[1])
    if isinstance(size, tuple | list) and len(size) == 2 and all(type(side) is int for side in size):
        height, width = size
        return height, width
    raise InputError(f"image_size {repr(size)[:40]} must be a number of pixels, or HEIGHTxWIDTH such as 96x64")


def written(height: int, width: int) -> ImageSize:
    """The ``image_size`` of these sides."""
    return height if height == width else f"{height}x{width}"


def checked(size: Any) -> ImageSize:
    """An ``image_size`` in the one way that it is written, if there is a ``layout`` of it.

    Raises:
      InputError: there is none: see ``layout``.
    """
    height, width = sides(size)
    layout(height, width)
    return written(height, width)


def layout(height: int, width: int) -> Layout:
    """The first map of images of these sides: 3 to 8 times 3 to 8 pixels, both doubled equally often.

    Where there are several, it is the one whose sides are nearest to 4, as ratios: a square of a power of two has 4x4.
    So 48x48 is 3x3 doubled four times, not 6x6 doubled three times.

    Raises:
      InputError: there is none; names the nearest sizes that have one.
    """
    layouts = _layouts(height, width) if min(height, width) >= LEAST and max(height, width) <= MOST else []
    if not layouts:
        near = _nearest(height, width, square=height == width)[:2]
        first, second = sorted(near)
        raise InputError(
            f"image_size {written(height, width)} is not supported: each side is 3 to 8 times the same power of two, "
            f"from {LEAST} to {MOST} pixels; the nearest are {written(*first)} and {written(*second)}"
        )
    return min(layouts, key=lambda one: abs(math.log(one.height / 4)) + abs(math.log(one.width / 4)))


def nearest(height: int, width: int) -> tuple[int, int]:
    """The sides that are supported and most like these. Those that are too small or too large are scaled together."""
    scale = max(1, LEAST / min(height, width))
    scale = min(scale, MOST / max(height, width))
    return _nearest(height * scale, width * scale)[0]


def _nearest(height, width, *, square=False):
    height, width = max(height, 1), max(width, 1)

    def distance(sides):  # proportions count three times as much as the number of pixels
        y, x = math.log(sides[0] / height), math.log(sides[1] / width)
        return math.hypot(y + x, 3 * (y - x))

    return sorted((sides for sides in ALL if not square or sides[0] == sides[1]), key=distance)


def _layouts(height, width):
    """All layouts of two sides."""
    divided = (Layout(height >> n, width >> n, n) for n in range(9) if not (height | width) % (1 << n))
    return [one for one in divided if one.height in _MAP and one.width in _MAP]


_SIDES = sorted({m << n for m in _MAP for n in range(9) if LEAST <= m << n <= MOST})
ALL = [(height, width) for height in _SIDES for width in _SIDES if _layouts(height, width)]
"""The heights and widths that are supported."""
