"""What an evaluation looks like: real images, samples, and the pairs that are most alike."""

from pathlib import Path

import numpy as np

from dcgan_jax.gan.pixels import opaque
from dcgan_jax.system.files import replacing
from dcgan_jax.views.grid import grid


def save_evaluation(path: Path, reals: np.ndarray, samples: np.ndarray, pairs: np.ndarray, *, step: int) -> None:
    """Save three sheets side by side, as PNG.

    Args:
      path: of the file.
      reals, samples: uint8 (N, H, W, 1 to 4), laid out eight in a row; with alpha on white.
      pairs: (N, 2, H, W, C), a sample and the training image most like it; four pairs in a row.
      step: which the samples belong to.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(16, 6), layout="constrained")
    sheets = {
        "real images": reals,
        f"samples of step {step}": samples,
        "closest of all: sample, then training image": pairs.reshape(-1, *pairs.shape[2:]),
    }
    for axes, (title, images) in zip(figure.subplots(1, len(sheets)), sheets.items(), strict=True):
        axes.imshow(opaque(grid(images, columns=8)), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title)
        axes.axis("off")
    with replacing(path) as file:
        figure.savefig(file, dpi=110)
