"""A row for each class, the best first: real images, samples, and bars of how often and how well it is drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

REALS, SAMPLES = 4, 12
"""Images in a row."""
_PADDING = 2


class Row(NamedTuple):
    """What is shown of a class. Images are uint8 (N, H, W, C); fewer than there is room for leave white.

    ``share`` and ``excess`` are (value, low, high); an excess that is not known is NaN.
    """

    name: str
    reals: np.ndarray
    samples: np.ndarray
    share: tuple[float, float, float]
    share_of_reals: float
    excess: tuple[float, float, float]


def save_classes(path: Path, rows: Sequence[Row], *, step: int) -> None:
    """Save the picture as PNG.

    Args:
      path: of the file.
      rows: from the best class to the worst.
      step: which the samples belong to.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    positions, names = np.arange(len(rows)), [row.name for row in rows]
    figure = Figure(figsize=(14, 1.2 + 0.5 * len(rows)), layout="constrained")
    images, often, well = figure.subplots(1, 3, width_ratios=(5, 1.3, 1.3))
    sheet = np.concatenate([_strip(row) for row in rows])
    images.imshow(
        np.broadcast_to(sheet, (*sheet.shape[:2], 3)),
        extent=(0, sheet.shape[1] / sheet.shape[0] * len(rows), len(rows) - 0.5, -0.5),
    )
    images.set_title(f"{REALS} real images and {SAMPLES} random samples of step {step}", fontsize=10)
    images.set(xticks=[], frame_on=False)
    for axes, title, of in (
        (often, "share of the samples in %", np.array([row.share for row in rows]) * 100),
        (well, "KID over its floor, x 1000", np.array([row.excess for row in rows]) * 1000),
    ):
        value, low, high = of.T
        error = np.maximum([value - low, high - value], 0)
        axes.barh(positions, value, xerr=error, color="tab:blue", ecolor="black", capsize=2)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
    often.plot([100 * row.share_of_reals for row in rows], positions, "|", color="tab:red", ms=14, label="real images")
    often.legend(fontsize=7)
    for axes in (images, often, well):
        axes.set_yticks(positions, names if axes is images else [])
    figure.savefig(path, dpi=100)


def _strip(row):
    """Real images, a gap, samples: uint8 (H + 2, W, C)."""
    _, h, w, c = row.reals.shape
    cells = np.full((REALS + SAMPLES, h + _PADDING, w + _PADDING, c), 255, np.uint8)
    for images, first, most in ((row.reals, 0, REALS), (row.samples, REALS, SAMPLES)):
        for cell, image in zip(cells[first : first + most], images):
            cell[:h, :w] = image
    gap = np.full((h + _PADDING, w // 4, c), 255, np.uint8)
    return np.concatenate([*cells[:REALS], gap, *cells[REALS:]], axis=1)
