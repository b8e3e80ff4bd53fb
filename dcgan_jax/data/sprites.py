"""The embedded data set: little creatures drawn by code, 64x64 RGB on a light background.

It needs no network and no file, so a first run works anywhere. Every picture is a pure function
of (seed, index). The body plan is the label; palette, proportions, pose, eyes, mouth, markings and
headgear vary independently, so that a generator's mode collapse is visible.
"""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

PLANS = ("slime", "cat", "rabbit", "bear", "bird", "ghost", "mushroom", "octopus", "bug", "robot")
"""Names of the body plans; a creature's label is an index into this."""

SIZE = 64
_SCALE = 2  # drawn larger, then averaged down: that is the anti-aliasing
_OUTLINE = 0.055  # in half-frames, as all lengths below: x and y run from -1 to 1, y downwards
_ANGLES = np.linspace(0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


class _Canvas:
    """Filled shapes under one pose (squash, lean, shift), each drawn with its mirror image."""

    def __init__(self, background, pose):
        self.image = Image.new("RGB", (SIZE * _SCALE, SIZE * _SCALE), background)
        self._draw = ImageDraw.Draw(self.image)
        self._pose, self._shift = pose

    def _fill(self, points, colour):
        pixels = (points @ self._pose + self._shift + 1) * (SIZE * _SCALE / 2)
        self._draw.polygon(pixels.ravel().tolist(), fill=colour)

    def ellipse(self, x, y, rx, ry, colour, *, turn=0.0, mirror=False):
        points = _CIRCLE * (rx, ry)
        if turn:
            c, s = math.cos(turn), math.sin(turn)
            points = points @ np.array([[c, s], [-s, c]])
        points = points + np.array((x, y))
        self._fill(points, colour)
        if mirror:
            self._fill(points * (-1, 1), colour)

    def polygon(self, points, colour, *, mirror=False):
        points = np.asarray(points, float)
        self._fill(points, colour)
        if mirror:
            self._fill(points * (-1, 1), colour)


def _rgb(hue, saturation, value):
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _grown(points, by):
    """A polygon pushed outwards from its centre, for outlines."""
    points = np.asarray(points, float)
    outward = points - points.mean(axis=0)
    return points + outward * (by / np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6))


def _silhouette(plan, rng):
    """Parts of a body plan as (kind, arguments, colour name, mirrored), back to front, and the face:
    (parts, eye height, eye distance, eye size, belly)."""
    u = rng.uniform
    ellipse = lambda *a, colour="body", mirror=False, turn=0.0: ("ellipse", (*a, turn), colour, mirror)
    polygon = lambda points, colour="body", mirror=False: ("polygon", points, colour, mirror)
    w, h = u(0.9, 1.1), u(0.9, 1.1)
    feet = ellipse(0.26 * w, 0.78, 0.19, 0.12, colour="accent", mirror=True)
    if plan == "slime":
        top = u(-0.62, -0.35)
        drop = [(-0.14, top + 0.2), (u(-0.1, 0.1), top - 0.22), (0.14, top + 0.2)]
        parts = [polygon(drop), ellipse(0, 0.22, 0.68 * w, 0.58), ellipse(0, 0.5, 0.78 * w, 0.34)]
        return parts, 0.15, 0.27, 0.15, None
    if plan == "cat":
        ear = u(0.75, 0.95)
        parts = [
            polygon([(0.5, 0.7), (0.86, 0.42), (0.92, 0.02), (0.76, 0.08), (0.62, 0.4), (0.36, 0.5)], "accent"),
            ellipse(0, 0.5, 0.42 * w, 0.38),
            polygon([(0.12, -0.45), (0.5, -ear), (0.6, -0.1)], mirror=True),
            ellipse(0, -0.16, 0.64 * w, 0.46 * h),
            feet,
        ]
        return parts, -0.16, 0.28, 0.14, (0.5, 0.22)
    if plan == "rabbit":
        lean = u(-0.1, 0.35)
        parts = [
            ellipse(0.26, -0.62, 0.14, u(0.3, 0.38), turn=lean, mirror=True),
            ellipse(0, 0.5, 0.44 * w, 0.36),
            ellipse(0, 0.0, 0.54 * w, 0.44 * h),
            feet,
        ]
        return parts, 0.0, 0.24, 0.13, (0.52, 0.22)
    if plan == "bear":
        parts = [
            ellipse(0.42, -0.58, u(0.18, 0.26), 0.22, mirror=True),
            ellipse(0.55, 0.38, 0.16, 0.26, turn=-0.5, mirror=True),
            ellipse(0, 0.42, 0.54 * w, 0.46),
            ellipse(0, -0.2, 0.6 * w, 0.5 * h),
            feet,
        ]
        return parts, -0.24, 0.24, 0.1, (0.46, 0.28)
    if plan == "bird":
        flap = u(-0.9, 0.5)
        parts = [
            polygon([(-0.12, -0.6), (-0.2, -0.95), (0.02, -0.78), (0.18, -0.94), (0.12, -0.6)], "accent"),
            ellipse(0.72, 0.2, 0.34, 0.17, colour="accent", turn=flap, mirror=True),
            ellipse(0, 0.1, 0.6 * w, 0.68 * h),
            ellipse(0.2, 0.82, 0.15, 0.08, colour="warm", mirror=True),
        ]
        return parts, -0.18, 0.24, 0.15, (0.4, 0.32)
    if plan == "ghost":
        hem = u(0.66, 0.84)
        parts = [
            ellipse(0.62, 0.12, 0.2, 0.11, turn=u(-0.7, 0.5), mirror=True),
            ellipse(0, -0.18, 0.58 * w, 0.6),
            polygon(
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
        return parts, -0.16, 0.22, 0.15, None
    if plan == "mushroom":
        cap = u(0.44, 0.56)
        parts = [
            ellipse(0, 0.42, 0.4 * w, 0.46, colour="pale"),
            ellipse(0, -0.3, 0.82 * w, cap),
            ellipse(0.0, -0.48, 0.18, 0.13, colour="pale"),
            ellipse(0.46, -0.26, 0.13, 0.12, colour="pale", mirror=True),
            feet,
        ]
        return parts, 0.32, 0.18, 0.12, None
    if plan == "octopus":
        spread = u(0.5, 0.66)
        parts = [
            ellipse(spread + 0.06, 0.5, 0.26, 0.14, turn=u(-0.6, 0.1), mirror=True),
            ellipse(0.4, 0.68, 0.17, 0.22, turn=-0.3, mirror=True),
            ellipse(0.14, 0.74, 0.15, 0.2, mirror=True),
            ellipse(0, -0.12, 0.62 * w, 0.62 * h),
        ]
        return parts, 0.02, 0.25, 0.15, None
    if plan == "bug":
        reach = u(0.2, 0.42)
        parts = [
            polygon([(0.1, -0.6), (reach, -0.96), (reach + 0.09, -0.9), (0.2, -0.56)], "outline", mirror=True),
            ellipse(reach + 0.04, -0.9, 0.09, 0.09, colour="accent", mirror=True),
            ellipse(0.66, 0.02, 0.2, 0.08, colour="accent", turn=-0.5, mirror=True),
            ellipse(0.7, 0.34, 0.2, 0.08, colour="accent", mirror=True),
            ellipse(0.62, 0.66, 0.2, 0.08, colour="accent", turn=0.6, mirror=True),
            ellipse(0, 0.32, 0.6 * w, 0.56),
            ellipse(0, -0.32, 0.46 * w, 0.36 * h),
            polygon([(-0.022, -0.02), (0.022, -0.02), (0.022, 0.86), (-0.022, 0.86)], "outline"),
        ]
        return parts, -0.34, 0.2, 0.14, None
    if plan == "robot":
        box = lambda x, y, rx, ry: [(x - rx, y - ry), (x + rx, y - ry), (x + rx, y + ry), (x - rx, y + ry)]
        head = u(0.5, 0.64)
        parts = [
            polygon(box(0, -0.78, 0.035, 0.14), "outline"),
            ellipse(0, -0.88, 0.1, 0.1, colour="warm"),
            ellipse(head, -0.26, 0.13, 0.17, colour="accent", mirror=True),
            polygon(box(0.56, 0.46, 0.1, 0.22), "accent", mirror=True),
            polygon(box(0.22, 0.8, 0.13, 0.1), "accent", mirror=True),
            polygon(box(0, 0.45, 0.42 * w, 0.3)),
            polygon(box(0, -0.28, head, 0.4 * h)),
        ]
        return parts, -0.3, 0.26, 0.15, (0.46, 0.14)
    raise ValueError(f"no such body plan: {plan!r}")


def _face(canvas, rng, colours, eye_y, eye_x, size):
    dark, white = colours["ink"], (255, 255, 255)
    style = rng.integers(4)
    look = rng.uniform(-0.03, 0.03)
    if style == 3:  # asleep
        canvas.ellipse(eye_x, eye_y + 0.02, size, 0.045, dark, mirror=True)
    elif style == 2:  # plain dots
        canvas.ellipse(eye_x, eye_y, size * 0.62, size * 0.85, dark, mirror=True)
        canvas.ellipse(eye_x - 0.03, eye_y - 0.05, 0.035, 0.035, white, mirror=True)
    else:
        pupil = size * (0.55 if style else 0.75)
        canvas.ellipse(eye_x, eye_y, size + 0.03, size * 1.15 + 0.03, dark, mirror=True)
        canvas.ellipse(eye_x, eye_y, size, size * 1.15, white, mirror=True)
        for side in (-1, 1):
            canvas.ellipse(side * eye_x + look, eye_y + 0.02, pupil, pupil * 1.15, dark)
            canvas.ellipse(side * eye_x + look - 0.03, eye_y - 0.05, 0.04, 0.04, white)
    mouth_y = eye_y + size + 0.14
    mouth = rng.integers(4)
    if mouth == 0:  # smile
        canvas.polygon(
            [(-0.13, mouth_y - 0.03), (0.13, mouth_y - 0.03), (0.07, mouth_y + 0.07), (-0.07, mouth_y + 0.07)], dark
        )
    elif mouth == 1:  # o
        canvas.ellipse(0, mouth_y + 0.02, 0.06, 0.07, dark)
    elif mouth == 2:  # beak
        canvas.polygon([(-0.12, mouth_y - 0.08), (0.12, mouth_y - 0.08), (0, mouth_y + 0.1)], colours["warm"])
    else:  # fangs
        canvas.polygon(
            [(-0.14, mouth_y - 0.025), (0.14, mouth_y - 0.025), (0.14, mouth_y + 0.02), (-0.14, mouth_y + 0.02)], dark
        )
        canvas.polygon([(0.04, mouth_y + 0.02), (0.11, mouth_y + 0.02), (0.075, mouth_y + 0.1)], white, mirror=True)
    if rng.random() < 0.5:
        canvas.ellipse(eye_x + size * 0.75, mouth_y - 0.03, 0.085, 0.055, colours["blush"], mirror=True)


def draw(seed: int, index: int) -> tuple[np.ndarray, int]:
    """Draw creature number ``index`` of ``seed``.

    Returns:
      The picture, uint8 of shape (64, 64, 3), and its label, an index into ``PLANS``. Labels take
      turns, so every body plan is equally common.
    """
    rng = np.random.default_rng((seed, index))
    label = index % len(PLANS)
    hue, contrast = rng.random(), rng.choice([0.08, 0.33, 0.5, 0.67])
    saturation, value = rng.uniform(0.4, 0.8), rng.uniform(0.78, 0.98)
    colours = {
        "body": _rgb(hue, saturation, value),
        "light": _rgb(hue, saturation * 0.45, min(1.0, value * 1.1)),
        "shade": _rgb(hue, min(1.0, saturation * 1.15), value * 0.8),
        "accent": _rgb(hue + contrast, saturation, value),
        "pale": _rgb(hue + contrast, 0.14, 0.98),
        "warm": _rgb(0.1, 0.8, 0.98),
        "blush": _rgb(0.97, 0.45, 0.98),
        "outline": _rgb(hue, 0.6, 0.26),
        "ink": (34, 28, 44),
    }
    squash, lean, turn = rng.uniform(-0.06, 0.06), rng.uniform(-0.1, 0.1), rng.uniform(-0.08, 0.08)
    pose = np.array([[1 + squash, turn], [lean - turn, 1 - squash]]) * rng.uniform(0.88, 0.98)
    shift = np.array([rng.uniform(-0.04, 0.04), rng.uniform(-0.02, 0.04)])
    canvas = _Canvas(_rgb(rng.random(), rng.uniform(0.0, 0.05), rng.uniform(0.96, 1.0)), (pose, shift))
    parts, eye_y, eye_x, eye, belly = _silhouette(PLANS[label], rng)

    def paint(grow, colour=None):
        for kind, shape, name, mirror in parts:
            fill = colour or colours[name]
            if kind == "ellipse":
                x, y, rx, ry, tilt = shape
                canvas.ellipse(x, y, rx + grow, ry + grow, fill, turn=tilt, mirror=mirror)
            else:
                canvas.polygon(_grown(shape, 1.3 * grow) if grow else shape, fill, mirror=mirror)

    paint(_OUTLINE, colours["outline"])
    paint(0.0)
    if belly:
        canvas.ellipse(0, belly[0], belly[1] * 1.1, belly[1], colours["light"])
    marking = rng.integers(3)
    if marking == 1:
        canvas.ellipse(0.36, eye_y - 0.3, 0.07, 0.06, colours["shade"], mirror=True)
        canvas.ellipse(0, eye_y - 0.36, 0.07, 0.06, colours["shade"])
    elif marking == 2:
        for x in (-0.12, 0.0, 0.12):
            canvas.polygon([(x - 0.03, eye_y - 0.42), (x + 0.03, eye_y - 0.42), (x, eye_y - 0.22)], colours["shade"])
    _face(canvas, rng, colours, eye_y, eye_x, eye * rng.uniform(0.85, 1.15))
    return np.asarray(canvas.image.reduce(_SCALE)), label
