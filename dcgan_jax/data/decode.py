"""Any picture to a uint8 square."""

import numpy as np
from PIL import Image, ImageOps

from dcgan_jax.config import Config


def to_square(image: Image.Image, config: Config) -> np.ndarray:
    """Convert any picture to uint8 (image_size, image_size, channels); both sides are resized, nothing is
    cropped (as the d2l chapter does).

    EXIF orientation is honoured, transparency is laid over the background, 16-bit grayscale is
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
        image = Image.alpha_composite(Image.new("RGBA", image.size, config.background), image)
    image = image.convert("L" if config.channels == 1 else "RGB")
    square = (config.image_size, config.image_size)
    if image.size != square:
        image = image.resize(square, Image.Resampling.BILINEAR)  # antialiased when shrinking
    return np.asarray(image).reshape(*square, config.channels)
