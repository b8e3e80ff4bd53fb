"""Files that are whole or not there, locks that die with their process, and room on the disk."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock

from dcgan_jax.errors import InputError


def write_text(path: Path, text: str) -> None:
    """Write a file that a kill leaves as it was or as it is to be, never in between."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


@contextlib.contextmanager
def locked(path: Path, *, refusal: str | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, which the system frees when the process ends, however it ends.

    Waits for another holder, or, given ``refusal``, refuses at once with these words.

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
def writing(path: Path) -> Iterator[None]:
    """
    Raises:
      InputError: the block could not write; names the place and what stands in the way.
    """
    try:
        yield
    except OSError as error:
        mend = ": make room, and run the same command again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise InputError(f"cannot write {error.filename or path}: {error.strerror or error}{mend}") from error


def need_room(folder: Path, size: int, purpose: str) -> None:
    """
    Raises:
      InputError: the disk of ``folder``, which need not exist yet, has less than ``size`` bytes free.
    """
    disk = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(disk).free
    if free < size:
        raise InputError(f"{folder} has {mib(free)} free, but {purpose} needs {mib(size)}: make room or choose another folder")


def mib(size: int) -> str:
    """Bytes as ``12.3 MiB``."""
    return f"{size / 2**20:,.1f} MiB"
