"""The cache folder: decoded images, downloads, compiled programs."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from dcgan_jax.system.files import read_checked, user_path, write_checked


def cache_folder() -> Path:
    """``$DCGAN_JAX_CACHE``, else ``dcgan_jax`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``)."""
    if folder := os.environ.get("DCGAN_JAX_CACHE"):
        return user_path(folder)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dcgan_jax"


def kept(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """A float32 vector (N,) that is computed once and kept in a file, which begins with its SHA-256.

    A file that is not as it was written is computed again, and so is one that could not be written.
    """
    if (content := read_checked(path)) is not None:
        return np.frombuffer(content, np.float32)
    values = np.asarray(compute(), np.float32)
    with contextlib.suppress(OSError):  # the next process computes it too
        write_checked(path, values.tobytes())
    return values


def cache_compilations() -> None:
    """Let XLA store compiled programs in the cache folder, unless the user has set another.

    JAX writes these files in place. A kill at that moment leaves half a file. JAX then compiles
    again and warns with the file's name at each start: delete that file.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
