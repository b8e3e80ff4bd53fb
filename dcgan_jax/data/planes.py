"""Arrays of any number of channels and any type of numbers, made the images of a store."""

from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageOps

from dcgan_jax.config import Config, has_alpha
from dcgan_jax.data.depth import Range, Values, stretched
from dcgan_jax.system.errors import InputError

Type = Literal["uint8", "uint16"]
"""Of the numbers of a store."""
TOPS: dict[Type, int] = {"uint8": 255, "uint16": 65535}
"""The largest number that each holds."""


class Planes(NamedTuple):
    """The values of one image as its file holds them, (H, W, C), of any type of numbers, without transparency."""

    values: np.ndarray


class Scale(NamedTuple):
    """Which values the files held: their type, and what the lowest and the highest number of a store stand for.

    ``channels`` says how many count: a store may have one more, which is empty.
    """

    type: str
    low: float
    high: float
    channels: int

    def values(self, images: np.ndarray) -> np.ndarray:
        """Floats (..., C) in [-1, 1] to what such files hold, in their type; those of whole numbers are rounded."""
        images = np.asarray(images[..., : self.channels], np.float64).clip(-1, 1)
        values = self.low + (images + 1) / 2 * (self.high - self.low)
        return (np.rint(values) if np.dtype(self.type).kind in "biu" else values).astype(self.type)


def defined_range(kind: np.dtype) -> Range | None:
    """The lowest and the highest value of a type that has them by its nature; None for floats and signed integers."""
    if kind.kind == "b":
        return 0.0, 1.0
    return (0.0, float(np.iinfo(kind).max)) if kind in (np.uint8, np.uint16) else None


def bits(config: Config) -> Literal["auto", "8", "16"]:
    """``config.bits``; with alpha 8."""
    return "8" if has_alpha(config.channels) else config.bits


def store_type(kind: np.dtype, ends: Range, config: Config) -> Type:
    """The type of a store for values of this type and range.

    auto is uint8 where that loses nothing: for whole numbers of which there are at most 256.
    """
    few = kind.kind in "biu" and abs(ends[1] - ends[0]) <= 255
    return "uint8" if bits(config) == "8" or (bits(config) == "auto" and few) else "uint16"


def levels(planes: Planes, config: Config) -> tuple[np.ndarray, Values | None]:
    """The values of an array, (H, W, C), mapped from ``config.range``, or that of their type, to all numbers of the
    store's type, uint8 or uint16. Also says which there were, unless they stay as they are.

    Raises:
      ValueError: a value is not finite, or there is no range.
    """
    values = planes.values
    ends = config.range or defined_range(values.dtype)
    if ends is None:
        raise ValueError(f"values of {values.dtype} have no defined range: state it with --range LOW HIGH")
    kind = store_type(values.dtype, ends, config)
    if values.dtype == np.uint8 and kind == "uint8" and ends == (0.0, 255.0):
        return values, None
    return stretched(values, *ends, top=TOPS[kind]), Values(float(values.min()), float(values.max()), *ends)


def resized(levels: np.ndarray, config: Config) -> np.ndarray:
    """uint8 or uint16 (H, W, C) -> those of ``config.image_shape``, as ``config.resize`` says.

    Each channel is resized as those of pictures are: antialiased when it gets smaller. One channel becomes as many as
    are wanted; of three one is the luma of Rec. 601, as Pillow has it. Two or four without transparency get an empty
    one more: see ``check_channels``.
    """
    channels = config.image_shape[2]
    if levels.shape[2] == 3 and channels == 1:
        luma = levels.astype(np.uint64) @ np.array([19595, 38470, 7471], np.uint64)
        levels = ((luma + 0x8000) >> 16).astype(levels.dtype)[..., None]
    top = np.iinfo(levels.dtype).max
    red, green, blue = ImageColor.getrgb(config.background)[:3]
    grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    filling = [red, green, blue] if levels.shape[2] == channels == 3 else [grey] * levels.shape[2]
    planes = [_resized(levels[..., i], config, filling[i] * (top // 255)) for i in range(levels.shape[2])]
    image = np.stack(planes, axis=-1)
    if has_alpha(image.shape[2]):
        image = np.pad(image, [(0, 0), (0, 0), (0, 1)])
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], channels)))


def _resized(plane: np.ndarray, config: Config, filling: int) -> np.ndarray:
    """One channel; 16 bits are computed in float32, which holds them exactly."""
    deep = plane.dtype != np.uint8
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32 if deep else np.uint8))
    height, width, _ = config.image_shape
    size, filtering = (width, height), Image.Resampling.BILINEAR
    if config.resize == "crop":
        image = ImageOps.fit(image, size, filtering)
    elif config.resize == "squash":
        image = image.resize(size, filtering)
    else:
        image = padded(ImageOps.contain(image, size, filtering), size, filling)
    values = np.asarray(image)
    return np.rint(values).clip(0, TOPS["uint16"]).astype(np.uint16) if deep else values


def padded(image: Image.Image, size: tuple[int, int], colour: str | int) -> Image.Image:
    """The picture in the middle of a larger one of this colour, which has alpha if the picture or the colour has."""
    larger = Image.new("RGBA" if colour == "#0000" else image.mode, size, colour)
    left, top = ((outer - inner) // 2 for outer, inner in zip(size, image.size, strict=True))
    larger.paste(image, (left, top))
    return larger


def check_picture_channels(name: str, config: Config) -> None:
    """Refuse more channels than pictures have.

    Raises:
      InputError: says how many there are.
    """
    if config.channels not in (1, 2, 3, 4):
        raise InputError(
            f"{name} holds pictures, which have at most 4 channels, not {config.channels}: give --channels auto; only "
            "arrays, such as .npy files, have more"
        )


def fewest_channels(channels: int) -> int:
    """How many channels a run needs for arrays of so many without transparency: one more than 2 or 4."""
    return channels + 1 if has_alpha(channels) else channels


def check_channels(name: str, channels: int, config: Config) -> None:
    """Refuse arrays with other channels than a run's. One may become several alike, and three may become one.

    With 2 and 4 channels the last is alpha everywhere. So arrays of as many without transparency have one more, which
    is empty.

    Raises:
      InputError: says how many to ask for.
    """
    wanted = config.channels
    if wanted in (channels, "auto") or channels == 1 or (channels, wanted) == (3, 1):
        return
    if not has_alpha(channels):
        raise InputError(f"{name} holds images of {channels} channels, not {wanted}: give --channels {channels}")
    if wanted != fewest_channels(channels):
        raise InputError(
            f"{name} holds images of {channels} channels: give --channels {channels} if the last is alpha, that is "
            f"transparency, else --channels {fewest_channels(channels)}, of which the last stays empty"
        )
