"""Loss curves as pictures."""

from pathlib import Path

import numpy as np

from dcgan_jax.gan.pixels import opaque
from dcgan_jax.system.files import replacing


def save_progress(path: Path, curves: dict[str, list[float]], sheet: np.ndarray, *, step: int, best: int = 0) -> None:
    """Save loss curves above a sheet of samples: the chapter's picture. Between them KID, once it is known.

    Args:
      path: of the PNG file.
      curves: ``step``, ``loss_D``, ``loss_G``, ``kid`` and ``kid_floor``, of equal length; NaN where not known.
      sheet: uint8 (H, W, 1 to 4); with alpha it is shown on white.
      step: the step of the samples.
      best: the step of the best samples, once KID is known.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display
    from matplotlib.ticker import LogFormatter

    evaluated = np.isfinite(curves["kid"])
    panels = 3 if evaluated.any() else 2
    figure = Figure(figsize=(7, 3 * panels + 2), layout="constrained")
    above, *between, below = figure.subplots(panels, 1, height_ratios=(1, *[0.7] * (panels - 2), 1.2))
    above.plot(curves["step"], curves["loss_D"], label="discriminator")
    above.plot(curves["step"], curves["loss_G"], "--", label="generator")
    above.set(xlabel="step", ylabel="loss")
    above.legend()
    above.grid(alpha=0.3)
    for axes in between:
        steps, kid, floor = (np.array(curves[name])[evaluated] for name in ("step", "kid", "kid_floor"))
        low = min((value for value in (*kid, *floor) if value > 0), default=1e-4) / 1.5
        kid = np.maximum(kid, low)
        axes.plot(steps, kid, "o-", markersize=3, color="C2", label=f"samples, best at step {best} (by coverage)")
        axes.plot(steps[steps == best], kid[steps == best], "o", color="C2")
        note = "" if (floor > 0).all() else f": {floor[-1]:.2g}, below the axis"
        axes.plot(steps, np.where(floor > 0, floor, np.nan), ":", color="C7", label=f"real images{note}")
        axes.set(xlabel="step", ylabel="KID (CIFAR features)")
        axes.set_xlim(above.get_xlim())
        axes.set_yscale("log")  # real images score about 0, often less, which has no place here
        axes.set_ylim(bottom=low)
        axes.yaxis.set_major_formatter(LogFormatter())  # 10, not a power
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        axes.legend()
        axes.grid(alpha=0.3)
    below.imshow(opaque(sheet), cmap="gray", vmin=0, vmax=255)
    below.set_title(f"step {step}")
    below.axis("off")
    with replacing(path) as file:
        figure.savefig(file, dpi=110)
