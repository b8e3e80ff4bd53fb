"""The body plans of the built-in creatures: which shapes each is made of, from behind to the front.

Lengths are in half-frames: x and y run from -1 to 1, y downwards. The numbers of a plan are drawn in the order in
which they stand here: another order would draw other pictures.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

Uniform = Callable[[float, float], float]


class Shape(NamedTuple):
    """An ellipse (x, y, radii along x and y, turn in radians) or a polygon (points), and its colour's name.

    With ``mirror`` its mirror image is drawn too.
    """

    kind: str
    numbers: Any
    colour: str
    mirror: bool


class Body(NamedTuple):
    """A creature without its face: the shapes, where its eyes are and how large, and its belly (y, radius)."""

    shapes: Sequence[Shape]
    eye_y: float
    eye_x: float
    eye: float
    belly: tuple[float, float] | None


def _ellipse(*place, colour="body", mirror=False, turn=0.0):
    return Shape("ellipse", (*place, turn), colour, mirror)


def _polygon(points, colour="body", mirror=False):
    return Shape("polygon", points, colour, mirror)


def _box(x, y, rx, ry):
    return [(x - rx, y - ry), (x + rx, y - ry), (x + rx, y + ry), (x - rx, y + ry)]


def _feet(w):
    return _ellipse(0.26 * w, 0.78, 0.19, 0.12, colour="accent", mirror=True)


def _slime(u, w, h):
    top = u(-0.62, -0.35)
    drop = [(-0.14, top + 0.2), (u(-0.1, 0.1), top - 0.22), (0.14, top + 0.2)]
    shapes = [_polygon(drop), _ellipse(0, 0.22, 0.68 * w, 0.58), _ellipse(0, 0.5, 0.78 * w, 0.34)]
    return Body(shapes, 0.15, 0.27, 0.15, None)


def _cat(u, w, h):
    ear = u(0.75, 0.95)
    shapes = [
        _polygon([(0.5, 0.7), (0.86, 0.42), (0.92, 0.02), (0.76, 0.08), (0.62, 0.4), (0.36, 0.5)], "accent"),
        _ellipse(0, 0.5, 0.42 * w, 0.38),
        _polygon([(0.12, -0.45), (0.5, -ear), (0.6, -0.1)], mirror=True),
        _ellipse(0, -0.16, 0.64 * w, 0.46 * h),
        _feet(w),
    ]
    return Body(shapes, -0.16, 0.28, 0.14, (0.5, 0.22))


def _rabbit(u, w, h):
    lean = u(-0.1, 0.35)
    shapes = [
        _ellipse(0.26, -0.62, 0.14, u(0.3, 0.38), turn=lean, mirror=True),
        _ellipse(0, 0.5, 0.44 * w, 0.36),
        _ellipse(0, 0.0, 0.54 * w, 0.44 * h),
        _feet(w),
    ]
    return Body(shapes, 0.0, 0.24, 0.13, (0.52, 0.22))


def _bear(u, w, h):
    shapes = [
        _ellipse(0.42, -0.58, u(0.18, 0.26), 0.22, mirror=True),
        _ellipse(0.55, 0.38, 0.16, 0.26, turn=-0.5, mirror=True),
        _ellipse(0, 0.42, 0.54 * w, 0.46),
        _ellipse(0, -0.2, 0.6 * w, 0.5 * h),
        _feet(w),
    ]
    return Body(shapes, -0.24, 0.24, 0.1, (0.46, 0.28))


def _bird(u, w, h):
    flap = u(-0.9, 0.5)
    shapes = [
        _polygon([(-0.12, -0.6), (-0.2, -0.95), (0.02, -0.78), (0.18, -0.94), (0.12, -0.6)], "accent"),
        _ellipse(0.72, 0.2, 0.34, 0.17, colour="accent", turn=flap, mirror=True),
        _ellipse(0, 0.1, 0.6 * w, 0.68 * h),
        _ellipse(0.2, 0.82, 0.15, 0.08, colour="warm", mirror=True),
    ]
    return Body(shapes, -0.18, 0.24, 0.15, (0.4, 0.32))


def _ghost(u, w, h):
    hem = u(0.66, 0.84)
    shapes = [
        _ellipse(0.62, 0.12, 0.2, 0.11, turn=u(-0.7, 0.5), mirror=True),
        _ellipse(0, -0.18, 0.58 * w, 0.6),
        _polygon(
            [
                (-0.58 * w, -0.16),
                (-0.64 * w, hem),
                (-0.36, 0.62),
                (-0.18, hem + 0.05),
                (0, 0.62),
                (0.18, hem + 0.05),
                (0.36, 0.62),
                (0.64 * w, hem),
                (0.58 * w, -0.16),
            ]
        ),
    ]
    return Body(shapes, -0.16, 0.22, 0.15, None)


def _mushroom(u, w, h):
    cap = u(0.44, 0.56)
    shapes = [
        _ellipse(0, 0.42, 0.4 * w, 0.46, colour="pale"),
        _ellipse(0, -0.3, 0.82 * w, cap),
        _ellipse(0.0, -0.48, 0.18, 0.13, colour="pale"),
        _ellipse(0.46, -0.26, 0.13, 0.12, colour="pale", mirror=True),
        _feet(w),
    ]
    return Body(shapes, 0.32, 0.18, 0.12, None)


def _octopus(u, w, h):
    spread = u(0.5, 0.66)
    shapes = [
        _ellipse(spread + 0.06, 0.5, 0.26, 0.14, turn=u(-0.6, 0.1), mirror=True),
        _ellipse(0.4, 0.68, 0.17, 0.22, turn=-0.3, mirror=True),
        _ellipse(0.14, 0.74, 0.15, 0.2, mirror=True),
        _ellipse(0, -0.12, 0.62 * w, 0.62 * h),
    ]
    return Body(shapes, 0.02, 0.25, 0.15, None)


def _bug(u, w, h):
    reach = u(0.2, 0.42)
    shapes = [
        _polygon([(0.1, -0.6), (reach, -0.96), (reach + 0.09, -0.9), (0.2, -0.56)], "outline", mirror=True),
        _ellipse(reach + 0.04, -0.9, 0.09, 0.09, colour="accent", mirror=True),
        _ellipse(0.66, 0.02, 0.2, 0.08, colour="accent", turn=-0.5, mirror=True),
        _ellipse(0.7, 0.34, 0.2, 0.08, colour="accent", mirror=True),
        _ellipse(0.62, 0.66, 0.2, 0.08, colour="accent", turn=0.6, mirror=True),
        _ellipse(0, 0.32, 0.6 * w, 0.56),
        _ellipse(0, -0.32, 0.46 * w, 0.36 * h),
        _polygon([(-0.022, -0.02), (0.022, -0.02), (0.022, 0.86), (-0.022, 0.86)], "outline"),
    ]
    return Body(shapes, -0.34, 0.2, 0.14, None)


def _robot(u, w, h):
    head = u(0.5, 0.64)
    shapes = [
        _polygon(_box(0, -0.78, 0.035, 0.14), "outline"),
        _ellipse(0, -0.88, 0.1, 0.1, colour="warm"),
        _ellipse(head, -0.26, 0.13, 0.17, colour="accent", mirror=True),
        _polygon(_box(0.56, 0.46, 0.1, 0.22), "accent", mirror=True),
        _polygon(_box(0.22, 0.8, 0.13, 0.1), "accent", mirror=True),
        _polygon(_box(0, 0.45, 0.42 * w, 0.3)),
        _polygon(_box(0, -0.28, head, 0.4 * h)),
    ]
    return Body(shapes, -0.3, 0.26, 0.15, (0.46, 0.14))


_PLANS: dict[str, Callable[[Uniform, float, float], Body]] = {
    "slime": _slime,
    "cat": _cat,
    "rabbit": _rabbit,
    "bear": _bear,
    "bird": _bird,
    "ghost": _ghost,
    "mushroom": _mushroom,
    "octopus": _octopus,
    "bug": _bug,
    "robot": _robot,
}
PLANS = tuple(_PLANS)
"""Names of the body plans."""


def body(plan: str, rng: np.random.Generator) -> Body:
    """A body of one of ``PLANS``, with random proportions."""
    u = rng.uniform
    w, h = u(0.9, 1.1), u(0.9, 1.1)
    return _PLANS[plan](u, w, h)
