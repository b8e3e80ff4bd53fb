"""Which of the labelled classes a run draws well, and how often: measured, saved in its folder, and loaded again."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import numpy as np

from dcgan_jax.data.store import Store
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.metrics.classes import ClassFigures, Sorted, accuracy, compare, share_of
from dcgan_jax.metrics.classifier import Classifier, accuracy_of_learner, classifier
from dcgan_jax.metrics.distances import principal_components
from dcgan_jax.metrics.evaluate import Figures
from dcgan_jax.metrics.features import CIFAR, FeatureSet, store_features
from dcgan_jax.run.evaluation import features_called, named_damage, read_json
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.images import images_of
from dcgan_jax.run.measure import (
    SETS,
    check_samples,
    draw,
    feature_set,
    piece_labels,
    pieces,
    restored,
)
from dcgan_jax.run.restore import Step
from dcgan_jax.system.cache import cache_compilations, cache_folder
from dcgan_jax.system.disk import writing
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import write_text
from dcgan_jax.system.schema import checked
from dcgan_jax.views.classes import REALS, SAMPLES, Row, save_classes
from dcgan_jax.views.grid import visible

NUM = 10_000
"""Samples in each set, by default."""
FIGURES = ("share", "accuracy", "junk", "kid", "fd", "precision", "coverage")
"""The figures of a class; ``accuracy`` of conditional runs, those from ``junk`` on where there are enough samples."""
_LEARNED = 30_000  # samples at most that a classifier is trained on


class ClassResult(NamedTuple):
    """A class by its name, and its figures by theirs (``FIGURES``)."""

    name: str
    figures: Mapping[str, Figures]


@dataclasses.dataclass(frozen=True)
class Classes:
    """Samples of one checkpoint, sorted by a classifier and compared with real images class by class.

    Attributes:
      features: in which they are compared, one of ``run.evaluation.FEATURES``.
      step: of the checkpoint.
      n: samples in each of three sets.
      junk: the share of samples of which the classifier is unsure.
      classes: the best first.
      finding: a sentence that names the best and the worst.
      accuracy: of a conditional run, the share of samples that the classifier names as they were asked for; its floor
        is that of real images. Low and high are a 95 % interval.
      learned: the share of held-out real images that a classifier names rightly which was trained on samples; its floor
        is that of the one that was trained on real images.
      classifier: ``accuracy`` on ``held_out`` images, ``labels``, ``confusion`` matrix, ``threshold`` of junk.
      seed, ema: as in ``Evaluation``.
    """

    features: str
    step: int
    n: int
    junk: Figures
    classes: Sequence[ClassResult]
    finding: str
    classifier: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int | None = None
    ema: bool | None = None
    accuracy: Figures | None = None
    learned: Figures | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``classes.json`` holds it."""
        return {
            "step": self.step,
            "n": self.n,
            "features": self.features,
            "ema": self.ema,
            "seed": self.seed,
            "classifier": self.classifier,
            "junk": self.junk._asdict(),
            **({"accuracy": self.accuracy._asdict()} if self.accuracy else {}),
            **({"learned": self.learned._asdict()} if self.learned else {}),
            "classes": [
                {"name": one.name, **{name: figure._asdict() for name, figure in one.figures.items()}}
                for one in self.classes
            ],
            "finding": self.finding,
        }


class _Row(NamedTuple):
    """A class in ``classes.json``, with ``FIGURES``."""

    name: str
    share: Figures | None = None
    accuracy: Figures | None = None
    junk: Figures | None = None
    kid: Figures | None = None
    fd: Figures | None = None
    precision: Figures | None = None
    coverage: Figures | None = None


class _Stored(NamedTuple):
    """What is read of ``classes.json``; see ``Classes``."""

    step: int
    n: int
    junk: Figures
    classes: list[_Row]
    finding: str
    features: str = CIFAR.name
    accuracy: Figures | None = None
    learned: Figures | None = None


def load_classes(path: Path) -> Classes | None:
    """What a ``classes.json`` holds, without the classifier; None if there is no such file.

    Raises:
      InputError: it cannot be read, or is not as ``evaluate`` writes it.
    """
    with named_damage(path):
        values = read_json(path, default=None)
        if values is None and not path.exists():
            return None
        stored = checked(_Stored, values, "the file")
        features = features_called(stored.features)
    classes = []
    for row in stored.classes:
        figures = {name: getattr(row, name) for name in FIGURES}
        classes.append(ClassResult(row.name, {name: figure for name, figure in figures.items() if figure}))
    both = {"accuracy": stored.accuracy, "learned": stored.learned}
    return Classes(features, stored.step, stored.n, stored.junk, classes, stored.finding, **both)


def evaluate_classes(
    workdir: str | Path,
    step: Step = "best",
    *,
    num: int = NUM,
    names: Sequence[str] = (),
    features: Literal["cifar", "imagenet"] = "cifar",
    ema: bool = True,
    seed: int = 0,
    generator: nn.Module | str | None = None,
) -> Classes:
    """Measure which class a run draws well, and how often, as ``python -m dcgan_jax.evaluate --classes`` does.

    Also writes ``classes.json`` and ``classes.png`` of the run.

    Args:
      workdir: as for ``evaluate``, like ``step``, ``features``, ``ema``, ``seed`` and ``generator``.
      num: samples in each of three sets, at least 6.
      names: what the labels 0, 1, ... are called; empty where the labels are names already.

    Raises:
      InputError: fewer than 2 or more than 20 labels, too few images of one; and as from ``evaluate``.
    """
    chosen = feature_set(features)
    check_samples(num=num, seed=seed)
    cache_compilations()
    folder = RunFolder(workdir)
    ((step_number, params),) = restored(folder, [step], ema=ema, generator=generator).items()
    with contextlib.closing(images_of(folder)) as store:
        shown_names = class_names(store.label_names, names)
        judge, vectors = classifier(store, cache_folder()), store_features(store, cache_folder(), chosen)
        reduced = _reduction(vectors, chosen.components)
        sets, shown = _sorted_sets(judge, chosen, params, num, seed)
        sets = [some._replace(vectors=reduced(some.vectors)) for some in sets]
        junk, ranked = compare(judge, reduced(vectors), sets)
        rows = list(_rows(store, judge, shown_names, ranked, shown, folder.config().show))
        conditional = _conditional(judge, store, params, sets, seed) if params.classes else {}
    results = [ClassResult(shown_names[one.label], one.figures) for one in ranked]
    finding, described = sentence(shown_names, ranked, chosen.name), _described(judge, shown_names)
    classes = Classes(chosen.name, step_number, junk.n, junk, results, finding, described, seed, ema, **conditional)
    with writing(folder.path):
        write_text(folder.classes, json.dumps(classes.to_json(), indent=2) + "\n")
        save_classes(folder.classes_picture, rows, step=step_number, features=chosen.name)
    return classes


def _sorted_sets(judge: Classifier, features: FeatureSet, params: GeneratorParams, num: int, seed: int):
    """All sets of samples, and the first images of each class."""
    both = [
        _sorted(
            judge,
            features,
            pieces(params, number, num, seed=seed),
            piece_labels(params, number, num, seed=seed),
        )
        for number in range(SETS)
    ]
    return [some for some, _ in both], both[0][1]


def _sorted(judge: Classifier, features: FeatureSet, drawn: Iterable[np.ndarray], asked: np.ndarray | None):
    """A set of samples, which come in pieces, and the first images of each class by its number."""
    parts, shown, start = [], {}, 0
    for images in drawn:  # which are not all in memory at once
        named, sure = judge.name(images)
        parts.append((features.vectors(images), named, sure < judge.threshold))
        labels = named if asked is None else asked[start : start + len(images)]
        start += len(images)
        for label in range(judge.classes):
            some = images[labels == label]
            shown[label] = np.concatenate([shown.get(label, some[:0]), some])[:SAMPLES]
    vectors, named, junk = map(np.concatenate, zip(*parts))
    return Sorted(vectors, named, junk, asked), shown


def _conditional(judge: Classifier, store: Store, params: GeneratorParams, sets: list[Sorted], seed: int):
    """``accuracy`` and ``learned`` of a conditional run."""
    num = min(len(judge.train), _LEARNED)
    labels = piece_labels(params, SETS, num, seed=seed)
    assert labels is not None
    learner = accuracy_of_learner(judge, store, draw(params, SETS, num, seed=seed), labels)
    tested = len(judge.held_out)
    learned = share_of(round(learner * tested), tested, floor=judge.accuracy())
    return {"accuracy": accuracy(judge, sets), "learned": learned}


def _reduction(vectors, components):
    """From features to as few principal components as ``FeatureSet`` says."""
    if components is None:
        return lambda some: some
    mean, directions = principal_components(vectors, components)
    return lambda some: (some - mean) @ directions


def _described(judge: Classifier, names) -> dict[str, Any]:
    return {
        "accuracy": judge.accuracy(),
        "held_out": len(judge.held_out),
        "labels": names,
        "confusion": judge.confusion().tolist(),
        "threshold": judge.threshold,
    }


def _rows(store: Store, judge: Classifier, names, ranked: list[ClassFigures], shown, channels) -> Iterator[Row]:
    for label, figures in ranked:
        reals = judge.train[judge.labels[judge.train] == label]
        reals = store.take_uint8(np.random.default_rng(label).choice(reals, REALS, replace=False))
        share, kid = figures["share"], figures.get("kid")
        excess = (kid.value - kid.floor, kid.low - kid.floor, kid.high - kid.floor) if kid else (np.nan, np.nan, np.nan)
        reals, samples = visible(reals, channels), visible(shown[label], channels)
        yield Row(names[label], reals, samples, (share.value, share.low, share.high), share.floor, excess)


def class_names(labels: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """What the labels are called: ``names``, or themselves where there are none."""
    if names and sorted(labels) != sorted(map(str, range(len(names)))):
        have = ", ".join(sorted(labels)[:12]) + ", …" * (len(labels) > 12)
        raise InputError(
            f"class_names: {len(names)} names for the labels {have}: give one name for each of the labels 0, 1, …, or "
            "none where the labels are names already"
        )
    return tuple(names[int(label)] for label in labels) if names else labels


def sentence(names: Sequence[str], ranked: list[ClassFigures], features: str) -> str:
    """The answer: which class works best, which worst, which is hardly drawn."""
    measured = [one for one in ranked if "kid" in one.figures]
    if len(measured) < 2:
        return "Too few samples of each class to tell which works best: train longer, or give a larger --num."
    best, worst = (
        f"{names[one.label]} (KID {one.excess():.3g} over its floor, FD "
        f"{one.figures['fd'].value / one.figures['fd'].floor:.3g} times its floor)"
        for one in (measured[0], measured[-1])
    )
    text = f"In {features} features {best} works best, {worst} works worst."
    if few := [names[one.label] for one in ranked if one.figures["share"].high < one.figures["share"].floor / 2]:
        text += f" Drawn less than half as often as among the images: {', '.join(few)}."
    return text
