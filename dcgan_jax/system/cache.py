"""The cache folder: decoded images, downloads, compiled programs."""

import atexit
import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import locked, read_bytes, read_checked, write_bytes, write_checked

_OWN = ".process"  # how the names of folders end that one process alone uses
_PROGRAMS = 200  # how many are copied at a start: those of some ten configurations
_LARGEST = 1 << 30  # bytes
_ARRAYS = b"npz"  # how arrays are written


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


def kept(
    folder: Path, parts: Iterable[bytes], make: Callable[[], Mapping[str, Any]], *, most: int = 256 << 20
) -> dict[str, np.ndarray]:
    """Arrays by name that are computed once and kept in a file of ``folder``, which begins with its SHA-256.

    A file that is not as it was written is computed again, and so is one that cannot be read or written. A second
    process that wants the same waits for the first.

    Args:
      folder: in the cache folder.
      parts: all that the arrays depend on; their checksum names the file.
      make: computes them.
      most: bytes of the file.
    """
    sums = [hashlib.sha256(part).digest() for part in (_ARRAYS, *parts)]
    path = folder / hashlib.sha256(b"".join(sums)).hexdigest()[:32]
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(InputError):  # a folder that cannot be written: each process computes them
            stack.enter_context(locked(folder.with_name("locks") / f"{folder.name}-{path.name}.lock"))
        with contextlib.suppress(InputError):
            if (content := read_checked(path, most=most)) is not None:
                with np.load(io.BytesIO(content), allow_pickle=False) as file:
                    return dict(file)
        arrays: dict[str, Any] = {name: np.asarray(array) for name, array in make().items()}
        with io.BytesIO() as buffer, contextlib.suppress(OSError, InputError):  # the next process computes them too
            np.savez(buffer, **arrays)
            write_checked(path, buffer.getvalue())
    return arrays


def cache_compilations() -> None:
    """Let JAX keep compiled programs in the cache folder, unless the user has set another.

    They are native code, and JAX runs what it finds. So each process has a folder of its own for JAX, in ``xla``. What
    has the checksum that it was kept with is copied there at the start; the rest is deleted. A folder that others can
    write to is not used, and this is said on stderr.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return
    with contextlib.suppress(InputError, OSError):  # without a cache they are compiled at each start
        folder = writable_cache() / "xla"
        folder.mkdir(mode=0o700, exist_ok=True)
        if others := others_can_write(folder):
            print(f"compiled programs are not kept: {folder} {others}, and they are native code", file=sys.stderr)
            return
        own = _own_folder(folder)
        newest_first = sorted(folder.glob("*-cache"), key=lambda path: -path.stat().st_mtime)
        for path in newest_first[:_PROGRAMS]:
            _copy_checked(path, own / path.name)
        for path in newest_first[_PROGRAMS:]:
            path.unlink(missing_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(own))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        jax.config.update("jax_compilation_cache_max_size", -1)  # of the folder of one process
        jax.config.update("jax_persistent_cache_enable_xla_caches", "")  # their path would be a part of JAX's keys


def keep_compiled() -> None:
    """Keep what this process has compiled for the next ones, now and not only when it ends. No thread may compile."""
    own = Path(jax.config.jax_compilation_cache_dir or "")  # pyright: ignore[reportAttributeAccessIssue]
    if own.suffix == _OWN:
        with contextlib.suppress(InputError, OSError):
            for path in own.glob("*-cache"):
                if not (target := own.parent / path.name).exists():
                    write_checked(target, read_bytes(path, most=_LARGEST))


def _own_folder(folder):
    """A new folder in ``folder`` that goes when this process ends, or else when the next one starts."""
    for old in folder.glob(f"*{_OWN}"):
        with contextlib.suppress(InputError), locked(old / ".lock", refusal="its process runs"):
            shutil.rmtree(old, ignore_errors=True)
    own = Path(tempfile.mkdtemp(suffix=_OWN, dir=folder))
    held = contextlib.ExitStack()
    held.callback(shutil.rmtree, own, ignore_errors=True)
    held.enter_context(locked(own / ".lock", refusal="another process has just deleted it"))
    atexit.register(held.close)
    atexit.register(keep_compiled)  # first
    return own


def _copy_checked(path, copy):
    with contextlib.suppress(InputError):  # another process deletes it
        if (content := read_checked(path, most=_LARGEST)) is None:
            path.unlink(missing_ok=True)
        else:
            write_bytes(copy, content, synced=False)


def others_can_write(folder: Path) -> str:
    """Why others can write to a folder, or nothing. Windows has no such bits."""
    facts = folder.stat()
    if hasattr(os, "getuid"):
        if facts.st_uid != os.getuid():
            return "belongs to another user"
        if facts.st_mode & 0o022:
            return f"can be written by others (chmod go-w {folder})"
    return ""
