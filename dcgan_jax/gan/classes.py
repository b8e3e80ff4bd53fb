"""The classes of a conditional run, and how both networks see them (Mirza & Osindero 2014; Miyato & Koyama 2018).

The generator gets 1 for its class and 0 for the others beside z: rows of its first matrix. The discriminator gives a
logit for each class, of which that of the image's class counts.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.system.errors import InputError, nearest, place_of, shortened

_NO_Z = 2**31 - 1  # what is folded into a key to draw a class: z takes the key itself


@dataclasses.dataclass(frozen=True)
class Classes:
    """What classes there are; none (``len`` 0) in a run that is not conditional.

    A label is the number of a class, from 0.

    Attributes:
      names: of the classes, in the order of their labels.
      counts: how many images each has.
      balanced: whether training shows each class equally often, not as often as it has images.
    """

    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    balanced: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def draw(self, key: jax.Array, num: int, *, as_trained: bool = False) -> jax.Array:
        """Draw labels as often as the classes have images, or ``as_trained``: int32 (num,).

        ``key`` may also be that of z.
        """
        counts = np.ones(len(self)) if as_trained and self.balanced else np.asarray(self.counts, float)
        ends = (counts.cumsum() / counts.sum()).astype(np.float32)
        chance = jax.random.uniform(jax.random.fold_in(key, _NO_Z), (num,))
        return jnp.searchsorted(jnp.asarray(ends[:-1]), chance, side="right").astype(jnp.int32)

    def beside(self, z: jax.Array, labels: jax.Array | None) -> jax.Array:
        """What the generator takes: float32 (N, latent_dim + classes), z itself where there are no classes.

        Args:
          z: (N, latent_dim).
          labels: int32 (N,), or float32 (N, classes), how much of each class.
        """
        if not len(self):
            return z
        assert labels is not None
        weights = jax.nn.one_hot(labels, len(self)) if labels.ndim == 1 else labels
        return jnp.concatenate([z, weights.astype(z.dtype)], axis=1)

    def chosen(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Of logits (N, ..., n · classes), those of each image's class: (N, ..., n)."""
        logits = logits.reshape(*logits.shape[:-1], -1, len(self))
        wanted = jax.nn.one_hot(labels, len(self), dtype=logits.dtype)
        return (logits * wanted.reshape(len(labels), *[1] * (logits.ndim - 2), -1)).sum(-1)

    def label(self, name: str) -> int:
        """The label of a class, however its accents are written: as characters of their own, as on a Mac, or not.

        Raises:
          InputError: there is none of this name; the message has those that are nearest, or all if they are few.
        """
        if (place := place_of(name, self.names)) is not None:
            return place
        if not len(self):
            raise InputError(f"there is no class {shortened(name)!r}: the run is not conditional")
        raise InputError(f"there is no class {shortened(name)!r}: choose {nearest(name, self.names)}")

    def labels(self, given: Any, num: int) -> jax.Array | None:
        """The labels that a user means, for ``num`` images: int32 (num,), or float32 (num, classes); None without.

        Args:
          given: one label or name for all images; one for each; or how much of each class, (num, classes).

        Raises:
          InputError: there is no such class, it has another shape, or classes are given where there are none.
        """
        if not len(self):
            if given is not None:
                raise InputError("labels are for a conditional run, which this is not: leave labels= or --class out")
            return None
        named = given.tolist() if isinstance(given, np.ndarray) and given.dtype.kind == "U" else given
        if isinstance(named, str):
            named = self.label(named)
        elif isinstance(named, list | tuple) and named and all(isinstance(one, str) for one in named):
            named = [self.label(one) for one in named]
        try:
            array = np.asarray(named)
        except ValueError:
            array = np.asarray("")
        if array.dtype.kind in "iu" and array.shape in ((), (num,)):
            if array.size and not 0 <= array.min() <= array.max() < len(self):
                raise InputError(f"labels must lie in [0, {len(self) - 1}], or be names of classes")
            return jnp.broadcast_to(jnp.asarray(array, jnp.int32), (num,))
        if array.dtype.kind == "f" and array.shape == (num, len(self)) and np.isfinite(array).all():
            return jnp.asarray(array, jnp.float32)
        raise InputError(
            f"labels must be one class or one for each of {num} images, as numbers or names, or how much of each "
            f"class, ({num}, {len(self)}), not {repr(given)[:40]}"
        )


NO_CLASSES = Classes()
"""Those of a run that is not conditional."""
