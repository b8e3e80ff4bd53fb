"""The direction of z along which images become like given ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import as_params, decode, floats, numbered
from dcgan_jax.gan.state import GANState, GeneratorParams
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import random_key, usual_numbers

_SAMPLES = 2048
_PIECE = 256  # of them in memory at a time
_COARSE = (8, 8)  # pixels: colours, and where they lie


@usual_numbers()
def direction_towards(params: GeneratorParams | GANState, images: jax.Array, away_from: Any = None) -> jax.Array:
    """The direction of z along which images become like ``images``, and less like ``away_from``.

    Of 2,048 samples it is measured how much they are like the one group rather than the other, in the features of the
    CIFAR-10 classifier and in 8x8 pixels; the direction is that along which this grows most (a linear regression on z).
    Three images on each side are enough where the difference is plain; what all images of a side happen to share
    is followed too. With a from -3 to 3 ``decode(params, z + a * direction)`` is a clear change.

    Args:
      params: as for ``sample``; of any network.
      images: float (N, H, W, C) in [-1, 1], of the shape that the generator draws, N at least 1.
      away_from: as many others as you like; by default the samples.

    Returns:
      float32 (latent_dim,), a unit vector.

    Raises:
      InputError: an argument has the wrong type or shape, or the generator draws nothing that is more like one group.
    """
    params = as_params(params)
    groups = [_checked(params, "images", images)]
    groups += [] if away_from is None else [_checked(params, "away_from", away_from)]
    z, labels = numbered(params, random_key(0), _SAMPLES, 0)
    parts = [slice(i, i + _PIECE) for i in range(0, _SAMPLES, _PIECE)]
    drawn = [_views(decode(params, z[part], labels=None if labels is None else labels[part])) for part in parts]
    samples = [np.concatenate(view) for view in zip(*drawn)]
    to, *start = [[view.mean(0) for view in _views(group)] for group in groups]
    start = start[0] if start else [view.mean(0) for view in samples]
    likeness = sum(_standard(view @ (a - b)) for view, a, b in zip(samples, to, start))
    way = np.asarray(z, np.float64).T @ likeness
    if not (length := np.linalg.norm(way)) > 0:
        raise InputError("no sample is more like the one group of images than like the other: give groups that differ")
    return jnp.asarray(way / length, jnp.float32)


def _checked(params: GeneratorParams, name: str, images: Any) -> jax.Array:
    images = floats(name, images)
    if images.shape[1:] != params.image_shape or not len(images):
        shape = ", ".join(map(str, params.image_shape))
        raise InputError(f"{name} must be of the shape (N, {shape}), N at least 1, not {images.shape}")
    return images


def _views(images: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Features and coarse pixels of (N, H, W, C): (N, D), (N, 64 · C)."""
    coarse = jax.image.resize(images, (len(images), *_COARSE, images.shape[3]), "linear")
    views = CIFAR.vectors(to_uint8(images)), np.asarray(coarse).reshape(len(images), -1)
    return views[0].astype(np.float64), views[1].astype(np.float64)


def _standard(values: np.ndarray) -> np.ndarray:
    """With mean 0 and deviation 1; zeros where all are the same but for rounding."""
    values = values - values.mean()
    return values / values.std() if values.std() > 1e-9 else np.zeros_like(values)
