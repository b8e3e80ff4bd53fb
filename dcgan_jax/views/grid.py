"""Images laid out as one sheet, and PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image


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
