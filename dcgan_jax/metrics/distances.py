"""Distances between two sets of features, float (N, D). Those of images: ``image_distances.py``.

Sums are in float64. Whatever compares all pairs goes block by block, so that memory stays bounded.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dcgan_jax.system.errors import InputError

BLOCK = 1 << 24  # distances at a time: 128 MiB
_LEAST_FAKES = 20  # in a cell of C_T: fewer say nothing about it (the paper's tau)


class PRDC(NamedTuple):
    """Do fakes lie among the reals (precision, density)? Do fakes reach all reals (recall, coverage)?"""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians fitted to ``a`` and ``b``, (N, D) and (M, D); at least 0.

    |mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017). It is biased upwards for small
    sets: compare only numbers of the same N and M.

    Raises:
      InputError: fewer than two samples in a set.
    """
    a, b = _pair(a, b)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0))  # root @ root.T is cov_a
    cross = np.sqrt(np.linalg.eigvalsh(root.T @ cov_b @ root).clip(0)).sum()
    shift = a.mean(0) - b.mean(0)
    return max(0.0, float(shift @ shift + np.trace(cov_a + cov_b) - 2 * cross))


def kernel_distance(a: np.ndarray, b: np.ndarray, *, seed: int = 0, subsets: int = 100, size: int = 1000) -> float:
    """Kernel distance (KID, Binkowski et al. 2018) of ``a`` and ``b``, (N, D) and (M, D).

    The unbiased estimate of MMD^2 with the kernel (x.y / D + 1)^3, so about 0, and sometimes below, for sets
    of one distribution. The mean of ``subsets`` random subsets of ``size`` from each set (all of the smaller
    set where it has fewer).

    Raises:
      InputError: fewer than two samples in a set.
    """
    a, b = _pair(a, b)
    size = min(size, len(a), len(b))
    if size == len(a) == len(b):  # there is but one subset
        subsets = 1
    rng = np.random.default_rng(seed)

    def kernel(x, y):
        products = x @ y.T / x.shape[1] + 1
        return products * products * products  # ** 3 takes five times as long

    def within(x):
        products = kernel(x, x)
        return (products.sum() - np.trace(products)) / (size * (size - 1))

    total = 0.0
    for _ in range(subsets):
        x, y = (s[rng.choice(len(s), size, replace=False)] for s in (a, b))
        total += within(x) + within(y) - 2 * kernel(x, y).mean()
    return float(total / subsets)


def prdc(real: np.ndarray, fake: np.ndarray, k: int = 5) -> PRDC:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Around each sample lies a ball that reaches to its ``k``-th neighbour of the same set, (N, D) and (M, D).
    All are shares in [0, 1] but density, which may pass 1.

    Raises:
      InputError: a set has no more than ``k`` samples.
    """
    real, fake = _pair(real, fake, at_least=k + 1)
    real_radii, fake_radii = (_radii(x, k) for x in (real, fake))
    among, covered = np.zeros(len(fake)), np.empty(len(real), bool)
    reached = np.empty(len(real), bool)
    for rows, squared in _squared_distances(real, fake):
        inside = squared < real_radii[rows, None]
        among += inside.sum(0)
        covered[rows] = inside.any(1)
        reached[rows] = (squared < fake_radii).any(1)
    return PRDC(float((among > 0).mean()), float(reached.mean()), float(among.mean() / k), float(covered.mean()))


def _radii(x, k):
    """Squared distance of each sample to its ``k``-th neighbour; it is its own 0-th."""
    return np.concatenate([np.partition(squared, k, axis=1)[:, k] for _, squared in _squared_distances(x, x)])


def principal_components(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) and the ``count`` directions of the largest variance, (D, count), of ``vectors``, (N, D)."""
    mean = vectors.mean(0, np.float64)
    _, directions = np.linalg.eigh(np.cov(vectors, rowvar=False, dtype=np.float64))
    return mean, directions[:, : -count - 1 : -1]


def diversity_ratio(real: np.ndarray, fake: np.ndarray) -> float:
    """Mean distance between two generated samples over that between two real ones, (N, D) and (M, D).

    About 1 when all is well, 0 when a generator draws one picture only.
    """
    real, fake = _pair(real, fake)

    def spread(x):
        return sum(np.sqrt(squared).sum() for _, squared in _squared_distances(x, x)) / (len(x) * (len(x) - 1))

    return float(spread(fake) / spread(real))


def nearest(train: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The training sample nearest to each generated one: distances (M,) and indices (M,) into ``train``.

    To find mirrored copies too, let ``train`` hold the features of the mirrored images as well.
    """
    train, fake = _pair(train, fake, at_least=1)
    blocks = [(squared.min(1), squared.argmin(1)) for _, squared in _squared_distances(fake, train)]
    squared, indices = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return np.sqrt(squared), indices


def nearest_other(x: np.ndarray, rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The distance of some ``rows`` of ``x``, (N, D), to the nearest one of another group; inf where there is none.

    Args:
      groups: int (N,). For each its own: to the nearest other one.
    """
    x, _ = _pair(x, x, at_least=1)
    distances = []
    for part, squared in _squared_distances(x[rows], x):
        squared[groups[rows[part], None] == groups] = np.inf
        distances.append(np.sqrt(squared.min(1)))
    return np.concatenate(distances)


def c_t(train: np.ndarray, held_out: np.ndarray, fake: np.ndarray, *, cells: int = 5, seed: int = 0) -> float:
    """Data-copying statistic C_T (Meehan et al. 2020), about standard normal for a perfect model.

    Are generated samples nearer to the training set than fresh real ones are? The Z of a Mann-Whitney test,
    averaged over ``cells`` of a k-means of the training set (1: the global test), weighted by held-out
    samples. Below -3: copies. Above 3: further off than reals are (underfitted). It does not see a copy that
    is changed beyond what the features overlook, nor a few copies among many good samples.

    Raises:
      InputError: no cell holds enough samples of each kind.
    """
    train, held_out = _pair(train, held_out)
    train, fake = _pair(train, fake)
    centres = _cells(train, cells, seed)
    of_train, of_held_out, of_fake = (nearest(centres, x)[1] for x in (train, held_out, fake))
    scores, weights = [], []
    for cell in range(cells):
        t, h, f = train[of_train == cell], held_out[of_held_out == cell], fake[of_fake == cell]
        if len(t) and len(h) and len(f) >= _LEAST_FAKES:
            scores.append(mann_whitney(nearest(t, f)[0], nearest(t, h)[0]))
            weights.append(len(h))
    if not weights:
        raise InputError(f"C_T: none of {cells} cells holds enough of each set; use fewer cells or more images")
    return float(np.average(scores, weights=weights))


def mann_whitney(x: np.ndarray, y: np.ndarray) -> float:
    """Z of how often a value of ``x`` is above one of ``y``; a tie is half."""
    y = np.sort(y)
    above = (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")).sum() / 2
    pairs = len(x) * len(y)
    return (above - pairs / 2) / np.sqrt(pairs * (len(x) + len(y) + 1) / 12)


def _cells(x, k, seed):
    """The centres (k, D) of a k-means of ``x``."""
    if len(np.unique(x, axis=0)) < k:
        raise InputError(f"k-means: {len(x)} samples for {k} cells; use fewer cells or more different images")
    from scipy.cluster import vq  # which takes longer to import than JAX

    return vq.kmeans2(x, k, iter=50, minit="++", rng=np.random.default_rng(seed))[0]


def _pair(a, b, at_least=2):
    """Both as float64 (N, D), after a check."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), not {a.shape} and {b.shape}")
    if min(len(a), len(b)) < at_least:
        raise InputError(f"this metric needs at least {at_least} images in each set; there are {len(a)} and {len(b)}")
    return a, b


def _squared_distances(a, b) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances of a block of rows of ``a`` to all of ``b``, block by block: (slice, (rows, M))."""
    same, a, b = a is b, a - b[0], b - b[0]  # measured from one of them, equal rows are exactly 0 apart on every CPU
    norms, block = (b**2).sum(1), max(1, BLOCK // len(b))
    for start in range(0, len(a), block):
        rows = slice(start, min(start + block, len(a)))
        squared = (a[rows] ** 2).sum(1)[:, None] + norms - 2 * a[rows] @ b.T
        if same:
            np.fill_diagonal(squared[:, rows], 0)
        yield rows, squared.clip(0, out=squared)
