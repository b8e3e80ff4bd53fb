"""Class by class: how often a generator draws it, and how well.

A sample belongs to the class that a classifier names (``metrics/classifier.py``), right or wrong. Shares are therefore
corrected by the confusion matrix, and the real images of a floor are sorted by the classifier too, not by their label.

A sample of a conditional run belongs to the class that it was asked for, and a real image to that of its label.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from dcgan_jax.metrics.classifier import Classifier
from dcgan_jax.metrics.distances import frechet_distance, kernel_distance, prdc
from dcgan_jax.metrics.evaluate import Figures

_NEIGHBOURS, _STEPS, _DRAWS = 5, 1000, 200


class Sorted(NamedTuple):
    """A set of samples: features (N, D), the class that each is named, int (N,), and whether it is junk, bool (N,).

    Of a conditional run also the class that each was ``asked`` for, int (N,).
    """

    vectors: np.ndarray
    named: np.ndarray
    junk: np.ndarray
    asked: np.ndarray | None = None

    def labels(self) -> np.ndarray:
        """The class that each belongs to."""
        return self.named if self.asked is None else self.asked


class ClassFigures(NamedTuple):
    """A class: its label, and figures by their names.

    ``share`` in all samples (its floor: that in the real images; low and high: a 95 % interval), and where there are
    enough samples ``junk``, the share of them that the classifier is unsure of, ``kid``, ``fd``, ``precision`` and
    ``coverage``. Of a conditional run also ``accuracy``: the share of the samples of the class that are named so.
    """

    label: int
    figures: dict[str, Figures]

    def excess(self) -> float:
        """KID minus its floor, by which classes are ranked: the floor is about 0, so a ratio would mean nothing.

        Infinite where there are too few samples to say.
        """
        kid = self.figures.get("kid")
        return kid.value - kid.floor if kid else np.inf


def shares(confusion: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How many samples are of each class when the classifier's mistakes are taken out: (..., K), not negative, sum 1.

    The shares p that make what was named most likely if class i is named j as often as among real images: maximum
    likelihood of counts ~ Multinomial(p @ rows of confusion), by expectation maximisation from equal shares.

    Args:
      confusion: (..., K, K) counts of real images; rows are labels, columns what the classifier names.
      counts: (..., K), how many samples are named so.
    """
    rows = confusion / np.maximum(confusion.sum(-1, keepdims=True), 1)
    named = counts / counts.sum(-1, keepdims=True)
    p = np.full(np.broadcast_shapes(rows.shape[:-1], named.shape), 1 / rows.shape[-1])
    for _ in range(_STEPS):
        expected = np.einsum("...i,...ij->...j", p, rows)
        ratio = np.divide(named, expected, out=np.zeros_like(expected), where=expected > 0)
        p = p * np.einsum("...ij,...j->...i", rows, ratio)
        p /= p.sum(-1, keepdims=True)
    return p


def share_interval(confusion: np.ndarray, counts: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of ``shares``, low and high (K,): both the samples and the confusion matrix are drawn 200 times."""
    rng = np.random.default_rng(seed)
    of_reals = [rng.multinomial(row.sum(), row / row.sum(), size=_DRAWS) for row in confusion]
    of_samples = rng.multinomial(counts.sum(), counts / counts.sum(), size=_DRAWS)
    low, high = np.quantile(shares(np.stack(of_reals, axis=1), of_samples), (0.025, 0.975), axis=0)
    return low, high


def compare(classifier: Classifier, vectors: np.ndarray, sets: Sequence[Sorted]) -> tuple[Figures, list[ClassFigures]]:
    """Compare sets of samples of one generator with real images, class by class.

    Samples of class c stand against as many training images of the label c, for the floor held-out images of class c.
    KID's kernel grows with the distance from the origin, and some classes lie further off than others. So that their
    KIDs can be compared, features are shifted to mean 0 of the class's reals and divided by the spread within classes.

    Args:
      classifier: knows which real images it was trained on.
      vectors: features of all real images, (N, D).
      sets: of samples.

    Returns:
      The rate of junk in all samples, and the classes, best first.
    """
    confusion = classifier.confusion()
    counts = [np.bincount(some.named, minlength=len(confusion)) for some in sets]
    estimates = [shares(confusion, count) for count in counts]
    low, high = share_interval(confusion, np.sum(counts, axis=0))
    real = confusion.sum(1) / confusion.sum()
    everything = _figures([some.junk.mean() for some in sets], classifier.junk.mean(), len(sets[0].named))
    results = []
    labels, of_train = classifier.labels[classifier.train], vectors[classifier.train]
    spread = np.sqrt(np.mean([of_train[labels == label].var(0).mean() for label in range(len(confusion))]))
    for label in range(len(confusion)):
        value = float(np.mean([estimate[label] for estimate in estimates]))
        share = Figures(value, float(real[label]), float(low[label]), float(high[label]), len(sets[0].named))
        figures = {"share": share, **_accuracy_of(classifier, sets, label)}
        results.append(ClassFigures(label, {**figures, **_of_class(classifier, vectors, spread, sets, label)}))
    return everything, sorted(results, key=ClassFigures.excess)


def accuracy(classifier: Classifier, sets: Sequence[Sorted]) -> Figures:
    """The share of all samples of a conditional run that are named as they were asked for, with a 95 % interval.

    The floor is the share of held-out real images that are named by their label.
    """
    right = np.concatenate([some.named == some.labels() for some in sets])
    return share_of(int(right.sum()), len(right), floor=classifier.accuracy())


def share_of(count: int, n: int, *, floor: float) -> Figures:
    """``count`` of ``n`` as a share, with Wilson's 95 % interval."""
    interval = binomtest(count, n).proportion_ci(method="wilson")
    return Figures(count / n, floor, float(interval.low), float(interval.high), n)


def _accuracy_of(classifier, sets, label):
    if sets[0].asked is None:
        return {}
    named = np.concatenate([some.named[some.labels() == label] for some in sets])
    of_reals = classifier.named[classifier.labels[classifier.held_out] == label]
    if not len(named):
        return {}
    return {"accuracy": share_of(int((named == label).sum()), len(named), floor=float((of_reals == label).mean()))}


def _of_class(classifier, vectors, spread, sets, label):
    reals = vectors[classifier.train[classifier.labels[classifier.train] == label]]
    by_label = sets[0].asked is not None
    others = (classifier.labels[classifier.held_out] if by_label else classifier.named) == label
    parts = [some.labels() == label for some in sets]
    n = min(len(reals), others.sum(), *(part.sum() for part in parts))
    if n <= _NEIGHBOURS:
        return {}
    centre = reals.mean(0)
    reals = np.random.default_rng(label).permutation(reals)[:n]  # they need not lie there in a random order

    def distances(some):
        some = some[:n]
        near = prdc(reals, some, k=_NEIGHBOURS)
        return {
            "kid": kernel_distance((reals - centre) / spread, (some - centre) / spread, size=n),
            "fd": frechet_distance(reals, some),
            "precision": near.precision,
            "coverage": near.coverage,
        }

    held_out = np.random.default_rng(label).permutation(classifier.held_out[others])
    floor = {"junk": classifier.junk[others].mean(), **distances(vectors[held_out])}
    values = [{"junk": s.junk[part].mean(), **distances(s.vectors[part])} for s, part in zip(sets, parts)]
    return {name: _figures([value[name] for value in values], floor[name], int(n)) for name in floor}


def _figures(values, floor, n):
    return Figures(float(np.mean(values)), float(floor), float(min(values)), float(max(values)), n)
