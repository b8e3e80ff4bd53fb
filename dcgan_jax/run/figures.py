"""All figures of one step of a run, each with the name that tells what it was measured by."""

from typing import NamedTuple

from dcgan_jax.metrics.evaluate import LABELS, labels
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.run.evaluation import load_evaluations
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import line_of

_OF_PIXELS = ("swd", "mean", "deviation", "alpha_mean", "alpha_deviation")  # the same in all features


class StepFigure(NamedTuple):
    """A figure with all that must be said of it.

    Attributes:
      metric: its short name, such as ``fd`` or ``loss_G``.
      key: the same for programs: as in metrics.jsonl, or with the features of an evaluation before it: ``CIFAR/fd``.
      name: its full one, such as "FD (CIFAR features), while training".
      value, floor: of the samples, and of real images where that is known.
    """

    metric: str
    key: str
    name: str
    value: float
    floor: float | None = None

    def row(self) -> tuple[str, str, str]:
        """As texts: name, value, floor."""
        return self.name, f"{self.value:.4g}", "" if self.floor is None else f"{self.floor:.4g}"


def figures_of_step(folder: RunFolder, step: int) -> list[StepFigure]:
    """All figures of the averaged weights of a step: losses and so on, each metric once for each set of features.

    Of CIFAR features the last evaluation counts, else what was measured while training.

    Raises:
      InputError: metrics.jsonl or evaluation.json is damaged.
    """
    line = line_of(folder.metrics, step) or {}
    evaluations = [x for x in load_evaluations(folder.evaluation) if x.step == step and x.ema is not False]
    figures = []
    evaluated = any(one.features == CIFAR.name for one in evaluations)
    for name, value in line.items():
        if name in LABELS and not evaluated:
            text = f"{_named(name, CIFAR.name)}, while training"
            figures.append(StepFigure(name, name, text, value, line.get(f"{name}_floor")))
        elif name not in LABELS and name != "step" and name.removesuffix("_floor") not in LABELS:
            figures.append(StepFigure(name, name, name, value))
    for one in evaluations:
        figures += [
            StepFigure(name, f"{one.features}/{name}", f"{_named(name, one.features)}, {one.n:,} samples", value, floor)
            for name, (value, floor, *_) in one.figures.items()
        ]
        if one.fid:
            text = f"FID, {one.fid.n:,} samples against {one.fid.reals:,} images"
            figures.append(StepFigure("fid", "Inception/fid", text, one.fid.value))
    return figures


def _named(name, features):
    label = labels(features)[name][0]
    return label if "features" in label or name in _OF_PIXELS else f"{label} ({features} features)"
