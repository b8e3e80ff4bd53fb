"""Loss curves as pictures."""

from pathlib import Path

import numpy as np


def save_progress(path: Path, curves: dict[str, list[float]], sheet: np.ndarray, *, step: int) -> None:
    """Save loss curves above a sheet of samples: the chapter's picture.

    Args:
      path: of the PNG file.
      curves: ``step``, ``loss_D`` and ``loss_G``, of equal length.
      sheet: uint8 (H, W, 1 or 3).
      step: the step of the samples.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(7, 8), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 1.2))
    above.plot(curves["step"], curves["loss_D"], label="discriminator")
    above.plot(curves["step"], curves["loss_G"], "--", label="generator")
    above.set(xlabel="step", ylabel="loss")
    above.legend()
    above.grid(alpha=0.3)
    below.imshow(sheet, cmap="gray", vmin=0, vmax=255)
    below.set_title(f"step {step}")
    below.axis("off")
    figure.savefig(path, dpi=110)
