"""Where images come from: the embedded sprites, a folder, a .zip, IDX files, the chapter's Pokémon, TFDS."""

import errno
import gzip
import hashlib
import re
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data import remote, sprites
from dcgan_jax.data.decode import check_size
from dcgan_jax.data.listing import folders, labels, pictures, slashed, walk
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import mib, reading, user_path

POKEMON_URLS = [f"{kind}://d2l-data.s3-accelerate.amazonaws.com/pokemon.zip" for kind in ("https", "http")]
POKEMON_SHA1 = "c065c0e2593b8b161a2d7873e42418bf6a21106c"  # d2l, section DCGAN
SPRITE_COUNT = 20_000

EXPANSION_LIMIT = 2000
"""How many times its own size a .zip may expand to: deflate reaches 1032."""

BY_NAME = ("sprites", "pokemon")
"""Values of ``Config.data`` that are not paths."""

_IDX = re.compile(r"(.*)images([-.]idx)3(-ubyte(?:\.gz)?)")


class Item(NamedTuple):
    """One picture: its name for messages, its label, and a function that reads its file, or makes its pixels.

    Several threads call the ``load`` of different items at once. If it raises an OSError with a number, the system
    has failed and all stops. Any other error means a bad picture, which is skipped.
    """

    name: str
    label: str
    load: Callable[[], bytes | np.ndarray]


class Source(NamedTuple):
    """A set of pictures: its name, a fingerprint of its content, the pictures, and in how many folders they lie."""

    name: str
    fingerprint: str
    count: int
    items: Callable[[], Iterator[Item]]
    folders: int = 0


def open_source(config: Config, cache: Path) -> Source:
    """Open what ``config.data`` names. Nothing is decoded yet.

    Raises:
      InputError: it names nothing, or holds no images; the message says what was found instead.
    """
    data = config.data
    if data == "sprites":
        return _sprites(config.seed)
    if data == "pokemon":
        return _zip(remote.download(POKEMON_URLS, POKEMON_SHA1, cache / "downloads" / "pokemon.zip"))
    if data.startswith("tfds:"):
        return _arrays(*remote.tensorflow_dataset(data.removeprefix("tfds:"), cache))
    path = user_path(data)
    if path.is_dir():
        return _idx(found) if (found := _idx_set(path)) else _folder(path)
    if path.is_file() and _IDX.fullmatch(path.name):
        return _idx(path)
    if path.is_file():
        return _zip(path)
    raise InputError(
        f"--data {data}: no such folder or file, and not sprites, pokemon or tfds:NAME[:SPLIT]. If the images have "
        "moved, give --data with their new place"
    )


def _sprites(seed: int) -> Source:
    def items():
        for i in range(SPRITE_COUNT):
            label = sprites.PLANS[i % len(sprites.PLANS)]
            yield Item(f"sprite {i}", label, lambda i=i: sprites.draw(seed, i)[0])

    code = Path(sprites.__file__).read_bytes()
    return Source(f"sprites-{seed}", _digest([code, str(seed), str(SPRITE_COUNT)]), SPRITE_COUNT, items)


def _arrays(name: str, facts: list[str], count: int, examples: Callable[[], Iterator]) -> Source:
    """Pictures that are arrays of pixels already, each with its label."""

    def items():
        for i, (pixels, label) in enumerate(examples()):
            yield Item(f"example {i}", label, lambda pixels=pixels: pixels)

    return Source(name, _digest(facts), count, items)


def _digest(parts) -> str:
    sha = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def _folder(root: Path) -> Source:
    names = pictures(walk(root), root)

    def facts():
        for name in names:
            try:
                facts = (root / name).stat()
                yield f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}"
            except OSError as error:  # such as a broken link: counted and named when it is loaded
                yield f"{name}\0{error.strerror}"

    def items():
        for name, label in zip(names, labels(names), strict=True):
            yield Item(name, label, lambda path=root / name: _read_file(path))

    return Source(str(root.resolve()), _digest(facts()), len(names), items, folders(names))


def _read_file(path: Path) -> bytes:
    try:
        facts = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP) and path.is_symlink():
            raise ValueError(f"a broken link: {error.strerror}") from None
        raise
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("not a regular file")  # opening a pipe would wait forever
    check_size(facts.st_size)
    with open(path, "rb") as file:
        return file.read(facts.st_size)


def _zip(path: Path) -> Source:
    """Pictures read directly from an archive. Nothing is extracted, so no member is written anywhere.

    Raises:
      InputError: not an archive, or one that claims to expand beyond ``EXPANSION_LIMIT``.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} is neither a folder nor a readable .zip of images: {error}") from None
    read_as = slashed(archive.namelist())
    members = {info.filename: info for info in archive.infolist() if not read_as(info.filename).endswith("/")}
    names = pictures(members, path, read_as=read_as)
    size, declared = path.stat().st_size, sum(members[name].file_size for name in names)
    if declared > EXPANSION_LIMIT * size:
        raise InputError(f"{path} claims to expand from {mib(size)} to {mib(declared)}, more than images do")
    facts = (f"{name}\0{members[name].file_size}\0{members[name].CRC}" for name in names)
    one_at_a_time = threading.Lock()  # on Python 3.12 and 3.13 a reader can move the place where another one reads

    def load(member):
        with one_at_a_time:
            return _read_member(archive, member)

    def items():
        for name, label in zip(names, labels(map(read_as, names)), strict=True):
            yield Item(read_as(name), label, lambda member=members[name]: load(member))

    return Source(str(path.resolve()), _digest(facts), len(names), items, folders(map(read_as, names)))


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    check_size(member.file_size)
    with archive.open(member) as content:
        # Never more than is declared. If the checksum then fails, the file is bad.
        return content.read(member.file_size)


def _idx_set(folder: Path) -> Path | None:
    """The IDX file of images in ``folder`` that has a file of labels beside it, by preference for training.

    Raises:
      InputError: there are several.
    """
    with reading(folder):
        found = [path for path in folder.iterdir() if _IDX.fullmatch(path.name) and path.is_file()]
    found = [path for path in sorted(found, reverse=True) if _idx_labels(path).is_file()]
    images = {path.name.removesuffix(".gz"): path for path in found}  # the unpacked file rather than the same as .gz
    images = {name: path for name, path in images.items() if "train" in name} or images
    if len(images) > 1:
        names = ", ".join(sorted(path.name for path in images.values()))
        raise InputError(f"{folder} holds several sets of images: give one of these files as --data: {names}")
    return next(iter(images.values()), None)


def _idx_labels(images: Path) -> Path:
    return images.with_name(_IDX.sub(r"\1labels\g<2>1\3", images.name))


def _idx(path: Path) -> Source:
    """The files of MNIST and similar sets: big-endian headers, then a byte for each pixel or label."""
    count = next(_idx_stream(path))

    def examples():
        stream = _idx_stream(path)
        next(stream)
        return stream

    facts = [f"{file.stat().st_size}\0{file.stat().st_mtime_ns}" for file in (path, _idx_labels(path))]
    return _arrays(str(path.resolve()), facts, count, examples)


def _idx_stream(path: Path) -> Iterator:
    """Yield the number of images, then each with its label.

    Raises:
      InputError: the files are incomplete, or not IDX files.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as images, opener(_idx_labels(path), "rb") as labels:
            kind, count, *shape = struct.unpack(">4I", images.read(16))
            size = shape[0] * shape[1]
            if (kind, 0x801, count) != (0x803, *struct.unpack(">2I", labels.read(8))) or not 0 < size < 2**24:
                raise EOFError("wrong headers, or different numbers of images and labels")
            yield count
            lying = path.name.startswith("emnist")  # these are stored by columns
            for _ in range(count):
                pixels, label = np.frombuffer(images.read(size), np.uint8).reshape(shape), labels.read(1)[0]
                yield pixels.T if lying else pixels, str(label)
            if images.read(1) or labels.read(1):
                raise EOFError(f"more than {count} images or labels")
    except (EOFError, IndexError, OSError, ValueError, struct.error, zlib.error) as error:
        reason = first_line(error)
        raise InputError(f"{path} cannot be read with its labels ({reason}): get both files again") from None
