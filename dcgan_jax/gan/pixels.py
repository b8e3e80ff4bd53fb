"""The map from pixels to the networks' range and back: 0..255 to [-1, 1]."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

Array = TypeVar("Array", jax.Array, np.ndarray)


def from_levels(levels: Array) -> Array:
    """Map floats from 0 (black) to 255 to [-1, 1]: the mean 0.5 and deviation 0.5 of the chapter."""
    return levels / 127.5 - 1


def to_levels(images: Array) -> Array:
    """Map floats in [-1, 1] to 0 to 255, without rounding."""
    return (images + 1) * 127.5


_TABLE = from_levels(np.arange(256, dtype=np.float32))


def from_uint8(pixels: Array) -> Array:
    """Map uint8 pixels to float32 in [-1, 1]: 0 to -1, 255 to 1. On the device for a JAX array, to the same bits."""
    if isinstance(pixels, jax.Array):
        return jnp.asarray(_TABLE).at[pixels].get(mode="promise_in_bounds")
    return _TABLE[pixels]


def to_uint8(images: ArrayLike) -> np.ndarray:
    """Map float images in [-1, 1] to uint8 in [0, 255], rounding; values outside are clipped."""
    return np.clip(np.round(to_levels(np.asarray(images, np.float32))), 0, 255).astype(np.uint8)
