"""The cache folder: decoded images, downloads, compiled programs."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import read_checked, write_checked


def cache_folder() -> Path:
    """``$DCGAN_JAX_CACHE``, else ``dcgan_jax`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``).

    It need not exist, nor be one that can be written: see ``writable_cache``.
    """
    if folder := os.environ.get("DCGAN_JAX_CACHE"):
        return Path(folder).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dcgan_jax"
    except RuntimeError:  # a user without a home
        return Path("/nonexistent/dcgan_jax")


def writable_cache() -> Path:
    """The cache folder, for what cannot be done without it.

    Raises:
      InputError: it cannot be written; says how to have another.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(
            f"cannot write the cache folder {folder} ({error.strerror or error}): set DCGAN_JAX_CACHE to a folder that "
            "can be written"
        ) from None
    return folder


def kept(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """A float32 vector (N,) that is computed once and kept in a file, which begins with its SHA-256.

    A file that is not as it was written is computed again, and so is one that cannot be read or written.
    """
    with contextlib.suppress(InputError):
        if (content := read_checked(path)) is not None:
            return np.frombuffer(content, np.float32)
    values = np.asarray(compute(), np.float32)
    with contextlib.suppress(OSError, InputError):  # the next process computes it too
        write_checked(path, values.tobytes())
    return values


def cache_compilations() -> None:
    """Let XLA store compiled programs in the cache folder, unless the user has set another.

    JAX writes these files in place. A kill at that moment leaves half a file. JAX then compiles
    again and warns with the file's name at each start: delete that file.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(InputError):  # without a cache they are compiled at each start
            jax.config.update("jax_compilation_cache_dir", str(writable_cache() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
