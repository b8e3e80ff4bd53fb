"""Which of many samples to keep: those that are most like real images.

Each sample that is kept is matched with a real image of its own. Those that are nearest to any real image at all would
be the simplest ones, plain skies and small figures, and those of the highest logits the strangest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from dcgan_jax.data.store import Store
from dcgan_jax.gan.opinion import Opinion
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import check_numbers, decode, numbered
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.system.errors import InputError

TOGETHER = 64
"""Images that are chosen together, each for a real one of its own."""
_PIECE = 512  # candidates that are in memory at a time
_WEIGHT = 0.05  # of a deviation of the logits, beside the mean distance in features: docs/results/choosing.md


def matched(
    reals: np.ndarray,
    vectors: np.ndarray,
    logits: np.ndarray | None = None,
    *,
    weight: float = _WEIGHT,
    fits: np.ndarray | None = None,
) -> np.ndarray:
    """For each real image a sample that no other has: int (N,), indices of the samples.

    The sum of the distances in features, of which the mean is 1, is as small as it can be.

    Args:
      reals: features of the real images, (N, D).
      vectors: those of M samples, at least N, (M, D).
      logits: of the samples, (M,), higher for real.
      weight: of a standard deviation of the logits: so much shorter a distance counts.
      fits: which samples each real image may get, bool (N, M); all by default.
    """
    cost = cdist(reals, vectors)
    cost /= cost.mean()
    if logits is not None:
        cost -= weight * (logits - logits.mean()) / (logits.std() + 1e-9)
    if fits is not None:
        cost[~fits] = np.inf
    return linear_sum_assignment(cost)[1]


class Best(NamedTuple):
    """Draws images of a generator that are the best of many.

    64 are chosen together, of 64 / ``share`` candidates that are drawn for them. Each is matched with a real image of
    its own: so that all distances in CIFAR features are small and, where there is an ``opinion``, all logits high.

    Attributes:
      params: of the generator.
      store: the real images.
      share: of those drawn that are kept, between 0 and 1.
      opinion: of the discriminator that sees features, if there is one.
    """

    params: GeneratorParams
    store: Store
    share: float
    opinion: Opinion | None = None

    def __call__(self, key: jax.Array, num: int, *, start: int = 0, labels: str | int | None = None) -> jax.Array:
        """Images ``start`` to ``start + num`` of a key: float32 (num, H, W, C), as of ``sample``.

        Image ``i`` depends on what ``Best`` has, the key, ``i`` and ``labels``, not on ``num`` and ``start``.

        Args:
          labels: of a conditional run, the class of all images. Without, they are those of ``sample_labels``.

        Raises:
          InputError: an argument has the wrong type or value.
        """
        num, start = check_numbers(key, num, start)
        if labels is not None and np.ndim(labels):
            raise InputError("labels must be one class, which all images are of")
        groups = range(start // TOGETHER, -(-(start + num) // TOGETHER))
        images = jnp.concatenate([self._group(key, number, labels) for number in groups])
        return images[start - groups[0] * TOGETHER :][:num]

    def _group(self, key, number, labels):
        """Images 64 · ``number`` to 64 · ``number`` + 63."""
        params, total = self.params, int(np.ceil(TOGETHER / self.share))
        places = np.arange(number * TOGETHER, (number + 1) * TOGETHER)
        z, _ = numbered(params, key, total, number * total)
        wanted = numbered(params, key, TOGETHER, places[0])[1] if labels is None else labels
        wanted = params.classes.labels(wanted, TOGETHER)
        classes = None if wanted is None else np.asarray(wanted)
        of_each = None if classes is None else classes[np.arange(total) * TOGETHER // total]
        vectors, said = self._judged(z, of_each)
        fits = None if classes is None else classes[:, None] == of_each
        chosen = matched(CIFAR.vectors(self._reals(places, classes)), vectors, said, fits=fits)
        return decode(params, z[chosen], labels=wanted)

    def _judged(self, z, labels):
        """The features of the images of z, (N, D), and their logits, (N,), or None."""
        vectors, said = [], []
        for i in range(0, len(z), _PIECE):
            part = None if labels is None else labels[i : i + _PIECE]
            images = decode(self.params, z[i : i + _PIECE], labels=part)
            vectors.append(CIFAR.vectors(to_uint8(images)))
            if self.opinion:
                said.append(self.opinion(images, part))
        return np.concatenate(vectors), np.concatenate(said) if said else None

    def _reals(self, places, classes):
        """The real image that each place is for, of the same class: uint8 (64, H, W, C)."""
        order = np.random.default_rng(0).permutation(len(self.store))
        if classes is None:
            return self.store.take_uint8(order[places % len(order)])
        members = [order[self.store.labels[order] == label] for label in range(len(self.params.classes))]
        return self.store.take_uint8([members[label][i % len(members[label])] for i, label in zip(places, classes)])
