"""Pictures in files that a user names, brought to the shape of a run's images."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data import arrays
from dcgan_jax.data.decode import FILE_LIMIT, MODES, read_square
from dcgan_jax.data.listing import ENDINGS, walk
from dcgan_jax.data.planes import Planes, Scale
from dcgan_jax.gan.pixels import from_pixels
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.values import check_arrays, scale_of
from dcgan_jax.system.disk import reading, user_path
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import read_bytes

MOST = 256
"""Pictures of a folder that are read."""


def several(given: Any) -> tuple[Any, ...]:
    """What a user gives as a sequence; or one alone: a path, a name or a number, which is not to be taken apart."""
    return tuple(given) if hasattr(given, "__iter__") and not isinstance(given, str) else (given,)


def read_pictures(workdir: str | Path, paths: Sequence[str | Path], flag: str) -> np.ndarray:
    """The pictures that ``flag`` names, as images of a run: float32 (N, H, W, C) in [-1, 1].

    Args:
      workdir: the folder of the run.
      paths: files, as for ``read_picture``, and folders: of each 256 pictures at most, evenly spread over its list.
      flag: as for ``read_picture``.

    Raises:
      InputError: something is no picture, or a folder has none.
    """
    config = RunFolder(workdir).config()
    scale = scale_of(workdir, config.image_shape[2])
    files = [file for path in paths for file in _files(user_path(path), flag)]
    return np.stack([from_pixels(read_picture(file, config, scale, flag)) for file in files])


def _files(path: Path, flag: str) -> list[Path]:
    with reading(path):
        if not path.is_dir():
            return [path]
        names = sorted(name for name in walk(path) if PurePath(name).suffix.lower() in {*ENDINGS, ".npy"})
    if not names:
        raise InputError(f"{path} holds no picture: give {flag} a picture, or a folder of pictures")
    chosen = np.linspace(0, len(names) - 1, min(MOST, len(names))).round().astype(int)
    return [path / names[i] for i in chosen]


def read_picture(path: Path, config: Config, scale: Scale, flag: str) -> np.ndarray:
    """A picture, brought to the shape of the run's images as they were: uint8 or uint16 (H, W, C).

    Args:
      path: the file; also a .npy of one image, (H, W, C) or (H, W), with values as the run has learned from.
      config: of the run.
      scale: of its values, ``scale_of``.
      flag: the setting that names the file, for messages.

    Raises:
      InputError: it is not there, not a picture, or of other channels.
    """
    with reading(path):
        if not path.is_file():
            raise InputError(f"{path} is not a file: give {flag} a picture")
        if path.suffix.lower() == ".npy":
            content: bytes | Planes = _array(path, config, scale, flag)
            config = dataclasses.replace(config, range=(scale.low, scale.high))
        elif scale.channels in MODES and scale.channels == config.image_shape[2]:
            content = read_bytes(path, most=FILE_LIMIT)
        else:
            raise InputError(f"this run has images of {scale.channels} channels: give {flag} a .npy of one of them")
        try:
            return read_square(content, config)
        except Exception as error:  # decoders raise anything on bad bytes
            if getattr(error, "errno", None):
                raise
            raise InputError(f"{path} cannot be decoded ({first_line(error)}): give {flag} a picture") from error


def _array(path: Path, config: Config, scale: Scale, flag: str) -> Planes:
    """The image of a .npy file, whose values mean what those that the run has learned from mean.

    Raises:
      InputError: they are of another type, or of other channels.
    """
    values = arrays.of_image(path)
    check_arrays(path, values.shape[2], values.dtype, config, scale, flag=flag)
    return Planes(values)
