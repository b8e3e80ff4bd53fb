"""Distances between two sets: of features, float (N, D), or of images, (N, H, W, C).

NumPy alone; sums in float64. Whatever compares all pairs goes block by block, so that memory stays bounded.
"""

import functools
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from typing import NamedTuple

import numpy as np

from dcgan_jax.system.errors import InputError

_BLOCK = 1 << 24  # distances at a time: 128 MiB
_MIN_GROUPS = 50
_LEAST_FAKES = 20  # in a cell of C_T: fewer say nothing about it (the paper's tau)
_PATCH, _PATCHES, _SMALLEST = 7, 128, 16  # of the sliced Wasserstein distance: pixels, per image, pixels
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


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
    found = [(squared.min(1), squared.argmin(1)) for _, squared in _squared_distances(fake, train)]
    squared, indices = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.sqrt(squared), indices


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
    centres = _kmeans(train, cells, np.random.default_rng(seed))
    of_train, of_held_out, of_fake = (nearest(centres, x)[1] for x in (train, held_out, fake))
    scores, weights = [], []
    for cell in range(cells):
        t, h, f = train[of_train == cell], held_out[of_held_out == cell], fake[of_fake == cell]
        if len(t) and len(h) and len(f) >= _LEAST_FAKES:
            scores.append(_mann_whitney(nearest(t, f)[0], nearest(t, h)[0]))
            weights.append(len(h))
    if not weights:
        raise InputError(f"C_T: none of {cells} cells holds enough of each set; use fewer cells or more images")
    return float(np.average(scores, weights=weights))


def _mann_whitney(x, y):
    """Z of how often a value of ``x`` is above one of ``y``; a tie is half."""
    y = np.sort(y)
    above = (np.searchsorted(y, x, "left") + np.searchsorted(y, x, "right")).sum() / 2
    pairs = len(x) * len(y)
    return (above - pairs / 2) / np.sqrt(pairs * (len(x) + len(y) + 1) / 12)


def _kmeans(x, k, rng):
    """Centres (k, D): each start far from those before (k-means++), then Lloyd's steps."""
    if len(x) < k:
        raise InputError(f"k-means: {len(x)} samples for {k} cells; use fewer cells or more images")
    centres = x[rng.integers(len(x), size=1)]
    while len(centres) < k:
        weights = nearest(centres, x)[0] ** 2 + 1e-12
        centres = np.concatenate([centres, x[rng.choice(len(x), size=1, p=weights / weights.sum())]])
    for _ in range(50):
        cell = nearest(centres, x)[1]
        moved = np.stack([x[cell == i].mean(0) if (cell == i).any() else centres[i] for i in range(k)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def channel_ratios(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the channels, generated over real: two float64 (C,), about 1 when all is well.

    Images are uint8 or in [-1, 1], (N, H, W, C); means are taken from black = 0. NaN where the reals' is 0.
    """

    def moments(images):
        levels = images if images.dtype == np.uint8 else (images.astype(np.float64) + 1) * 127.5
        squares = np.einsum("n...,n...->...", levels, levels, dtype=np.float64, casting="same_kind") / len(levels)
        means = levels.mean(0, np.float64).mean((0, 1))  # over the images first: ten times as fast as all at once
        return np.stack([means, np.sqrt((squares.mean((0, 1)) - means**2).clip(0))])

    ours, theirs = moments(np.asarray(fake)), moments(np.asarray(real))
    means, deviations = np.divide(ours, theirs, out=np.full_like(theirs, np.nan), where=theirs > 0)
    return means, deviations


def sliced_wasserstein(real: np.ndarray, fake: np.ndarray, *, seed: int = 0) -> dict[int | str, float]:
    """Sliced Wasserstein distance x 1000 as Karras et al. 2018 (progressive GAN, section 5) define it.

    Random 7x7 patches of each level of a Laplacian pyramid down to 16 pixels, 128 an image; each set is
    normalised by its own channel means and deviations, which makes the measure blind to colour casts and
    contrast (see ``channel_ratios``). Sorted projections on 4 x 128 random directions are compared.

    Args:
      real, fake: uint8 or [-1, 1], both (N, H, W, C), sides at least 16. 147 floats x 128 x N are in memory.

    Returns:
      {height in pixels: distance, ..., "mean": their mean}, the finest level first.

    Raises:
      InputError: sets of different shape, or images below 16 pixels.
    """
    real, fake = np.asarray(real), np.asarray(fake)
    if real.shape != fake.shape or min(real.shape[1:3]) < _SMALLEST:
        raise InputError(f"SWD wants two sets of one shape, 16 pixels or more; these are {real.shape} and {fake.shape}")
    rng = np.random.default_rng(seed)
    levels: dict[int | str, float] = {}
    for level in range(_levels(real)):
        a, b = (_patches(images, level, rng) for images in (real, fake))
        directions = rng.standard_normal((4, 128, a.shape[1])).astype(np.float32)
        with ThreadPool() as threads:  # NumPy sorts without holding the interpreter's lock
            levels[real.shape[1] >> level] = 1e3 * float(
                np.mean(threads.map(functools.partial(_slice, a, b), directions))
            )
    levels["mean"] = float(np.mean(list(levels.values())))
    return levels


def _levels(images):
    side, levels = np.array(images.shape[1:3]), 1
    while (side % 2 == 0).all() and side.min() // 2 >= _SMALLEST:
        side, levels = side // 2, levels + 1
    return levels


def _slice(a, b, directions):
    directions = directions / np.sqrt((directions**2).sum(1))[:, None]
    a, b = (directions @ x.T for x in (a, b))
    return np.mean([_sorted_distance(*pair) for pair in zip(a, b, strict=True)])


def _sorted_distance(a, b):
    """Mean distance of the sorted values of both, to 16 bits: those NumPy sorts by radix, up to ten times as fast.

    That changes the distance between two sets of images by a few millionths of itself.
    """
    step = np.abs([a.max(), a.min(), b.max(), b.min()]).max() / np.iinfo(np.int16).max
    if not 0 < step < np.inf:
        return 0.0 if step == 0 else np.nan
    a, b = (np.rint(x / step).astype(np.int16) for x in (a, b))
    a.sort(kind="stable")
    b.sort(kind="stable")
    return step * np.abs(np.subtract(a, b, dtype=np.int32)).mean()


def _patches(images, level, rng):
    """Normalised 7x7 patches of one level of the pyramid, float32 (128 N, 49 C)."""
    parts = []
    for start in range(0, len(images), 128):
        part = _laplacian(images[start : start + 128].astype(np.float32), level, _levels(images))
        of = np.repeat(np.arange(len(part)), _PATCHES)[:, None, None]
        top, left = (rng.integers(0, side - _PATCH + 1, len(of))[:, None, None] for side in part.shape[1:3])
        parts.append(part[of, top + np.arange(_PATCH)[:, None], left + np.arange(_PATCH)])
    patches = np.concatenate(parts).reshape(len(images) * _PATCHES, -1)
    channels = images.shape[3]  # of a row, where they alternate: as rows they are summed ten times as fast

    def spread(means):
        return np.tile(means.reshape(-1, channels).mean(0), patches.shape[1] // channels).astype(np.float32)

    patches -= spread(patches.mean(0, np.float64))
    squares = np.einsum("np,np->p", patches, patches, dtype=np.float64, casting="same_kind")
    deviation = np.sqrt(spread(squares / len(patches)))
    patches /= np.where(deviation > 0, deviation, 1)
    return patches


def _laplacian(images, level, levels):
    """Level ``level`` of ``levels``: what the next coarser one lacks; the coarsest is the image itself."""
    for _ in range(level):
        images = _blur(images)[:, ::2, ::2]
    if level == levels - 1:
        return images
    stuffed = np.zeros_like(images)
    stuffed[:, ::2, ::2] = _blur(images)[:, ::2, ::2]
    return images - 4 * _blur(stuffed)


def _blur(images):
    """5x5 binomial filter; at the border the image is mirrored about its last pixel."""
    for axis in (1, 2):
        margin = [(2, 2) if i == axis else (0, 0) for i in range(4)]
        padded, length = np.pad(images, margin, mode="reflect"), images.shape[axis]
        shifted = (padded[(slice(None),) * axis + (slice(i, i + length),)] for i in range(5))
        images = functools.reduce(np.add, (weight * part for weight, part in zip(_BINOMIAL, shifted, strict=True)))
    return images


def disjoint_halves(n: int, groups: np.ndarray | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random halves of ``range(n)``, int index arrays: what a floor is measured on.

    With ``groups``, (n,) labels, no group has members on both sides, so that variants of one thing are not
    compared with each other. With fewer than 50 groups (classes, say) that would compare different
    things, so they are not looked at; nor where one group outweighs all others.
    """
    order = np.random.default_rng(seed).permutation(n)
    if groups is None:
        return order[: n // 2], order[n // 2 :]
    _, group, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(group) != n:
        raise ValueError(f"{len(group)} groups for {n} images")
    if len(counts) < _MIN_GROUPS or counts.max() > n // 4:
        return disjoint_halves(n, None, seed)
    side, sizes = np.empty(len(counts), int), np.zeros(2, int)
    shuffled = np.random.default_rng((seed, 1)).permutation(len(counts))
    for i in shuffled[np.argsort(-counts[shuffled], kind="stable")]:  # large ones first: the sides come out even
        side[i] = sizes.argmin()
        sizes[side[i]] += counts[i]
    return order[side[group[order]] == 0], order[side[group[order]] == 1]


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
    norms, block = (b**2).sum(1), max(1, _BLOCK // len(b))
    for start in range(0, len(a), block):
        rows = slice(start, min(start + block, len(a)))
        squared = (a[rows] ** 2).sum(1)[:, None] + norms - 2 * a[rows] @ b.T
        if same:
            np.fill_diagonal(squared[:, rows], 0)
        yield rows, squared.clip(0, out=squared)
