"""The map from pixels to the networks' range and back: 0..255 to [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np

# The chapter's mean 0.5 and deviation 0.5, after a division by 255.
_TABLE = np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1)


def from_uint8(pixels):
    """Map uint8 pixels to float32 in [-1, 1]: 0 to -1, 255 to 1. On the device for a JAX array, to the same bits."""
    if isinstance(pixels, jax.Array):
        return jnp.asarray(_TABLE).at[pixels].get(mode="promise_in_bounds")
    return _TABLE[pixels]


def to_uint8(images) -> np.ndarray:
    """Map float images in [-1, 1] to uint8 in [0, 255], rounding; values outside are clipped."""
    return np.clip(np.round((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)
