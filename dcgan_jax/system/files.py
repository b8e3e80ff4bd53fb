"""Atomic writes, locks that end with their process, and free disk space."""

import contextlib
import errno
import functools
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from dcgan_jax.system.errors import InputError


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` of the text in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file that a kill or a power cut leaves as it was or as it is to be, never in between."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def read_bytes(path: Path, *, most: int = 256 << 20) -> bytes:
    """Read a regular file. A pipe, which would wait for ever, a device or a folder is refused, also behind a link.

    Raises:
      FileNotFoundError: there is none.
      InputError: it is no regular file, or has more than ``most`` bytes.
      OSError: it cannot be read (see ``reading``).
    """
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))  # opening a pipe does not wait
    with os.fdopen(number, "rb") as file:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"{path} is not a regular file: move it away")
        if facts.st_size > most:
            raise InputError(f"{path} has {mib(facts.st_size)}, more than the {mib(most)} that it can have")
        return file.read(most)


def read_text(path: Path, *, most: int = 256 << 20) -> str:
    """``read_bytes`` as UTF-8 text.

    Raises:
      ValueError: it is not UTF-8; and what ``read_bytes`` raises.
    """
    return read_bytes(path, most=most).decode()


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def parse_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
      ValueError: it is none, or cannot be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@contextlib.contextmanager
def locked(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, which the system frees when the process ends, however it ends.

    Waits for another holder, or, given ``refusal``, fails at once with this message.

    Raises:
      InputError: the lock is taken and ``refusal`` is given, or the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=-1 if refusal is None else 0)
        except filelock.Timeout:
            raise InputError(refusal) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _explained(verb: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an InputError that names the place, the reason and the remedy.

    Raises:
      InputError: from any OSError of the block.
    """
    try:
        yield
    except OSError as error:
        place, reason = Path(error.filename or path), error.strerror or error
        remedy = "fix this and run the same command again"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"{mib(_free(place))} free, at least 1 MiB needed: make room, and run the same command again"
        raise InputError(f"cannot {verb} {place}: {reason} ({remedy})") from error


writing = functools.partial(_explained, "write")
reading = functools.partial(_explained, "read")


def user_path(text: str | Path) -> Path:
    """A path as a user may write it, with ~ for a home folder. It need not exist.

    Raises:
      InputError: it cannot be the name of a file, or cannot be accessed.
    """
    try:
        path = Path(text).expanduser()
        with contextlib.suppress(FileNotFoundError):
            path.stat()
        return path
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a user without a home
        raise InputError(f"{str(text)[:100]!r} cannot be used: {getattr(error, 'strerror', None) or error}") from None


def _free(place: Path) -> int:
    """Bytes free where ``place`` is, or will be."""
    disk = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(disk).free


def need_room(folder: Path, size: int, purpose: str) -> None:
    """Refuse to start what does not fit on the disk.

    Raises:
      InputError: the disk of ``folder``, which need not exist yet, has less than ``size`` bytes free.
    """
    free = _free(folder)
    if free < size:
        raise InputError(
            f"{folder} has {mib(free)} free, but {purpose} needs {mib(size)}: make room or choose another folder"
        )


def reserve(folder: Path, size: int, purpose: str) -> None:
    """Find out whether ``size`` bytes can be written to ``folder``, by allocating and freeing them.

    Raises:
      InputError: they cannot: the disk is full, a quota is used up or a limit is set.
    """
    need_room(folder, size, purpose)
    if hasattr(os, "posix_fallocate"):
        with writing(folder), tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)


def mib(size: int) -> str:
    """Bytes as ``12.3 MiB``."""
    return f"{size / 2**20:,.1f} MiB"
