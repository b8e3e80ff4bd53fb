"""The cache folder: decoded images, downloads, compiled programs."""

import contextlib
import os
import zlib
from pathlib import Path

import jax

from dcgan_jax.system.files import user_path, writing

_ZSTANDARD = b"\x28\xb5\x2f\xfd"


def cache_folder() -> Path:
    """``$DCGAN_JAX_CACHE``, else ``dcgan_jax`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``)."""
    if folder := os.environ.get("DCGAN_JAX_CACHE"):
        return user_path(folder)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dcgan_jax"


def cache_compilations() -> None:
    """Let XLA keep what it compiles in the cache folder, unless the user has said where already."""
    if jax.config.jax_compilation_cache_dir is None:
        folder = cache_folder() / "xla"
        _drop_torn(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _drop_torn(folder: Path) -> None:
    """Remove what a killed process left half written: JAX would warn of it at every start, and never mend it."""
    for entry in folder.glob("*-cache"):
        try:
            content = entry.read_bytes()
        except FileNotFoundError:  # another process was quicker
            continue
        if not _whole(content):
            with writing(entry):
                entry.unlink(missing_ok=True)


def _whole(content: bytes) -> bool:
    """JAX compresses its entries with zlib, or with zstandard where that is installed."""
    reader, damage = zlib.decompressobj(), zlib.error
    if content.startswith(_ZSTANDARD):
        try:
            import zstandard
        except ImportError:
            return True  # nor does JAX read it here: its key differs
        reader, damage = zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError
    with contextlib.suppress(damage):  # the end is not reached then
        reader.decompress(content)
    return reader.eof
