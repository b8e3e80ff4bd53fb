"""Which of two runs draws better images, in a sentence."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dcgan_jax.metrics.evaluate import Figures
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.run.evaluation import Evaluation
from dcgan_jax.run.verdict import at_best

_NOISE = 0.05
"""Of a figure that was measured once, while training: what another 1,024 samples may change."""
_HIGHER = {"coverage": True, "fd": False}
"""The figures that decide, and whether higher is better: real images that are drawn, and how far off all is."""


class Compared(NamedTuple):
    """What is known of a run.

    Attributes:
      name: a short one, another for each run.
      images: the checksum of its images; None if that is not known.
      lines: of its metrics.jsonl, oldest first.
      evaluations: by ``evaluate``.
    """

    name: str
    images: str | None
    lines: Sequence[Mapping[str, float]]
    evaluations: Sequence[Evaluation]


class _Measurement(NamedTuple):
    """Figures of the best step of a run, and how they were taken, in words: only the same ways are compared."""

    step: int
    by: str
    figures: Mapping[str, Figures]


def comparison(first: Compared, second: Compared) -> str:
    """Say which run's best step is better by coverage and FD, by how much, and by which features.

    Only figures that were taken in the same way on the same images are compared. A difference counts if it is larger
    than the range of the three sets of samples of ``evaluate``, or a twentieth of a figure measured while training.
    """
    if None not in (first.images, second.images) and first.images != second.images:
        return "Which is better cannot be said: they were trained on different images or sizes of them."
    ours, theirs = _measurements(first), _measurements(second)
    if not (ours and theirs):
        missing = " and ".join(run.name for run, one in ((first, ours), (second, theirs)) if not one)
        return f"Which is better is not known: {missing} has not been measured. python -m dcgan_jax.evaluate does."
    ways = [by for by in ours if by in theirs and _HIGHER.keys() & ours[by].figures.keys() & theirs[by].figures.keys()]
    if not ways:
        return (
            "Which is better is not known: they were not measured in the same way. Run python -m dcgan_jax.evaluate "
            "for both, with the same --num, --seed and --features."
        )
    return _said(first.name, second.name, ours[ways[0]], theirs[ways[0]])


def _said(first: str, second: str, ours: _Measurement, theirs: _Measurement) -> str:
    signs, texts = [], []
    for name, higher in _HIGHER.items():
        if name not in ours.figures or name not in theirs.figures:
            continue
        a, b = ours.figures[name], theirs.figures[name]
        sign = (a.low > b.high) - (b.low > a.high)
        signs.append(sign if higher else -sign)
        label = {"coverage": "coverage", "fd": "FD"}[name]
        texts.append((label, a, b, "higher" if higher else "lower"))
    how = f"(steps {ours.step:,} and {theirs.step:,}, the best of each; {ours.by})"
    if not any(signs):
        values = "; ".join(f"{label} {a.value:.3g} and {b.value:.3g}" for label, a, b, _ in texts)
        return f"Neither is better as far as these figures tell: {values} {how}."
    if max(signs) > 0 > min(signs):
        each = " but ".join(
            f"{first if sign > 0 else second} has the {better} {label}, "
            f"{(a if sign > 0 else b).value:.3g} against {(b if sign > 0 else a).value:.3g}"
            for sign, (label, a, b, better) in zip(signs, texts)
        )
        return f"Neither is better in all: {each} {how}."
    better = first if max(signs) > 0 else second
    values = "; ".join(_against(label, a, b, better == first, word) for label, a, b, word in texts)
    return f"{better} is better: {values} {how}."


def _against(label, a, b, ours, word):
    a, b = (a, b) if ours else (b, a)
    return f"{label} {a.value:.3g} against {b.value:.3g} (real images {a.floor:.3g}, {word} is better)"


def _measurements(run: Compared) -> dict[str, _Measurement]:
    """Of the best step, by how they were taken: the strictest features first, what was measured while training last."""
    steps = [measured.step for measured in at_best(run.lines, run.evaluations)]
    taken = {}
    for one in sorted(run.evaluations, key=lambda one: one.features == CIFAR.name):
        if one.step in steps and one.ema is not False:
            seed = "" if one.seed is None else f" of seed {one.seed}"
            by = f"{one.features} features, by evaluate on {one.n:,} samples{seed}"
            taken[by] = _Measurement(one.step, by, one.figures)
    for measured in at_best(run.lines, []):
        by = f"{measured.features} features, measured while training"
        figures = {name: _with_noise(*pair) for name, pair in measured.figures.items()}
        taken[by] = _Measurement(measured.step, by, figures)
    return {by: one for by, one in taken.items() if one.figures.keys() & _HIGHER.keys()}


def _with_noise(value: float, floor: float) -> Figures:
    return Figures(value, floor, (1 - _NOISE) * value, (1 + _NOISE) * value, 0)
