"""Plain gray shapes, 16x16 RGB, for what needs labelled images that are easy to tell apart."""

import numpy as np
from PIL import Image

SHAPES = ["cross", "disc", "stripes"]


def shape(kind, number):
    """One shape, uint8 (16, 16, 3), of another place, size and brightness for each number."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:16, :16] - rng.integers(6, 10, (2, 1, 1))
    size = rng.integers(3, 6)
    inside = {
        "cross": (abs(x) < 2) | (abs(y) < 2),
        "disc": x**2 + y**2 < size**2,
        "stripes": (x + y) % 6 < 3,
    }.get(kind, x > 0)
    gray = np.where(inside, rng.integers(150, 250), rng.integers(0, 60)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)


def write_shapes(root, each, kinds=SHAPES):
    """Write ``each`` of every kind as PNG into a folder of its own; returns ``root``."""
    for kind in kinds:
        (root / kind).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(shape(kind, i)).save(root / kind / f"{i}.png")
    return root
