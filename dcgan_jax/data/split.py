"""Images that are kept out of training."""

import numpy as np

from dcgan_jax.data.store import Store

_LEAST = 32  # fewer say nothing
_SHARE = 20  # at most one image of so many


def held_out(store: Store, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the images to train on, in order, and of those held out: int (N - H,), (H,).

    H is at most ``most`` and a twentieth of all. None are held out where that is fewer than 32. With 100 labels
    or more, no label has images on both sides, so that variants of one thing are not.
    """
    every, most = np.arange(len(store)), min(most, len(store) // _SHARE)
    if most < _LEAST:
        return every, every[:0]
    order = np.random.default_rng(0).permutation(len(store))
    if len(names := np.unique(store.labels)) >= 100:
        rank = np.random.default_rng(0).permutation(len(names))
        order = order[np.argsort(rank[np.searchsorted(names, store.labels[order])], kind="stable")]
        ends = np.flatnonzero(np.diff(store.labels[order])) + 1  # where a label ends
        most = max((int(end) for end in ends if end <= most), default=0)
    kept = order[:most]
    return np.setdiff1d(every, kept), np.sort(kept)
