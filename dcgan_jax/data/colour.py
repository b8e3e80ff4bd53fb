"""Colours as a viewer shows them: embedded ICC profiles are converted to sRGB."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_SPACES = {"RGB": "RGB", "GRAY": "RGB", "CMYK": "CMYK"}  # of a profile: the mode in which its pixels are converted
_PROFILE_LIMIT = 4 << 20  # bytes; the largest in use, those of printing presses, have 3 MB


def to_srgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Convert a picture by its ICC profile, if it has one. Transparency stays as it is.

    The intent is perceptual, as in browsers. LAB pictures need no profile. A profile that cannot be used is left out,
    also as in browsers.

    Returns:
      The picture, which is the same object where nothing is to be done, and what is wrong with its profile.
    """
    if image.mode == "LAB":
        return _from_lab().apply(image), None
    profile = image.info.get("icc_profile")
    if not profile or image.mode == "1":
        return image, None
    try:
        space, transform = _transform(profile)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        return image, f"a damaged colour profile ({' '.join(str(error).split())})"
    gray = image.mode in ("L", "LA")
    if (space == "CMYK") != (image.mode == "CMYK") or (space == "GRAY" and not gray):
        return image, f"a colour profile for {space} in a picture of {image.mode}"
    if transform is None:
        return image, None
    if gray:
        return _by_table(image, _ramp(profile)), None
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    return _converted(image, transform), None


def _converted(image, transform):
    if image.mode != "RGBA" and "transparency" in image.info:  # a colour that is transparent: found before it changes
        image = image.convert("RGBA")
    if image.mode == "RGB":
        transform.apply_in_place(image)  # without a copy: photographs are large
        return image
    clear = image.getchannel("A") if image.mode == "RGBA" else None
    image = transform.apply(image.convert(transform.input_mode))
    if clear is not None:
        image.putalpha(clear)
    return image


def _by_table(image, table):
    if "transparency" in image.info:
        image = image.convert("LA")
    gray = image.getchannel("L").point(table)
    return Image.merge("LA", (gray, image.getchannel("A"))) if image.mode == "LA" else gray


@functools.cache
def _srgb():
    return ImageCms.createProfile("sRGB")


@functools.cache
def _from_lab():
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), _srgb(), "LAB", "RGB")


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The colour space of a profile, and the way from it to sRGB: None where that changes next to nothing.

    Raises:
      PyCMSError, OSError, ValueError: it cannot be used.
    """
    if len(profile) > _PROFILE_LIMIT:
        raise ValueError(f"{len(profile)} bytes")
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = getattr(opened.profile, "xcolor_space").strip()  # noqa: B009 - not in its type
    if space not in _SPACES:
        raise ValueError(f"its colours are {space}")
    mode = "L" if space == "GRAY" else _SPACES[space]
    transform = ImageCms.buildTransform(opened, _srgb(), mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    if space == "RGB":
        steps = np.append(np.arange(0, 256, 24), 255).astype(np.uint8)
        colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
        converted = np.asarray(transform.apply(Image.fromarray(colours)))
        if abs(converted.astype(int) - colours).max() <= 1:
            return space, None
    return space, transform


@functools.lru_cache(maxsize=16)
def _ramp(profile: bytes) -> list[int]:
    """What the 256 grays of a profile, of gray or of RGB, are in sRGB."""
    _, transform = _transform(profile)
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    assert transform is not None
    return list(transform.apply(ramp.convert(transform.input_mode)).getchannel("G").tobytes())
