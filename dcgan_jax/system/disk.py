"""What a disk allows: its free space, paths that can be used, and its errors in words, with their remedies."""

import contextlib
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dcgan_jax.system.errors import InputError, first_line


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
        raise InputError(f"cannot {verb} {place}: {reason} ({_remedy(error.errno, place)})") from error


_REMEDIES = {
    errno.EDQUOT: "your quota there is used up: delete files of yours, and run the same command again",
    errno.EFBIG: "larger than ulimit -f or the file system allows: raise the limit, or give another folder",
    errno.EROFS: "nothing can be written there: give another folder",
    errno.EACCES: "change its permissions, or give another place",
    errno.EPERM: "change its permissions, or give another place",
    errno.ENAMETOOLONG: "give a shorter name",
}


def _remedy(number: int | None, place: Path) -> str:
    again = "run the same command again"
    if number != errno.ENOSPC:
        return _REMEDIES.get(number or 0, f"fix this and {again}")
    facts, free = os.statvfs(_nearest(place)) if hasattr(os, "statvfs") else None, _free(place)
    if facts and facts.f_files and not facts.f_favail:
        return f"there can be no more files on this disk, whatever their size: delete some, and {again}"
    if free < 64 << 20:
        return f"{mib(free)} free: make room, and {again}"
    return f"{mib(free)} are free now: something else filled the disk for a while, or a limit is set; {again}"


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
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # RuntimeError: a user without a home
        raise InputError(f"{str(text)[:100]!r} cannot be used: {getattr(error, 'strerror', None) or error}") from None


def check_temporary() -> None:
    """Refuse a system without a folder for temporary files, which libraries meet with errors of their own.

    Raises:
      InputError: there is none.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise InputError(f"{first_line(error)}: set TMPDIR to a folder that can be written") from None


def _free(place: Path) -> int:
    """Bytes free where ``place`` is, or will be."""
    return shutil.disk_usage(_nearest(place)).free


def _nearest(place: Path) -> Path:
    """``place``, or the folder above it that exists."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


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
