"""Distances between two sets of images, (N, H, W, C): of their colours, and of their patches."""

import functools
from multiprocessing.pool import ThreadPool

import numpy as np
from scipy import ndimage

from dcgan_jax.config import has_alpha
from dcgan_jax.gan.pixels import from_uint8, to_levels
from dcgan_jax.system.errors import InputError

_PATCH, _PATCHES, _SMALLEST = 7, 128, 16  # of the sliced Wasserstein distance: pixels, per image, pixels
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def channel_ratios(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the channels, generated over real: two float64 (C,), about 1 when all is well.

    Images are uint8 or in [-1, 1], (N, H, W, C); means are taken from black = 0. NaN where the reals' is 0. Of images
    with alpha the colours are premultiplied: those seen on black.
    """

    def moments(images):
        images = _premultiplied(images)
        levels = images if images.dtype == np.uint8 else to_levels(images.astype(np.float64))
        squares = np.einsum("n...,n...->...", levels, levels, dtype=np.float64, casting="same_kind") / len(levels)
        means = levels.mean(0, np.float64).mean((0, 1))  # over the images first: ten times as fast as all at once
        return np.stack([means, np.sqrt((squares.mean((0, 1)) - means**2).clip(0))])

    ours, theirs = moments(np.asarray(fake)), moments(np.asarray(real))
    means, deviations = np.divide(ours, theirs, out=np.full_like(theirs, np.nan), where=theirs > 0)
    return means, deviations


def _premultiplied(images):
    """What lies under alpha 0 has no part in a distance. Images without alpha, and floats, are as they were."""
    return from_uint8(images) if has_alpha(images.shape[3]) and images.dtype == np.uint8 else images


def sliced_wasserstein(real: np.ndarray, fake: np.ndarray, *, seed: int = 0) -> dict[int | str, float]:
    """Sliced Wasserstein distance x 1000 as Karras et al. 2018 (progressive GAN, section 5) define it.

    Random 7x7 patches of each level of a Laplacian pyramid down to 16 pixels, 128 an image; each set is
    normalised by its own channel means and deviations, which makes the measure blind to colour casts and
    contrast (see ``channel_ratios``). Sorted projections on 4 x 128 random directions are compared. Alpha is a channel
    like others, beside premultiplied colours.

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
        part = _premultiplied(images[start : start + 128]).astype(np.float32)
        part = laplacian(part, level, _levels(images))
        image = np.repeat(np.arange(len(part)), _PATCHES)[:, None, None]
        top, left = (rng.integers(0, side - _PATCH + 1, len(image))[:, None, None] for side in part.shape[1:3])
        parts.append(part[image, top + np.arange(_PATCH)[:, None], left + np.arange(_PATCH)])
    patches = np.concatenate(parts).reshape(len(images) * _PATCHES, -1)
    channels = images.shape[3]  # of a row, where they alternate: as rows they are summed ten times as fast

    def spread(means):
        return np.tile(means.reshape(-1, channels).mean(0), patches.shape[1] // channels).astype(np.float32)

    patches -= spread(patches.mean(0, np.float64))
    squares = np.einsum("np,np->p", patches, patches, dtype=np.float64, casting="same_kind")
    deviation = np.sqrt(spread(squares / len(patches)))
    patches /= np.where(deviation > 0, deviation, 1)
    return patches


def laplacian(images: np.ndarray, level: int, levels: int) -> np.ndarray:
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
        images = ndimage.correlate1d(images, _BINOMIAL, axis=axis, mode="mirror")
    return images
