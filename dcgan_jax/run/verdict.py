"""How far the samples of a run still are from its images, in words, and what to do next."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dcgan_jax.config import Config
from dcgan_jax.metrics.evaluate import LABELS
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.pretrained.efficientnet import LITE0
from dcgan_jax.run.doctor import best, findings
from dcgan_jax.run.evaluation import Evaluation

LEVELS = ("far", "on the way", "close", "good")
"""From the worst to the best."""
SHARES = (0.5, 0.8, 0.95)
"""Precision, recall and coverage as shares of their floors: below the first a run is far, below the second on the way,
below the third close."""
TIMES = (8.0, 3.0, 1.25)
"""FD in multiples of its floor: above the first a run is far, above the second on the way, above the third close."""
_ENOUGH = 1000  # samples: with fewer, floors are so high that they hide differences
_FEW = 5000  # images
_HEADS = {
    "far": "Far from the real images",
    "on the way": "On the way, but easy to tell from the real images",
    "close": "Close to the real images, but not the same",
    "good": "Not to be told from the real images",
}


class Verdict(NamedTuple):
    """How far a run is: one of ``LEVELS``, the same in a few words, and sentences that say why and by which ruler."""

    level: str
    head: str
    text: str

    def __str__(self):
        return f"{self.head}: {self.text}"


class Measured(NamedTuple):
    """Figures of one step, with all that must be said of them.

    Attributes:
      step: of the checkpoint.
      features: in which images were compared.
      figures: value and floor of each metric, by its name in ``LABELS``.
      n: samples in each set; None for those that were taken while training: 1,024, or fewer where there are fewer
        images.
    """

    step: int
    features: str
    figures: Mapping[str, tuple[float, float]]
    n: int | None

    def source(self) -> str:
        """Where the figures come from, in words."""
        by = "measured while training" if self.n is None else f"measured by evaluate on {self.n:,} samples"
        return f"step {self.step:,}, {self.features} features, {by}"


def of_training(line: Mapping[str, float]) -> Measured:
    """The figures of an evaluation while training: a line of metrics.jsonl."""
    pairs = {name: (line.get(name, math.nan), line.get(f"{name}_floor", math.nan)) for name in LABELS}
    figures = {name: pair for name, pair in pairs.items() if all(map(math.isfinite, pair))}
    return Measured(int(line["step"]), CIFAR.name, figures, None)


def of_evaluation(evaluation: Evaluation) -> Measured:
    """The figures of an evaluation by ``evaluate``."""
    figures = {name: (figure.value, figure.floor) for name, figure in evaluation.figures.items()}
    return Measured(evaluation.step, evaluation.features, figures, evaluation.n)


def at_best(lines: Sequence[Mapping[str, float]], evaluations: Sequence[Evaluation]) -> list[Measured]:
    """What is known of the step that ``restore`` takes, the strictest judgement first; nothing if nothing is.

    Evaluations come before what was measured while training: they compare with images that did not choose the step,
    and with more of them.
    """
    evaluated, averaged = (
        [dict(line) for line in lines if "kid" in line],
        [x for x in evaluations if x.ema is not False],
    )
    step = best(evaluated)["step"] if evaluated else max((one.step for one in averaged), default=None)
    measured = [of_evaluation(one) for one in averaged if one.step == step]
    measured = measured or [of_training(line) for line in evaluated if line["step"] == step][-1:]
    measured = [one for one in measured if _shares(one) or not math.isnan(_times(one))]
    return sorted(measured, key=lambda one: (LEVELS.index(level(one)), one.features == CIFAR.name))


def _shares(measured):
    """Value over floor of the three figures that are shares of images, the worst first."""
    names = ("coverage", "recall", "precision")
    pairs = {name: measured.figures[name] for name in names if name in measured.figures}
    return sorted((value / floor, name) for name, (value, floor) in pairs.items() if floor > 0)


def _times(measured):
    value, floor = measured.figures.get("fd", (math.nan, math.nan))
    return value / floor if floor > 0 else math.nan


def level(measured: Measured) -> str:
    """How near the figures are to what real images get: one of ``LEVELS``, the worst that a figure says.

    Nothing is called good by few samples, by features that choose the best step (CIFAR, which are lenient) or that a
    recipe trains with (Lite0), or when copies are suspected.
    """
    worst = min((share for share, _ in _shares(measured)), default=0.0)
    times = _times(measured)
    by_share = sum(worst >= least for least in SHARES)
    by_times = 3 if math.isnan(times) else sum(times <= most for most in TIMES)
    number = min(by_share, by_times)
    fair = measured.features not in (CIFAR.name, LITE0.name) and (measured.n or 0) >= _ENOUGH and not unusual(measured)
    return LEVELS[number if fair else min(number, 2)]


def judge(measured: Measured) -> Verdict:
    """The level, what the samples lack most, and by which features this was found."""
    name, shares, times = level(measured), _shares(measured), _times(measured)
    head = _HEADS[name]
    if name == "close" and min((share for share, _ in shares), default=0) >= SHARES[-1] and not times > TIMES[-1]:
        head = f"{measured.features} features see hardly a difference from the real images"
    parts = [_share(measured, which) for _, which in shares[:2]]  # what lacks most
    if not math.isnan(times):
        parts.append(f"FD, how far all samples lie from the real images, is {times:.3g} times that of real images")
    return Verdict(name, head, f"{'; '.join(parts)} ({measured.source()}). {_ruler(measured)}")


def _share(measured, name):
    value, floor = measured.figures[name]
    what = {
        "coverage": "of the real images have a sample like them",
        "recall": "of the real images lie among the samples",
        "precision": "of the samples are like real images",
    }[name]
    return f"{value:.0%} {what}, {fraction(value / floor)} what other real images reach ({name} {floor:.0%})"


def fraction(share: float) -> str:
    """A share in words, such as "about two thirds of"."""
    if share >= 0.95:
        return "nearly all of" if share < 0.99 else "all of"
    words = {0: "next to nothing of", 0.1: "about a tenth of", 0.2: "about a fifth of", 0.25: "about a quarter of"}
    words |= {1 / 3: "about a third of", 0.4: "about two fifths of", 0.5: "about half of", 0.6: "about three fifths of"}
    words |= {2 / 3: "about two thirds of", 0.75: "about three quarters of", 0.8: "about four fifths of"}
    words[0.9] = "about nine tenths of"
    return words[min(words, key=lambda one: abs(one - share))]


def _ruler(measured):
    if measured.features != CIFAR.name:
        few = "" if (measured.n or 0) >= _ENOUGH else f" But {measured.n:,} samples are few: they hide differences."
        training = "training (but in that of --recipe projected)" if measured.features == LITE0.name else "training"
        return f"{measured.features} features had no part in {training} or in choosing the step.{few}"
    chosen = "CIFAR features are lenient, and they chose this step: in other features it may be much further off"
    second = "evaluate --features imagenet is a stricter second opinion"
    return f"{chosen}. {second}." if measured.n else f"{chosen}. evaluate compares with other images; {second}."


def unusual(measured: Measured) -> list[str]:
    """What a figure says that is neither near its floor nor a question of how far: a sentence for each."""
    figures = {name: value for name, (value, _) in measured.figures.items()}
    sentences = []
    c_t, nearest = figures.get("c_t", 0.0), figures.get("nearest", 1.0)
    if c_t > 3:
        sentences.append(
            f"C_T {c_t:.3g}, far above 0: samples lie farther from the training images than other real images do. "
            "They are no copies, but not like the images either"
        )
    if c_t < -3:
        sentences.append(
            f"C_T {c_t:.3g}, far below 0: samples lie nearer to training images than other real images do. They are "
            "copies, or only the plainest kinds: look at the pairs in evaluation.png"
        )
    if nearest > 1.25:
        sentences.append(
            f"distance to the nearest real image {nearest:.3g}, where 1 is usual: a typical sample lies {nearest:.3g} "
            "times as far from all real images as another real image does, outside of what they look like"
        )
    if nearest < 0.8:
        sentences.append(
            f"distance to the nearest real image {nearest:.3g}, where 1 is usual: samples lie nearer to real images "
            "than other real images do, as copies and plain pictures do"
        )
    if (diversity := figures.get("diversity", 1.0)) < 0.8:
        sentences.append(f"diversity {diversity:.3g}, where 1 is usual: samples are more alike than real images are")
    if diversity > 1.25:
        sentences.append(f"diversity {diversity:.3g}, where 1 is usual: samples differ more than real images do")
    of_pixels = {
        "mean": "brightness of a colour",
        "deviation": "contrast of a colour",
        "alpha_mean": "opacity (the mean of alpha)",
        "alpha_deviation": "deviation of alpha",
    }
    for name, what in of_pixels.items():
        if abs((ratio := figures.get(name, 1.0)) - 1) > 0.1:
            sentences.append(f"the {what} is {ratio:.3g} times that of real images")
    return sentences


def advice(lines: Sequence[Mapping[str, float]], config: Config, *, images: int, measured: Sequence[Measured]) -> str:
    """What to do next, and why, in words; empty for a good run.

    Args:
      lines: of metrics.jsonl, oldest first.
      config: of the run.
      images: how many it is trained on; 0 if that is not known.
      measured: what ``at_best`` returns.
    """
    if not measured or level(measured[0]) == "good":
        return ""
    ill = {finding.name for finding in findings([dict(line) for line in lines], images=images)}
    evaluated = [dict(line) for line in lines if "kid" in line]
    steps = []
    if evaluated and best(evaluated) in evaluated[-2:] and not ill & {"collapse", "worse", "won", "plateau"}:
        steps.append(f"go on with --steps {2 * config.steps}, as the run was still getting better at its end")
    if config.features == "none":
        steps.append("start a new run with --recipe projected, which learns more kinds, and clearer shapes")
    if 0 < images < _FEW and "few" not in ill:  # which says so already
        steps.append(f"add pictures, as a discriminator soon knows {images:,} by heart")
    if not steps:
        steps.append("start a new run with another --seed, a larger --width or more pictures")
    return "; or ".join(steps)


def in_short(line: Mapping[str, float]) -> str:
    """An evaluation while training in a line: what share of the kinds is drawn, the level, and the figures of both."""
    measured = of_training(line)
    kid = measured.figures.get("kid")
    by = f"KID {kid[0]:.2g}, real images {kid[1]:.2g}; " if kid else ""
    return f"{_kinds(measured)}{_HEADS[level(measured)]} ({by}{measured.features} features)"


def _kinds(measured: Measured) -> str:
    """Coverage in words, as a sentence; empty if it is not known."""
    value, floor = measured.figures.get("coverage", (0.0, 0.0))
    if floor <= 0:
        return ""
    share = "hardly any of" if value / floor < 0.05 else fraction(value / floor)
    return f"coverage {value:.2f} of {floor:.2f}: {share} the kinds are drawn. "


def summary(lines: Sequence[Mapping[str, float]], config: Config, *, images: int, evaluations: int) -> list[str]:
    """What there is to say at the end of training: the best step, how far it is, what is wrong and what to do next.

    Args:
      lines: of metrics.jsonl, oldest first.
      config: of the run.
      images: how many it is trained on.
      evaluations: how many there were; of a long run not all are among the lines.
    """
    measured = at_best(lines, [])
    if not measured:
        return []
    wrong = [finding.text for finding in findings([dict(line) for line in lines], images=images)]
    model = "" if measured[0].step else ", the model that it started from"
    best_of = f"at step {measured[0].step:,}{model}, the best of {evaluations:,} evaluations by coverage"
    words = f"{_kinds(measured[0])}{judge(measured[0]).head}"
    said = [f"how good: {words} ({best_of}; {measured[0].features} features, which are lenient)", *wrong]
    text = advice(lines, config, images=images, measured=measured)
    return [*said, f"what to do next: {text}"] if text else said
