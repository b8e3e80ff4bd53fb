"""A few metrics of a generator while it trains, cheap enough to be taken often."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.data.split import disjoint_halves, held_out
from dcgan_jax.data.store import Store
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.pixels import from_pixels, to_uint8
from dcgan_jax.gan.sampling import sample, sample_labels
from dcgan_jax.gan.state import GANState, ProjectedState
from dcgan_jax.metrics.distances import diversity_ratio, frechet_distance, kernel_distance, prdc
from dcgan_jax.metrics.features import features
from dcgan_jax.system.xla import random_key

_REALS, _FAKES = 2048, 1024
LEAST = 12
"""How many images a store must have to be compared with."""


class Monitor:
    """Compares a generator with one half of the real images. ``Reals`` compares with the other half.

    These numbers choose the best checkpoint; ``evaluate`` then measures it with images that had no part in the choice.
    The noise is the same at every step, so that two steps differ by their weights alone.

    Args:
      store: the images, at least ``LEAST``.
      held_out_images: how many were kept out of training, as in ``Config``, like ``conditional``.

    Attributes:
      floor: ``kid_floor``, ``fd_floor`` and so on: what real images of the other half get in place of samples.
    """

    def __init__(self, store: Store, *, held_out_images: int, conditional: bool = False):
        other, half = disjoint_halves(len(store), store.labels)
        self._reals = features(store.take_uint8(half[:_REALS]))
        self._n = min(_FAKES, len(other))
        floor = self._compared(features(store.take_uint8(other[: self._n])))
        self.floor = {f"{name}_floor": value for name, value in floor.items()}
        train, others = held_out(store, held_out_images, conditional=conditional)
        pick = np.random.default_rng(0).choice(len(train), min(len(others), len(train)), replace=False)
        self._trained, self._held_out = store.take(train[pick]), store.take(others)
        self._labels = store.labels[train[pick]], store.labels[others]

    def __call__(self, state: GANState) -> dict[str, float]:
        """``kid``, ``fd``, ``precision``, ``recall``, ``coverage`` and ``diversity`` of the averaged weights.

        Also the floor of each, and, where images are held out, ``memory``: (t - h) / (t - g), where t, h and g are the
        mean logits of images that the discriminator was trained on, of those held out, and of generated ones. 0 is
        healthy. At 1 it takes held-out images for generated ones. ``memory_heads`` is that of a second discriminator.
        """
        params = generator_params(state, num=_FAKES)
        images = sample(params, random_key(0), self._n)
        values = {**self._compared(features(to_uint8(images))), **self.floor}
        if len(self._held_out):
            fakes = np.asarray(images[: len(self._held_out)])
            sets, labels = (from_pixels(self._trained), from_pixels(self._held_out), fakes), (None, None, None)
            if state.classes:
                labels = *self._labels, sample_labels(params, random_key(0), len(fakes))
            values |= _memory(state, list(zip(sets, labels)))
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _compared(self, fakes):
        near = prdc(self._reals, fakes)
        return {
            "kid": kernel_distance(self._reals, fakes, subsets=20),
            "fd": frechet_distance(self._reals, fakes),
            "precision": near.precision,
            "recall": near.recall,
            "coverage": near.coverage,
            "diversity": diversity_ratio(self._reals, fakes),
        }


def _memory(state, sets):
    """``memory`` by images trained on, those held out and generated ones, each with their labels, if there are any."""
    logits = [judge(state, *some) for some in sets]
    shares = {}
    for name in logits[0]:
        trained, unseen, fake = (float(means[name]) for means in logits)
        shares[f"memory{name}"] = (trained - unseen) / (trained - fake) if trained > fake else math.nan
    return shares


@jax.jit
def judge(state: GANState, images: jax.Array, labels: jax.Array | None = None) -> dict[str, jax.Array]:
    """The mean logit of images by each discriminator, under what the names of its metrics end in.

    With ``labels``, as a conditional run has them, the logits of these.
    """
    logits = {"": state.discriminator(images, train=False)[0]}
    if isinstance(state, ProjectedState):
        logits["_heads"] = state.heads(state.features(images), train=False)[0]
    if labels is not None:
        logits = {name: state.classes.chosen(x, labels) for name, x in logits.items()}
    return {name: jnp.mean(x) for name, x in logits.items()}
