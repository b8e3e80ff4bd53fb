"""Pictures in .tar archives, as webdataset writes them: 0001.jpg, and 0001.cls with its label. Nothing is extracted."""

import contextlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dcgan_jax.data.decode import check_size
from dcgan_jax.data.listing import is_picture
from dcgan_jax.system.disk import reading
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import open_regular

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LABEL = 256  # bytes at most


class Entry(NamedTuple):
    """A file in an archive: its name, its bytes, and the label that a .cls beside it says, "" if there is none."""

    name: str
    size: int
    label: str


def is_tar(name: str) -> bool:
    """Whether a file is called like an archive of these."""
    return name.lower().endswith(ENDINGS)


def is_label(name: str) -> bool:
    """Whether a file in an archive is called like one that holds the label of a picture."""
    return name.endswith(".cls")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """
    Raises:
      InputError: it is no archive, or a damaged one.
    """
    try:
        with reading(path), open_regular(path) as file, tarfile.open(fileobj=file, mode="r:*") as archive:
            yield archive
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as a .tar ({first_line(error).rstrip(':')}): get it again") from None


def _files(archive: Any) -> Iterator[tarfile.TarInfo]:
    """The files of an archive in their order there. It forgets each: it would hold all, a KB for each.

    Raises:
      TarError: it is damaged, where ``tarfile`` just ends.
    """
    while member := archive.next():
        archive.members.clear()
        if member.isfile():
            yield member
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"damaged from byte {archive.offset} on")


def entries(path: Path) -> list[Entry]:
    """All files of an archive.

    Raises:
      InputError: it cannot be read.
    """
    names, labels = {}, {}
    with _opened(path) as archive:
        for member in _files(archive):
            names[member.name] = member.size
            if is_label(member.name) and member.size <= _LABEL and (content := archive.extractfile(member)):
                labels[_key(member.name)] = content.read(_LABEL).decode("utf-8", "replace").strip()
    return [Entry(name, size, labels.get(_key(name), "")) for name, size in names.items()]


def _key(name: str) -> str:
    """What the files of one picture have in common: all up to the first dot of the name."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.split(".")[0] or path.name))


def read(path: Path, names: set[str]) -> Iterator[tuple[str, bytes | None]]:
    """The names and the contents of some files of an archive, in their order there; None of a file that is too large.

    Raises:
      InputError: it cannot be read any more.
    """
    with _opened(path) as archive:
        for member in _files(archive):
            if not (member.name in names and is_picture(member.name)):
                continue
            try:
                check_size(member.size)
            except ValueError:
                yield member.name, None
            else:
                content = archive.extractfile(member)
                yield member.name, content.read(member.size) if content else None
