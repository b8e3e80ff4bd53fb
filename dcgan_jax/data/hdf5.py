"""Arrays in HDF5 files, read with h5py: what is in a file, and its values, a block of them at a time."""

import contextlib
import importlib
import importlib.util
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dcgan_jax.system.disk import mib, user_path
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import open_regular

ENDINGS = (".h5", ".hdf5")
BLOCK = 4 << 20
"""Bytes that are read at a time."""
CHUNK_LIMIT = 512 << 20
"""Most bytes of the pieces in which a file holds an array: one is in memory as a whole."""


def is_hdf5(path: Path) -> bool:
    """Whether a file is called like one of these."""
    return path.suffix.lower() in ENDINGS


def place(data: str) -> tuple[str, str]:
    """The path, and the name of a data set in the file, of ``FILE.h5:DATASET``; without one all is the path."""
    match = re.fullmatch(r"(.+\.(?:h5|hdf5)):(.+)", data, re.IGNORECASE)
    return (match[1], match[2]) if match and not user_path(data).exists() else (data, "")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The library, and the open file."""
    if importlib.util.find_spec("h5py") is None:
        raise InputError(f"{path} needs one more package: python -m pip install 'dcgan_jax[datasets]'")
    h5py: Any = importlib.import_module("h5py")
    with open_regular(path) as content:
        try:
            with h5py.File(content, "r") as file:
                yield h5py, file
        except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            if getattr(error, "errno", None):
                raise
            raise InputError(f"{path} cannot be read as HDF5 ({first_line(error)}): get it again") from None


def listed(path: Path) -> list[tuple[str, tuple[int, ...], np.dtype]]:
    """The name, the shape and the type of each data set in a file; texts have the type ``U``.

    Raises:
      InputError: it cannot be read, or h5py is missing.
    """
    arrays = []
    with _opened(path) as (h5py, file):

        def add(name: str, one: Any) -> None:
            if isinstance(one, h5py.Dataset) and one.shape is not None:
                arrays.append((name, one.shape, np.dtype("U") if h5py.check_string_dtype(one.dtype) else one.dtype))

        file.visititems(add)
    return arrays


def blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    """A data set's values in their order: some along its first axis at a time. Texts are ``str``.

    Raises:
      InputError: it cannot be read any more, or its pieces are too large.
    """
    with _opened(path) as (h5py, file):
        one = file[name]
        chunk = one.chunks or (1,)
        if (size := math.prod(chunk) * one.dtype.itemsize) > CHUNK_LIMIT:
            raise InputError(
                f"{path} holds {name} in chunks of {mib(size)}, more than {mib(CHUNK_LIMIT)}: save it with chunks of "
                "one image"
            )
        rows = max(1, BLOCK // max(1, math.prod(one.shape[1:]) * one.dtype.itemsize))
        rows = rows // chunk[0] * chunk[0] or rows  # so that no chunk is read twice
        values = one.asstr() if h5py.check_string_dtype(one.dtype) else one
        for start in range(0, one.shape[0], rows):
            yield values[start : start + rows]
