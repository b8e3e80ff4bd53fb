"""How much fine detail images have, and so at which size a network of features should see them."""

import numpy as np
from PIL import Image

from dcgan_jax.config import has_alpha
from dcgan_jax.data.store import Store

_IMAGES = 200  # that are looked at
_LEAST = 0.1  # game sprites have .18, the built-in creatures .14, clip art .11, emoji .05


def features_size(store: Store) -> tuple[int, str]:
    """The shorter side at which features see images of 64 pixels and more, 32 or 64, and in words why it is 32.

    It is 32 if half of the images have less than a tenth of their variance within squares of 2x2 pixels, when their
    shorter side is reduced to 64. What such images gain: docs/results/projected.md.
    """
    indices = np.linspace(0, len(store) - 1, min(len(store), _IMAGES)).astype(int)
    shares = [share for image in store.take(indices) if (share := _fine_detail(image)) is not None]
    share = float(np.median(shares)) if shares else 1.0
    if share >= _LEAST:
        return 64, ""
    percent = f"{int(1000 * share) / 10:g}%"  # rounded down: less than what is asked for
    return 32, f"as the images have little fine detail: {percent} of their variance (64 from {_LEAST:.0%} on)"


def _fine_detail(image: np.ndarray) -> float | None:
    """The share of an image's variance that lies within squares of 2x2 pixels; None of one colour.

    One with alpha is seen on black and on white, as features see it.
    """
    levels = image.astype(np.float32)
    if has_alpha(image.shape[2]):
        colours, opaque = levels[..., :-1], levels[..., -1:] / 255
        levels = np.concatenate([colours * opaque, 255 + (colours - 255) * opaque], axis=2)
    height, width = (2 * round(32 * side / min(image.shape[:2])) for side in image.shape[:2])
    planes = [
        Image.fromarray(plane).resize((width, height), Image.Resampling.BOX) for plane in np.moveaxis(levels, 2, 0)
    ]
    squares = np.stack([np.asarray(plane).reshape(height // 2, 2, width // 2, 2) for plane in planes])
    variance = squares.var((1, 2, 3, 4)).sum()
    return float(squares.var((2, 4)).mean((1, 2)).sum() / variance) if variance > 0 else None
