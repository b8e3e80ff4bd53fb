"""The embedded data set: little creatures drawn by code, 64x64 RGB on a light background, or on none.

It needs no network and no file, so a first run works anywhere. Every picture is a pure function
of (seed, index). The body plan is the label; palette, proportions, pose, eyes, mouth, markings and
headgear vary independently, so that a generator's mode collapse is visible.
"""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

from dcgan_jax.data.bodies import PLANS, Body, body

SIZE = 64
_SCALE = 2  # drawn larger, then averaged down: that is the anti-aliasing
_OUTLINE = 0.055  # in half-frames, as in bodies.py
_WHITE = (255, 255, 255)
_ANGLES = np.linspace(0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


class _Canvas:
    """Filled shapes under one pose (squash, lean, shift), each with its mirror image; ``picture`` draws them all."""

    def __init__(self, background, pose):
        self._background, self._pose = background, pose
        self._shapes = []

    def _fill(self, points, colour):
        self._shapes.append((points, colour))

    def picture(self):
        """The picture of all shapes, twice as large. They are posed together: one by one NumPy takes longer for it."""
        (pose, shift), size = self._pose, SIZE * _SCALE
        points = np.concatenate([points for points, _ in self._shapes])
        pixels = ((points @ pose + shift + 1) * (size / 2)).ravel().tolist()
        image = Image.new("RGB" if len(self._background) == 3 else "RGBA", (size, size), self._background)
        polygon, start = ImageDraw.Draw(image).polygon, 0
        for points, colour in self._shapes:
            end = start + 2 * len(points)
            polygon(pixels[start:end], fill=colour)
            start = end
        return image

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


def _eyes(canvas, rng, dark, x, y, size):
    style = rng.integers(4)
    look = rng.uniform(-0.03, 0.03)
    if style == 3:  # asleep
        canvas.ellipse(x, y + 0.02, size, 0.045, dark, mirror=True)
    elif style == 2:  # plain dots
        canvas.ellipse(x, y, size * 0.62, size * 0.85, dark, mirror=True)
        canvas.ellipse(x - 0.03, y - 0.05, 0.035, 0.035, _WHITE, mirror=True)
    else:
        pupil = size * (0.55 if style else 0.75)
        canvas.ellipse(x, y, size + 0.03, size * 1.15 + 0.03, dark, mirror=True)
        canvas.ellipse(x, y, size, size * 1.15, _WHITE, mirror=True)
        for side in (-1, 1):
            canvas.ellipse(side * x + look, y + 0.02, pupil, pupil * 1.15, dark)
            canvas.ellipse(side * x + look - 0.03, y - 0.05, 0.04, 0.04, _WHITE)


def _mouth(canvas, rng, dark, warm, y):
    kind = rng.integers(4)
    if kind == 0:  # smile
        canvas.polygon([(-0.13, y - 0.03), (0.13, y - 0.03), (0.07, y + 0.07), (-0.07, y + 0.07)], dark)
    elif kind == 1:  # o
        canvas.ellipse(0, y + 0.02, 0.06, 0.07, dark)
    elif kind == 2:  # beak
        canvas.polygon([(-0.12, y - 0.08), (0.12, y - 0.08), (0, y + 0.1)], warm)
    else:  # fangs
        canvas.polygon([(-0.14, y - 0.025), (0.14, y - 0.025), (0.14, y + 0.02), (-0.14, y + 0.02)], dark)
        canvas.polygon([(0.04, y + 0.02), (0.11, y + 0.02), (0.075, y + 0.1)], _WHITE, mirror=True)


def _face(canvas, rng, colours, eye_y, eye_x, size):
    _eyes(canvas, rng, colours["ink"], eye_x, eye_y, size)
    mouth_y = eye_y + size + 0.14
    _mouth(canvas, rng, colours["ink"], colours["warm"], mouth_y)
    if rng.random() < 0.5:
        canvas.ellipse(eye_x + size * 0.75, mouth_y - 0.03, 0.085, 0.055, colours["blush"], mirror=True)


def _colours(rng):
    hue, contrast = rng.random(), rng.choice([0.08, 0.33, 0.5, 0.67])
    saturation, value = rng.uniform(0.4, 0.8), rng.uniform(0.78, 0.98)
    return {
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


def _posed_canvas(rng, alpha):
    squash, lean, turn = rng.uniform(-0.06, 0.06), rng.uniform(-0.1, 0.1), rng.uniform(-0.08, 0.08)
    pose = np.array([[1 + squash, turn], [lean - turn, 1 - squash]]) * rng.uniform(0.88, 0.98)
    shift = np.array([rng.uniform(-0.04, 0.04), rng.uniform(-0.02, 0.04)])
    background = _rgb(rng.random(), rng.uniform(0.0, 0.05), rng.uniform(0.96, 1.0))
    return _Canvas((0, 0, 0, 0) if alpha else background, (pose, shift))


def _paint(canvas, creature: Body, colours, grow: float, colour=None):
    """All shapes of a body, larger by ``grow`` and in one colour, or each in its own."""
    for kind, numbers, name, mirror in creature.shapes:
        fill = colour or colours[name]
        if kind == "ellipse":
            x, y, rx, ry, tilt = numbers
            canvas.ellipse(x, y, rx + grow, ry + grow, fill, turn=tilt, mirror=mirror)
        else:
            canvas.polygon(_grown(numbers, 1.3 * grow) if grow else numbers, fill, mirror=mirror)


def _marking(canvas, rng, colours, eye_y):
    marking = rng.integers(3)  # 0: none
    if marking == 1:
        canvas.ellipse(0.36, eye_y - 0.3, 0.07, 0.06, colours["shade"], mirror=True)
        canvas.ellipse(0, eye_y - 0.36, 0.07, 0.06, colours["shade"])
    elif marking == 2:
        for x in (-0.12, 0.0, 0.12):
            canvas.polygon([(x - 0.03, eye_y - 0.42), (x + 0.03, eye_y - 0.42), (x, eye_y - 0.22)], colours["shade"])


def draw(seed: int, index: int, *, alpha: bool = False) -> tuple[np.ndarray, int]:
    """Draw creature number ``index`` of ``seed``.

    Args:
      alpha: leave the background transparent. The creature is the same.

    Returns:
      The picture, uint8 of shape (64, 64, 3), or (64, 64, 4) with alpha, and its label, an index into ``PLANS``. Labels
      take turns, so every body plan is equally common.
    """
    rng = np.random.default_rng((seed, index))  # what follows is drawn in this order: another gives other pictures
    label = index % len(PLANS)
    colours, canvas = _colours(rng), _posed_canvas(rng, alpha)
    creature = body(PLANS[label], rng)
    _paint(canvas, creature, colours, _OUTLINE, colours["outline"])
    _paint(canvas, creature, colours, 0.0)
    if creature.belly:
        y, radius = creature.belly
        canvas.ellipse(0, y, radius * 1.1, radius, colours["light"])
    _marking(canvas, rng, colours, creature.eye_y)
    _face(canvas, rng, colours, creature.eye_y, creature.eye_x, creature.eye * rng.uniform(0.85, 1.15))
    return np.asarray(canvas.picture().reduce(_SCALE)), label
