"""The cache folder: decoded images, downloads, compiled programs."""

import os
from pathlib import Path

import jax

from dcgan_jax.system.files import user_path


def cache_folder() -> Path:
    """``$DCGAN_JAX_CACHE``, else ``dcgan_jax`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``)."""
    if folder := os.environ.get("DCGAN_JAX_CACHE"):
        return user_path(folder)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dcgan_jax"


def cache_compilations() -> None:
    """Let XLA store compiled programs in the cache folder, unless the user has set another.

    JAX writes these files in place. A kill at that moment leaves half a file. JAX then compiles
    again and warns with the file's name at each start: delete that file.
    """
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
