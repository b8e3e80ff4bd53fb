"""The map from pixels to the networks' range and back: 0..255, or 0..65535, to [-1, 1].

Images of two channels are grey and alpha, those of four are RGB and alpha. As uint8 their colours are what files hold.
As floats, which networks see, they are premultiplied: multiplied by alpha, where both run from 0 to 1. What lies under
alpha 0 is therefore -1, whatever a file has there.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from dcgan_jax.config import has_alpha

Array = TypeVar("Array", jax.Array, np.ndarray)

GROUNDS = (-1.0, 1.0)
"""Black and white: what is seen on both says all of a picture with alpha."""


def from_levels(levels: Array) -> Array:
    """Map floats from 0 (black) to 255 to [-1, 1]: the mean 0.5 and deviation 0.5 of the chapter."""
    return levels / 127.5 - 1


def to_levels(images: Array) -> Array:
    """Map floats in [-1, 1] to 0 to 255, without rounding."""
    return (images + 1) * 127.5


_LEVELS = np.arange(256, dtype=np.float32)
_TABLE = from_levels(_LEVELS)
_PREMULTIPLIED = from_levels(_LEVELS * (_LEVELS[:, None] / 255))  # of alpha and colour: a device takes the same bits


def from_uint8(pixels: Array) -> Array:
    """Map uint8 pixels (..., C) to float32 in [-1, 1]: 0 to -1, 255 to 1. On the device for a JAX array, to the same
    bits. Colours of images with alpha are premultiplied."""
    if not pixels.ndim or not has_alpha(pixels.shape[-1]):
        return _looked_up(_TABLE, pixels)
    xp, alpha = _numpy_of(pixels), pixels[..., -1:]
    alphas = xp.broadcast_to(alpha, pixels[..., :-1].shape)
    colours = _looked_up(_PREMULTIPLIED, alphas, pixels[..., :-1])
    return xp.concatenate([colours, _looked_up(_TABLE, alpha)], axis=-1)


def _numpy_of(array) -> Any:
    return jnp if isinstance(array, jax.Array) else np


def _looked_up(table, *pixels) -> Any:
    if isinstance(pixels[0], jax.Array):
        return jnp.asarray(table).at[pixels].get(mode="promise_in_bounds")
    return table[pixels]


# (2x - 65535) / 65535, rounded once. A program that divides by a constant may multiply by its inverse instead.
_TABLE_16 = ((2.0 * np.arange(65536) - 65535) / 65535).astype(np.float32)


def from_pixels(pixels: Array) -> Array:
    """Map pixels as a ``Store`` holds them to float32 in [-1, 1]: uint8 by ``from_uint8``, uint16 from 0 to 65535.

    On the device for a JAX array, to the same bits. uint16 images have no alpha.
    """
    if pixels.dtype == np.uint8:
        return from_uint8(pixels)
    return _looked_up(_TABLE_16, pixels)


def colour_groups(images: Array) -> list[Array]:
    """Images (..., C) as networks that know colours take them: as they are, if C is 1 or 3; else three channels at a
    time, where the last is repeated to fill a group."""
    channels = images.shape[-1]
    return [images] if channels in (1, 3) else [images[..., group] for group in group_numbers(channels)]


def group_numbers(channels: int) -> list[np.ndarray]:
    """The channels, from 0, of each group of ``colour_groups``."""
    return [np.arange(first, first + 3).clip(max=channels - 1) for first in range(0, channels, 3)]


def rounded_to_uint8(pixels: np.ndarray) -> np.ndarray:
    """uint8 pixels as they are; uint16 from 0 to 65535 to the nearest of 0 to 255."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_uint8(images: ArrayLike) -> np.ndarray:
    """Map float images (..., C) in [-1, 1] to uint8 in [0, 255], rounding; values outside are clipped.

    Colours of images with alpha are divided by it, as files have them, and 0 where alpha is 0.
    """
    levels = to_levels(np.asarray(images, np.float32))
    if levels.ndim and has_alpha(levels.shape[-1]):
        alpha = np.clip(levels[..., -1:], 0, 255)
        seen = np.round(alpha) > 0
        levels = np.concatenate([np.where(seen, levels[..., :-1] * (255 / np.where(seen, alpha, 1)), 0), alpha], -1)
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def on_ground(images: Array, ground: Array | float) -> Array:
    """Lay premultiplied images (..., 2 or 4), floats in [-1, 1], on a grey: (..., 1 or 3).

    Args:
      ground: in [-1, 1]; a number, or an array that has its place in the shape of ``images``.
    """
    xp, alpha = _numpy_of(images), images[..., -1:]
    return xp.minimum(images[..., :-1], alpha) + (1 - alpha) * ((ground + 1) / 2)


def opaque(pixels: np.ndarray, ground: float = 1.0) -> np.ndarray:
    """uint8 images as they look on a grey, by default on white: (..., 1 or 3). Those without alpha are as they were."""
    return to_uint8(on_ground(from_uint8(pixels), ground)) if has_alpha(pixels.shape[-1]) else pixels
