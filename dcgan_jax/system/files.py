"""The one way to write a file, and to read one; and locks that end with their process."""

import contextlib
import functools
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import filelock

from dcgan_jax.system.disk import mib, reading, writing
from dcgan_jax.system.errors import InputError, encodable

_PARTIAL = ".dcgan_jax-"
"""How the names of files and folders begin until they are complete. Nothing reads them."""
_ABANDONED = 3600  # seconds without a write, after which what a killed process left is deleted


def write_text(path: Path, text: str, *, synced: bool = True) -> None:
    """``write_bytes`` of the text in UTF-8. What has no place in it, as in some names of files, is escaped."""
    write_bytes(path, encodable(text).encode(), synced=synced)


def write_bytes(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a file; see ``replacing``."""
    with replacing(path, synced=synced) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file to write to, which gets the name ``path`` when the block ends without an error.

    A kill or a power cut leaves what was there or all of the new file, never a part. So do two processes that write
    at once. A link is replaced, not followed. A file that is replaced passes on its permissions.

    Args:
      path: of the file.
      synced: wait until it is on the disk; not needed in a ``new_folder``.

    Raises:
      InputError: ``path`` leads to something that is not a file, such as a device, a pipe or a folder.
      OSError: it cannot be written (see ``writing``).
    """
    mode = _mode(path)
    _clear(path.parent.absolute())
    partial = _unique(path)
    try:
        with open(partial, "x+b") as file:  # x: O_EXCL, which follows no link
            try:
                yield file
                file.flush()
                if mode is not None and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), mode)
                if synced:
                    os.fsync(file.fileno())
                _let_go(file)
                partial.replace(path)
            except BaseException:
                _let_go(file)
                partial.unlink(missing_ok=True)
                raise
        if synced:
            sync(path.parent)
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename = str(path)
        raise


def check_new_folder(path: Path) -> None:
    """Refuse what ``new_folder`` cannot make.

    Raises:
      InputError: ``path`` is something other than an empty folder, or a folder that cannot be replaced.
    """
    with reading(path):
        if not path.exists():
            return
        if not path.is_dir() or any(path.iterdir()):
            raise InputError(f"{path} exists and is not an empty folder: give --out another one")
        if path.is_mount() or path.samefile("."):
            raise InputError(f"{path} cannot be replaced by a new folder: give --out a folder in it")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill, which gets the name ``path`` when the block ends without an error.

    Until then nothing has that name, except an empty folder that may have been there.

    Raises:
      InputError: see ``check_new_folder``.
      OSError: it cannot be written (see ``writing``).
    """
    check_new_folder(path)
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(path.parent)
    partial = _unique(path)
    partial.mkdir()
    try:
        yield partial
        for folder, _, names in os.walk(partial):
            for place in (*names, "."):
                sync(Path(folder, place))
        partial.replace(path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.filename and Path(error.filename).is_relative_to(partial):
            error.filename = str(path / Path(error.filename).relative_to(partial))
        raise
    sync(path.parent)


def _let_go(file: BinaryIO) -> None:
    """Close a file where an open one can be neither renamed nor deleted."""
    if os.name == "nt":
        file.close()


def _unique(path: Path) -> Path:
    return path.with_name(f"{_PARTIAL}{secrets.token_hex(8)}.partial")


def _mode(path: Path) -> int | None:
    """The permissions of the file that ``path`` leads to, or None if there is none."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a regular file and cannot be replaced by one: give another name")
    return stat.S_IMODE(mode) & 0o777


@functools.cache
def _clear(folder: Path) -> None:
    """Delete what killed processes left in a folder, once in a process."""
    with contextlib.suppress(OSError):  # another process deletes it too, or it is not ours
        for path in folder.glob(f"{_PARTIAL}*.partial"):
            facts = path.lstat()
            if time.time() - facts.st_mtime > _ABANDONED:
                shutil.rmtree(path) if stat.S_ISDIR(facts.st_mode) else path.unlink()


def open_regular(path: Path, *, buffering: int = -1) -> io.BufferedReader:
    """Open a regular file to read. A pipe, which would wait for ever, a device or a folder is refused, also behind a
    link.

    Raises:
      FileNotFoundError: there is none.
      InputError: it is no regular file.
      OSError: it cannot be read (see ``reading``).
    """

    def opened(name, flags):
        number = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe does not wait
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise InputError(f"{path} is not a regular file: move it away")
        return number

    return cast(io.BufferedReader, open(path, "rb", buffering, opener=opened))


def read_bytes(path: Path, *, most: int = 256 << 20, start: int | None = None) -> bytes:
    """Read a file of ``open_regular``, or its first ``start`` bytes.

    Raises:
      InputError: it has more than ``most`` bytes; and what ``open_regular`` raises.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if start is None and size > most:
            raise InputError(f"{path} has {mib(size)}, more than the {mib(most)} that it can have")
        return file.read(size if start is None else start)


def write_checked(path: Path, content: bytes) -> None:
    """Write a file of a cache, for ``read_checked``: the SHA-256 of the content, then the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, hashlib.sha256(content).digest() + content)


def read_checked(path: Path, *, most: int = 256 << 20) -> bytes | None:
    """What ``write_checked`` wrote; None if there is no such file, or another content.

    Raises:
      InputError: it cannot be read, is no regular file, or is larger than ``most``.
    """
    with reading(path):
        if not path.exists():
            return None
        content = read_bytes(path, most=most)
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def read_text(path: Path, *, most: int = 256 << 20) -> str:
    """``read_bytes`` as UTF-8 text.

    Raises:
      ValueError: it is not UTF-8; and what ``read_bytes`` raises.
    """
    return read_bytes(path, most=most).decode()


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk. Windows has no such call for them."""
    if os.name == "nt":
        return
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
        if path.is_symlink() or (path.exists() and not path.is_file()):  # which would be emptied, or waited for
            raise InputError(f"{path} is not a regular file: delete it")
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=-1 if refusal is None else 0)
        except filelock.Timeout:
            raise InputError(refusal) from None
    try:
        yield
    finally:
        lock.release()
