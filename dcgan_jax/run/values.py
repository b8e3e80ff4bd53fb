"""Images of a generator as one .npy file, in the values and the type that the files of its run held."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from numpy.lib import format as npy

from dcgan_jax.config import Config, has_alpha
from dcgan_jax.data.planes import Scale
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.generators import Source
from dcgan_jax.share.portable import is_portable
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import replacing
from dcgan_jax.system.progress import progress

_PIECE = 512  # images that are in memory at a time


def scale_of(source: Source, channels: int) -> Scale:
    """Which values the files held that a generator has learned from.

    A run of an earlier version had 8 bits. Where the source is no run, they are not known: floats from -1 to 1.

    Args:
      channels: of its images.
    """
    if not isinstance(source, str | Path) or is_portable(source):
        return Scale("float32", -1.0, 1.0, channels)
    then = RunFolder(source).images_then() or {}
    return then.get("values") or Scale("uint8", 0.0, 255.0, channels)


def check_arrays(path: Path, channels: int, kind: np.dtype, config: Config, scale: Scale, *, flag: str) -> None:
    """Refuse arrays whose values do not mean what those mean that a run has learned from.

    Args:
      flag: what the file was given to, for the message.

    Raises:
      InputError: they are of another type, or of other channels.
    """
    wanted = scale.channels
    if channels != wanted and (wanted != config.image_shape[2] or (channels != 1 and (channels, wanted) != (3, 1))):
        raise InputError(
            f"{path} has {channels} channels, but this run has images of {wanted}: give {flag} one of these"
        )
    if kind.name != scale.type:
        raise InputError(
            f"{path} holds values of {kind.name}, but this run has learned from {scale.type}: save it in that "
            "type, and in the range of those"
        )


def file_values(images: np.ndarray, scale: Scale) -> np.ndarray:
    """Floats (N, H, W, C) in [-1, 1], as ``sample`` draws them, to what files hold: colours are not premultiplied."""
    eight = scale.type == "uint8" and (scale.low, scale.high) == (0, 255)
    if not eight and not has_alpha(images.shape[3]):
        return scale.values(images)
    pixels = to_uint8(images)[..., : scale.channels]
    return pixels if eight else scale.values(pixels / 127.5 - 1)


Draw = Callable[..., jax.Array]
"""``sample`` with a generator and a key: ``draw(num, start=0, labels=None)``."""


def write_values(path: Path, draw: Draw, num: int, scale: Scale, label: str | int | None) -> None:
    """Write ``num`` images of ``draw`` as an array (N, H, W, C), 512 at a time."""
    with replacing(path) as file:
        for start in progress(range(0, num, _PIECE), "images", total=num, size=_PIECE):
            images = draw(min(_PIECE, num - start), start=start, labels=label)
            values = np.ascontiguousarray(file_values(np.asarray(images), scale))
            if not start:
                header = {"descr": npy.dtype_to_descr(values.dtype), "fortran_order": False}
                npy.write_array_header_1_0(file, {**header, "shape": (num, *values.shape[1:])})
            file.write(values.tobytes())
