"""Images as arrays and files: any picture to a uint8 square, [-1, 1] to uint8, grids, PNG."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def to_square(image: Image.Image, size: int, channels: int, background: str) -> np.ndarray:
    """Convert any picture to uint8 (size, size, channels); both sides are resized, nothing is cropped
    (as the d2l chapter does).

    EXIF orientation is honoured, transparency is laid over ``background``, 16-bit grayscale is
    scaled to 8 bits, palettes and CMYK become RGB.

    Raises:
      ValueError: floating-point pixels, whose range is not defined.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        deep = np.asarray(image.convert("I"), np.float64)
        image = Image.fromarray(np.clip(np.round(deep / 257), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)  # antialiased when shrinking
    return np.asarray(image).reshape(size, size, channels)


def to_uint8(images) -> np.ndarray:
    """Map float images in [-1, 1] to uint8 in [0, 255], rounding; values outside are clipped."""
    return np.clip(np.round((np.asarray(images, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int, padding: int = 2) -> np.ndarray:
    """Lay uint8 images (N, H, W, C) out row by row on white; the last row may be short.

    Returns:
      uint8 array (rows·(H + padding) + padding, columns·(W + padding) + padding, C).
    """
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + padding) + padding, columns * (w + padding) + padding, c), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = padding + i // columns * (h + padding), padding + i % columns * (w + padding)
        sheet[y : y + h, x : x + w] = image
    return sheet


def save_png(path: Path, image: np.ndarray) -> None:
    """Write one uint8 image (H, W, 1 or 3) as PNG."""
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
