"""Splits of the images: those that are held out of training, and the halves that metrics compare.

Many labels name single things, such as a kind of creature, whose images are variants of each other: these must not be
on both sides. Few labels name classes: sides with different classes could not be compared.
"""

import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data.store import Store
from dcgan_jax.gan.classes import Classes
from dcgan_jax.system.errors import InputError, printable

_VARIANTS = 100
"""So many labels or more are many."""
_LEAST = 32  # fewer say nothing
_SHARE = 20  # at most one image of so many


def check_classes(config: Config, store: Store) -> Classes:
    """The classes of a conditional run.

    Raises:
      InputError: some images have no label, or all the same one.
    """
    counts = dict(zip(store.classes.names, store.classes.counts, strict=True))
    if len(counts) > 1 and (without := counts.get("")):
        raise InputError(
            f"--conditional learns classes, but {without:,} of the {len(store):,} images of {printable(config.data)} "
            "have no label: put each into the folder of its class, or give it one in its table or archive, or take "
            "them out; or leave --conditional out"
        )
    if len(counts) < 2:
        raise InputError(
            f"--conditional learns classes, but the images of {printable(config.data)} have no labels, or one alone: "
            "put them into a folder for each class, or use a data set with labels; or leave --conditional out"
        )
    return store.classes


def held_out(store: Store, most: int, *, conditional: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to train on, in order, and of those held out: int (N - H,), (H,).

    H is at most ``most`` and a twentieth of all. None are held out where that is fewer than 32. With 100 labels
    or more, no label has images on both sides. A ``conditional`` run learns each label: none is held out whole, and
    each has at least half of its images among those to train on.
    """
    every, most = np.arange(len(store)), min(most, len(store) // _SHARE)
    if most < _LEAST:
        return every, every[:0]
    order, (group, counts) = np.random.default_rng(0).permutation(len(store)), _groups(store.labels)
    if conditional:
        order = order[_first_halves(store.labels[order])]
    elif len(counts) >= _VARIANTS:
        rank = np.random.default_rng(0).permutation(len(counts))
        order = order[np.argsort(rank[group[order]], kind="stable")]
        ends = np.flatnonzero(np.diff(store.labels[order])) + 1  # where a label ends
        most = max((int(end) for end in ends if end <= most), default=0)
    others = order[:most]
    return np.setdiff1d(every, others), np.sort(others)


def _groups(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels by the order in which they first appear, int (N,), and how many images each has, int (K,).

    So what they are called, and how they are numbered, changes no split: runs go on with theirs.
    """
    _, first, group, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return np.argsort(order)[group], counts[order]


def _first_halves(labels: np.ndarray) -> np.ndarray:
    """Where, in a list of labels, the first half of each lies: bool (N,)."""
    counts, places = np.bincount(labels), np.empty(len(labels), int)
    places[np.argsort(labels, kind="stable")] = np.arange(len(labels)) - np.repeat(counts.cumsum() - counts, counts)
    return places < counts[labels] // 2


def groups_of(labels: np.ndarray) -> np.ndarray | None:
    """Which images are variants of each other, int (N,): those of one label, where there are many; else None."""
    group, counts = _groups(labels)
    return group if len(counts) >= _VARIANTS else None


def disjoint_halves(n: int, labels: np.ndarray | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random halves of ``range(n)``, int index arrays: what a floor is measured on.

    With ``labels``, (n,), of which there are 100 or more, no label has images on both sides. Where one label has more
    than a quarter of the images, labels are not looked at.
    """
    order = np.random.default_rng(seed).permutation(n)
    if labels is None:
        return order[: n // 2], order[n // 2 :]
    group, counts = _groups(np.asarray(labels))
    if len(group) != n:
        raise ValueError(f"{len(group)} labels for {n} images")
    if len(counts) < _VARIANTS or counts.max() > n // 4:
        return disjoint_halves(n, None, seed)
    side, sizes = np.empty(len(counts), int), np.zeros(2, int)
    shuffled = np.random.default_rng((seed, 1)).permutation(len(counts))
    for i in shuffled[np.argsort(-counts[shuffled], kind="stable")]:  # large ones first: the sides come out even
        side[i] = sizes.argmin()
        sizes[side[i]] += counts[i]
    return order[side[group[order]] == 0], order[side[group[order]] == 1]
