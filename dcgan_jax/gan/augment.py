"""Random changes of the images that the discriminator sees, real or generated (DiffAugment, Zhao et al. 2020).

The generator learns the unchanged images: both kinds are changed alike, and gradients pass through. Everything is
additions and products, which are as fast backwards, twice too. Images are (B, H, W, C) in [-1, 1], 0 is grey.
Of images with alpha, whose colours are premultiplied, the colours are changed as if they were not, and alpha is not;
in place of grey nothing is left, which is -1.
"""

import jax
import jax.numpy as jnp

from dcgan_jax.config import has_alpha

_FULL, _NONE = 10_000, 100_000  # images: helps below the first, hurts from some 70,000


def probability(setting: str, images: int | None) -> float:
    """How likely an image is changed: 1 for ``full``, 0 for ``off``.

    ``auto``: 1 for up to 10,000 images in the set, falling linearly to 0 at 100,000; 0 if their number is not known.
    """
    if setting == "auto":
        return 0.0 if images is None else min(max((_NONE - images) / (_NONE - _FULL), 0.0), 1.0)
    return 1.0 if setting == "full" else 0.0


def flip(key: jax.Array, x: jax.Array) -> jax.Array:
    """Mirror each image, left to right, with probability 1/2."""
    return jnp.where(jax.random.bernoulli(key, 0.5, (x.shape[0], 1, 1, 1)), x[:, :, ::-1], x)


def augment(key: jax.Array, x: jax.Array, p: jax.Array | float = 1.0) -> jax.Array:
    """Change each image with probability ``p``, by random values of its own.

    Brightness +U(-0.5, 0.5), saturation ×U(0, 2), contrast ×U(0.5, 1.5), a shift by up to 1/8 of the side, and a grey
    square of half the side, in this order. With alpha the square is a hole.
    """
    keys = jax.random.split(key, 6)
    (b, h, w, _), half = x.shape, (x.shape[1] // 2, x.shape[2] // 2)
    y = brightness(x, jax.random.uniform(keys[0], (b,), minval=-0.5, maxval=0.5))
    y = saturation(y, jax.random.uniform(keys[1], (b,), maxval=2.0))
    y = contrast(y, jax.random.uniform(keys[2], (b,), minval=0.5, maxval=1.5))
    most, ends = jnp.array([[h // 8, w // 8]]), jnp.array([[h + 1 - half[0] % 2, w + 1 - half[1] % 2]])
    y = translation(y, jax.random.randint(keys[3], (b, 2), -most, most + 1))
    y = cutout(y, jax.random.randint(keys[4], (b, 2), 0, ends), half)
    return jnp.where(jax.random.bernoulli(keys[5], p, (b, 1, 1, 1)), y, x)


def _parts(x):
    """Premultiplied colours and alpha, both from 0 to 1."""
    x = (x + 1) / 2
    return x[..., :-1], x[..., -1:]


def _joined(colours, alpha):
    return jnp.concatenate([colours, alpha], axis=-1) * 2 - 1


def _each(values):
    return values[:, None, None, None]


def brightness(x: jax.Array, added: jax.Array) -> jax.Array:
    """Add a number (B,) to all values of each image."""
    if has_alpha(x.shape[3]):
        colours, alpha = _parts(x)
        return _joined(colours + _each(added) / 2 * alpha, alpha)
    return x + _each(added)


def saturation(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiply the distance of each pixel from its own grey by a factor (B,): 0 leaves the grey."""
    if has_alpha(x.shape[3]):
        colours, alpha = _parts(x)
        return _joined(saturation(colours, factor), alpha)  # the same of all that is multiplied alike
    grey = x.mean(axis=3, keepdims=True)
    return grey + (x - grey) * _each(factor)


def contrast(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Multiply the distance of all values from the image's mean, of what is seen of it, by a factor (B,)."""
    if has_alpha(x.shape[3]):
        colours, alpha = _parts(x)
        seen = alpha.sum((1, 2), keepdims=True) * colours.shape[3]
        mean = colours.sum((1, 2, 3), keepdims=True) / jnp.maximum(seen, 1e-3) * alpha
        return _joined(mean + (colours - mean) * _each(factor), alpha)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (x - mean) * _each(factor)


def translation(x: jax.Array, shift: jax.Array) -> jax.Array:
    """Move each image down and to the right by whole pixels (B, 2), and fill with grey, or with nothing."""
    if has_alpha(x.shape[3]):
        return _moved(x + 1, shift) - 1
    return _moved(x, shift)


def _moved(x, shift):
    return _shifted(_shifted(x, shift[:, 0], "bih,bhwc->biwc", 1), shift[:, 1], "bjw,bhwc->bhjc", 2)


def _shifted(x, shift, equation, axis):
    side = jnp.arange(x.shape[axis])
    # A product with shifted identities: a gather's gradient would be slow.
    matrix = (side[None, :, None] - shift[:, None, None] == side[None, None, :]).astype(x.dtype)
    return jnp.einsum(equation, matrix, x, precision="highest")  # exact: one summand each


def cutout(x: jax.Array, centre: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Paint a grey rectangle of ``size`` around a pixel (B, 2) of each image; what lies outside is cut off.

    With alpha it is a hole.
    """

    def inside(centre, size, side):
        distance = jnp.arange(side)[None, :] - centre[:, None] + size // 2
        return (distance >= 0) & (distance < size)

    rows, columns = (inside(centre[:, i], size[i], x.shape[1 + i]) for i in range(2))
    empty = -1.0 if has_alpha(x.shape[3]) else 0.0
    return jnp.where((rows[:, :, None] & columns[:, None, :])[..., None], empty, x)
