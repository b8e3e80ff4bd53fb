"""A row for each class, the best first: real images, samples, and bars of how often and how well it is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan_jax.gan.pixels import opaque
from dcgan_jax.system.errors import printable
from dcgan_jax.system.files import replacing

REALS, SAMPLES = 4, 12
"""Images in a row."""
_PADDING = 2
_NAMES, _ROW, _BARS, _MARGIN = 1.4, 0.5, 1.9, 0.4  # inches


class Row(NamedTuple):
    """What is shown of a class. Images are uint8 (N, H, W, C); fewer than there is room for leave white.
    Those with alpha are shown on white.

    ``share`` and ``excess`` are (value, low, high); an excess that is not known is NaN.
    """

    name: str
    reals: np.ndarray
    samples: np.ndarray
    share: tuple[float, float, float]
    share_of_reals: float
    excess: tuple[float, float, float]


def save_classes(path: Path, rows: Sequence[Row], *, step: int, features: str) -> None:
    """Save the picture as PNG.

    Args:
      path: of the file.
      rows: from the best class to the worst.
      step: which the samples belong to.
      features: in which KID is measured.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    sheet = opaque(np.concatenate([_strip(row) for row in rows]))
    height = _ROW * len(rows)
    width = height * sheet.shape[1] / sheet.shape[0]
    size = np.array([_NAMES + width + 2 * (_BARS + _MARGIN), height + 2 * _MARGIN])
    figure = Figure(figsize=tuple(size))

    def panel(left, width, title):  # of the same height, so that rows and bars lie side by side
        left, bottom, width, top = np.array([left, _MARGIN, width, height]) / np.tile(size, 2)
        axes = figure.add_axes((left, bottom, width, top))
        axes.set_title(title, fontsize=10)
        axes.set_yticks(np.arange(len(rows)), [])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        return axes

    def bars(number, title, values):
        axes = panel(_NAMES + width + _MARGIN / 2 + number * (_BARS + _MARGIN), _BARS, title)
        value, low, high = np.array(values).T
        error = np.maximum([value - low, high - value], 0)
        axes.barh(np.arange(len(rows)), value, xerr=error, color="tab:blue", ecolor="black", capsize=2)
        axes.grid(axis="x", alpha=0.3)
        return axes

    images = panel(_NAMES, width, f"{REALS} real images, {SAMPLES} random samples of step {step}")
    extent = (0, 1, len(rows) - 0.5, -0.5)
    images.imshow(np.broadcast_to(sheet, (*sheet.shape[:2], 3)), extent=extent, aspect="auto")
    images.set_yticks(np.arange(len(rows)), [printable(row.name[:18]).replace("$", r"\$") for row in rows])
    images.set(xticks=[], frame_on=False)
    often = bars(0, "% of samples (red: reals)", [100 * np.array(row.share) for row in rows])
    often.plot([100 * row.share_of_reals for row in rows], np.arange(len(rows)), "|", color="tab:red", ms=14)
    bars(1, f"KID over floor, {features}", [row.excess for row in rows])
    with replacing(path) as file:
        figure.savefig(file, dpi=100)


def _strip(row):
    """Real images, a gap, samples: uint8 (H + 2, W, C)."""
    _, h, w, c = row.reals.shape
    cells = np.full((REALS + SAMPLES, h + _PADDING, w + _PADDING, c), 255, np.uint8)  # with alpha it is white, too
    for images, first, most in ((row.reals, 0, REALS), (row.samples, REALS, SAMPLES)):
        for cell, image in zip(cells[first : first + most], images):
            cell[:h, :w] = image
    gap = np.full((h + _PADDING, w // 4, c), 255, np.uint8)
    return np.concatenate([*cells[:REALS], gap, *cells[REALS:]], axis=1)
