"""Settings that are ``auto`` until the images settle them, before a state is made.

Each of ``config.BY_IMAGES`` has a function here: it looks at the images, and returns the value and, in words, why.
"""

import contextlib
import dataclasses
import io
import itertools
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from dcgan_jax import sizes
from dcgan_jax.config import Config, has_alpha
from dcgan_jax.data.build import ordered_map
from dcgan_jax.data.decode import FORMATS, read_picture
from dcgan_jax.data.listing import is_drawn
from dcgan_jax.data.planes import Planes, fewest_channels
from dcgan_jax.data.sources import Item, Source, open_source
from dcgan_jax.system.cache import writable_cache
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.progress import progress

_MOST = 1000  # pictures that are looked at
_TURNED = (5, 6, 7, 8)  # EXIF orientations in which a picture is stored on its side


def settle(config: Config, source: Source | None = None) -> Config:
    """The configuration with the value that the images settle in place of each ``auto`` of ``image_size``, ``channels``
    and ``width``.

    Always the same for the same images. A line on stderr says what was settled. ``fit`` and ``open_store`` do it
    themselves, and a run stores the values. A loop of your own does it before ``create_state``.

    Args:
      config: the run.
      source: its images, as ``open_source`` returns them, if they are open already.

    Raises:
      InputError: ``config.data`` names no images, or none of them says how large it is.
    """
    for name in config.unsettled():
        source = source or open_source(config, writable_cache())
        value, reason = _CHOSEN[name](source, config)
        print(printable(f"{name} auto: {value}, {reason}"), file=sys.stderr)
        config = dataclasses.replace(config, **{name: value})
    if config.width == "auto":
        config = dataclasses.replace(config, width=config.outer_width)
        if config.width != 64:
            print(f"width auto: {config.width} for images of {config.image_size} (64 up to 64x64)", file=sys.stderr)
    return config


def _image_size(source: Source, config: Config) -> tuple[sizes.ImageSize, str]:
    """The size that is nearest to the shape that half of the pictures have; else to their median height and width."""
    shapes = [shape for item in some_items(source) if (shape := _shape(item))]
    if not shapes:
        raise InputError(f"no picture in {source.name} says how large it is: give an --image-size such as 64")
    (shape, count), *_ = Counter(shapes).most_common(1)
    whose = f"the shape of {count:,} of {len(shapes):,} pictures"
    if 2 * count < len(shapes):
        heights, widths = zip(*shapes, strict=True)
        shape = (sorted(heights)[len(shapes) // 2], sorted(widths)[len(shapes) // 2])
        whose = f"the median of {len(shapes):,} pictures of several shapes"
    size = sizes.nearest(*shape)
    much = (size[0] * size[1] / (64 * 64)) ** (0.45 if config.width == "auto" else 1)
    slow = f"; a step takes about {much:.0f} times as long as at 64x64" if much >= 3 else ""
    return sizes.written(*size), f"as {'x'.join(map(str, shape))} (height x width) is {whose}{slow}"


def _channels(source: Source, config: Config) -> tuple[int, str]:
    """As few as lose nothing: every picture is looked at, until colours and transparency have been seen."""
    if source.planes:
        channels = fewest_channels(source.planes.channels)
        spare = f", beside which one stays empty: the last of {source.planes.channels} would be alpha"
        return channels, f"as {source.name} has {source.planes.channels}{spare * (channels != source.planes.channels)}"
    looked = _Looked(dataclasses.replace(config, channels=4, background="white", bits="8"))
    opaque = _has_no_alpha(source)
    with contextlib.closing(ordered_map(looked.at, source.items())) as seen:
        for _ in progress(seen, "looking for colours and transparency", total=source.count):
            if looked.colour and looked.clear:
                return 4, "as there are colours and transparent pixels"
            if looked.colour and opaque:
                return 3, "as there are colours, and such arrays have no alpha"
    if not looked.pictures:
        return 3, f"as no picture in {source.name} could be decoded"  # the store is refused, and says why
    nothing = f"no pixel of {looked.pictures:,} pictures"
    if looked.colour:
        return 3, f"as there are colours, and {nothing} is transparent"
    if looked.clear:
        return 2, f"as there are transparent pixels, and {nothing} has a colour"
    return 1, f"as {nothing} has a colour or is transparent"


def _has_no_alpha(source: Source) -> bool:
    """Whether the pictures are no files, but arrays, which all have the kind of the first."""
    first = next(source.items(), None)
    if first is None or first.head:
        return False
    pixels = first.load()
    return isinstance(pixels, np.ndarray) and (pixels.ndim == 2 or not has_alpha(pixels.shape[2]))


class _Looked:
    """What has been seen of pictures, as they are at the size of the run. Several threads look at once.

    Attributes:
      colour, clear: whether a pixel has a colour; whether one is transparent.
      pictures: how many pictures there are so far.
    """

    def __init__(self, config: Config):
        self.colour, self.clear, self.pictures = False, False, 0
        self._config, self._lock = config, threading.Lock()

    def at(self, item: Item) -> None:
        """Look at a picture; decode it only if it may have something that has not been seen yet."""
        colour = clear = False
        try:
            if not self.colour or _may_be_clear(item):
                content = item.load()
                if isinstance(content, bytes) and is_drawn(content):
                    return
                picture = read_picture(content, self._config)
                colour = bool((picture.square[..., :1] != picture.square[..., :3]).any())
                clear = picture.transparent
        except Exception:  # decoders raise anything on bad bytes; the store names what cannot be decoded
            return
        with self._lock:
            self.colour, self.clear, self.pictures = self.colour or colour, self.clear or clear, self.pictures + 1


def _may_be_clear(item: Item) -> bool:
    """Whether a picture has transparent pixels for all that the head of its file says."""
    if item.head is None:
        return True
    try:
        with Image.open(io.BytesIO(item.head()), formats=FORMATS) as image:
            return image.has_transparency_data
    except Exception:  # some formats say it at the end of the file
        return True


_CHOSEN: dict[str, Callable[[Source, Config], tuple[Any, str]]] = {"image_size": _image_size, "channels": _channels}


def some_items(source: Source) -> Iterator[Item]:
    """At most 1,000 pictures of a source: of files evenly many from all of them; else the first."""
    first = next(source.items(), None)
    every = max(1, source.count // _MOST) if first and first.head else 1
    return itertools.islice(source.items(), 0, every * _MOST, every)


def _shape(item: Item) -> tuple[int, int] | None:
    """Height and width of a picture as it is shown, by the head of its file; None of one that is not learned from."""
    for read in (item.head, item.load) if item.head else (item.load,):  # some formats say it at the end of the file
        try:
            content = read()
            if not isinstance(content, bytes):
                values = content.values if isinstance(content, Planes) else content
                return values.shape[0], values.shape[1]
            return None if is_drawn(content) else _shape_of(content)
        except Exception:  # decoders raise anything on bad bytes; the store names what cannot be decoded
            continue
    return None


def _shape_of(content: bytes) -> tuple[int, int]:
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        Image.open(io.BytesIO(content), formats=FORMATS) as image,
    ):
        width, height = image.size
        stated = image.format != "PNG" or "exif" in image.info  # else Pillow would decode it to look for more
        turned = stated and image.getexif().get(ExifTags.Base.Orientation) in _TURNED
        return (width, height) if turned else (height, width)
