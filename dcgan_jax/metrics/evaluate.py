"""Every metric of a set of generated images, each beside its floor: what real images get at the same n."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dcgan_jax.config import has_alpha
from dcgan_jax.data.split import disjoint_halves
from dcgan_jax.metrics.distances import (
    c_t,
    diversity_ratio,
    frechet_distance,
    kernel_distance,
    nearest,
    prdc,
    principal_components,
)
from dcgan_jax.metrics.features import CIFAR, FeatureSet
from dcgan_jax.metrics.image_distances import channel_ratios, sliced_wasserstein
from dcgan_jax.system.errors import InputError

LABELS = {
    "fd": (f"FD ({CIFAR.name} features)", "lower"),
    "kid": (f"KID ({CIFAR.name} features)", "lower"),
    "precision": ("precision", "higher"),
    "recall": ("recall", "higher"),
    "density": ("density", "higher"),
    "coverage": ("coverage", "higher"),
    "diversity": ("diversity, generated / real", "near 1"),
    "swd": ("SWD x 1000", "lower"),
    "mean": ("channel mean, generated / real", "near 1"),
    "deviation": ("channel deviation, generated / real", "near 1"),
    "nearest": ("distance to nearest real, generated / held out", "near 1"),
    "c_t": ("C_T (below -3: copies)", "near 0"),
}
"""What each metric is called in words, and which values are good. No "FID": that is a distance in another
network's features."""


ALPHA_LABELS = {
    "alpha_mean": ("alpha mean, generated / real", "near 1"),
    "alpha_deviation": ("alpha deviation, generated / real", "near 1"),
}
"""The same of what only images with alpha have."""
_ALL = LABELS | ALPHA_LABELS


def labels(features: str) -> dict[str, tuple[str, str]]:
    """``LABELS`` and ``ALPHA_LABELS`` as they are when images are compared in the features of this name."""
    return {name: (text.replace(CIFAR.name, features), better) for name, (text, better) in _ALL.items()}


SWD_IMAGES = 1000  # at most: 128 patches of each are sorted along 512 directions on each level


class Figures(NamedTuple):
    """A metric of several sets of generated images: mean, lowest and highest; the floor; images in each set."""

    value: float
    floor: float
    low: float
    high: float
    n: int


class Reals:
    """Real images in two disjoint halves. Generated images are compared with the first half.

    The floor is what the second half gets in their place. The second half also serves as held-out images: samples that
    lie nearer to the first half than it does are copies. This works, less clearly, for a generator that was trained on
    both halves, too.

    Args:
      take: from indices to images, uint8 (n, H, W, C), such as ``Store.take``.
      vectors: (N, D), the features of all N images.
      features: which features they are.
      num: how many images of each half are compared at most.
      groups: (N,) labels. Where there are many, no label is in both halves (see ``disjoint_halves``).
      seed: of all that is random here. The same images and seed give the same numbers.

    Attributes:
      features: which features the images are compared by.
      n: how many generated images are to be compared.
      images: the real images that they are compared with, uint8 (n, H, W, C).
      floor: the metrics of real images, by their names in ``labels``.

    Raises:
      InputError: fewer than 12 images.
    """

    def __init__(
        self,
        take: Callable[[np.ndarray], np.ndarray],
        vectors: np.ndarray,
        *,
        features: FeatureSet = CIFAR,
        num: int = 5000,
        groups: np.ndarray | None = None,
        seed: int = 0,
    ):
        self.features = features
        self._components = principal_components(vectors, features.components) if features.components else None
        vectors = self._reduced(vectors)
        first, second = disjoint_halves(len(vectors), groups, seed)
        self.n = min(num, len(first), len(second))
        if self.n < 6:
            raise InputError(
                f"at least 6 images must be compared with 6 others, but {len(vectors)} are too few for that"
            )
        part, other = first[: self.n], second[: self.n]
        self.images, self._vectors = take(part), vectors[part]
        self._take, self._all, self._seed = take, vectors, seed
        self._first, self._second = vectors[first], vectors[second]
        fresh, rest = self._second[::2], self._second[1::2]
        self.floor = self._compared(take(other), vectors[other], fresh, rest, self._far(rest))
        self._second_far = self._far(self._second)

    def compare(self, images: np.ndarray, vectors: np.ndarray) -> dict[str, float]:
        """The metrics of generated images, uint8 (n, H, W, C), and their features (n, D), by their names in ``labels``.

        What is not defined, such as a ratio to a spread of 0, is left out.
        """
        vectors = self._reduced(vectors)
        return self._compared(images, vectors, vectors, self._second, self._second_far)

    def figures(self, sets: Sequence[dict[str, float]]) -> dict[str, Figures]:
        """What ``compare`` says of several sets of samples of one generator, each metric beside its floor."""
        figures = {}
        for name, floor in self.floor.items():
            if values := [values[name] for values in sets if name in values]:
                n = min(self.n, SWD_IMAGES) if name == "swd" else self.n
                figures[name] = Figures(float(np.mean(values)), floor, min(values), max(values), n)
        return figures

    def closest(self, images: np.ndarray, vectors: np.ndarray, *, num: int) -> np.ndarray:
        """The ``num`` generated images that are most like one of all the real ones, each beside it.

        Each is looked for as it is and mirrored, and given as it was found.

        Returns:
          uint8 (num, 2, H, W, C), the closest pair first.
        """
        both = np.stack([images, images[:, :, ::-1]])
        both_vectors = np.concatenate([vectors, self.features.vectors(both[1])])
        closest = nearest(self._all, self._reduced(both_vectors))
        distances, indices = (part.reshape(2, len(images)) for part in closest)
        order = distances.min(0).argsort()[:num]
        side = distances.argmin(0)[order]
        return np.stack([both[side, order], self._take(indices[side, order])], axis=1)

    def _reduced(self, vectors):
        return vectors if self._components is None else (vectors - self._components[0]) @ self._components[1]

    def _far(self, vectors):
        return np.median(nearest(self._first, vectors)[0])

    def _compared(self, images, vectors, fresh, held_out, held_out_far):
        some = slice(min(self.n, len(images), SWD_IMAGES))
        with np.errstate(divide="ignore", invalid="ignore"):
            values = {
                "fd": frechet_distance(self._vectors, vectors),
                "kid": kernel_distance(self._vectors, vectors, seed=self._seed),
                **prdc(self._vectors, vectors)._asdict(),
                "diversity": diversity_ratio(self._vectors, vectors),
                "swd": sliced_wasserstein(self.images[some], images[some], seed=self._seed)["mean"],
                **_of_channels(self.images, images),
                "nearest": float(self._far(fresh) / held_out_far),
                "c_t": self._copying(held_out, fresh),
            }
        return {name: values[name] for name in _ALL if math.isfinite(values.get(name, math.nan))}

    def _copying(self, held_out, fresh):
        for cells in (5, 1):  # the global test where there are too few images for each cell
            try:
                return c_t(self._first, held_out, fresh, cells=cells, seed=self._seed)
            except InputError:
                continue
        return math.nan


def _of_channels(reals, images):
    """Means and deviations of colours, and those of alpha, where there is one."""
    ratios = dict(zip(("mean", "deviation"), channel_ratios(reals, images), strict=True))
    if not has_alpha(reals.shape[3]):
        return {name: _furthest(values) for name, values in ratios.items()}
    return {name: _furthest(values[:-1]) for name, values in ratios.items()} | {
        f"alpha_{name}": _furthest(values[-1:]) for name, values in ratios.items()
    }


def _furthest(ratios):
    """Of the channels' ratios, the one furthest from 1."""
    ratios = np.nan_to_num(ratios, nan=1.0)  # a channel that is black in all reals
    return float(ratios[np.abs(ratios - 1).argmax()])
