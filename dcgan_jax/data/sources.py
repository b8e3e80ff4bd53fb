"""Where images come from: the embedded sprites, a folder, a .zip, IDX files, arrays, the chapter's Pokémon, TFDS."""

import difflib
import errno
import functools
import hashlib
import re
import stat
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan_jax.config import BY_NAME, Config, has_alpha
from dcgan_jax.data import arrays, bodies, hdf5, idx, sprites
from dcgan_jax.data.decode import check_size
from dcgan_jax.data.listing import folders, is_picture, labels, pictures, slashed, walk
from dcgan_jax.data.planes import Planes, Type, check_channels, defined_range, store_type
from dcgan_jax.system.disk import mib, user_path
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import open_regular

POKEMON_URLS = [f"{kind}://d2l-data.s3-accelerate.amazonaws.com/pokemon.zip" for kind in ("https", "http")]
POKEMON_SHA1 = "c065c0e2593b8b161a2d7873e42418bf6a21106c"  # d2l, section DCGAN
SPRITE_COUNT = 20_000

EXPANSION_LIMIT = 2000
"""How many times its own size a .zip may expand to: deflate reaches 1032."""

_HEAD = 1 << 16  # bytes of a file's head

_PUBLISHED = (
    "mnist fashion_mnist kmnist emnist cifar10 cifar100 svhn_cropped celeb_a stl10 cats_vs_dogs oxford_flowers102 "
    "oxford_iiit_pet stanford_dogs food101 quickdraw_bitmap imagenette omniglot smallnorb eurosat caltech101"
).split()
_OTHER_ARCHIVES = tuple(".tar.zst .gz .bz2 .xz .zst .rar .7z".split())


class Item(NamedTuple):
    """One picture: its name for messages, its label, and a function that reads its file, or makes its pixels.

    Several threads call the ``load`` of different items at once. If it raises an OSError with a number, the system
    has failed and all stops. Any other error means a bad picture, which is skipped.

    If it is a file, ``head`` reads its first bytes, which mostly say of what size and kind the picture is.
    """

    name: str
    label: str
    load: Callable[[], bytes | np.ndarray | Planes]
    head: Callable[[], bytes] | None = None


class Kind(NamedTuple):
    """What all images of a set of arrays have in common: how many channels, and the type of the values."""

    channels: int
    kind: np.dtype

    def type(self, config: Config) -> Type:
        """That of the numbers in which they are stored: uint8 or uint16."""
        ends = config.range or defined_range(self.kind)
        return store_type(self.kind, ends, config) if ends else "uint16"


class Source(NamedTuple):
    """A set of pictures: its name, a fingerprint of its content, the pictures, in how many folders they lie, what
    they are if they are arrays without colours, and the column that they lie in if they are of a table."""

    name: str
    fingerprint: str
    count: int
    items: Callable[[], Iterator[Item]]
    folders: int = 0
    planes: Kind | None = None
    column: str = ""


def hub_name(spec: str) -> tuple[str, str]:
    """The name and the split of ``NAME[:SPLIT]``; an empty split if it has none.

    Raises:
      InputError: it is not of this form.
    """
    match = re.fullmatch(r"(.+?)(?::([\w.+-]+))?", spec)
    if match is None:
        raise InputError(f"--data hf:{spec} is not of the form hf:NAME[:SPLIT]")
    return match[1], match[2] or ""


def absolute(data: str) -> str:
    """``Config.data`` such that it names the same from any folder: with the whole path of a file or a folder."""
    if data in BY_NAME:
        return data
    hub = ""
    name, split = hdf5.place(data)
    if data.startswith("hf:"):
        hub = "hf:"
        name, split = hub_name(data.removeprefix(hub))
    place = user_path(name)
    if not (place.is_dir() if hub else place.exists()):
        return data
    return f"{hub}{place.resolve()}{':' * bool(split)}{split}"


def open_source(config: Config, cache: Path) -> Source:
    """Open what ``config.data`` names. Nothing is decoded yet.

    Raises:
      InputError: it names nothing, or holds no images; the message says what was found instead.
    """
    data = config.data
    if data == "sprites":
        return _sprites(config.seed, alpha=has_alpha(config.channels))
    if data == "pokemon" or data.startswith("tfds:"):
        from dcgan_jax.data import remote  # which imports what opens connections

        if data == "pokemon":
            return _zip(remote.download(POKEMON_URLS, POKEMON_SHA1, cache / "downloads" / "pokemon.zip"))
        return _arrays(*remote.tensorflow_dataset(data.removeprefix("tfds:"), cache))
    if data.startswith("hf:"):
        from dcgan_jax.data import packed

        return packed.hugging_face(data.removeprefix("hf:"), config.column, cache)
    name, dataset = hdf5.place(data)
    path = user_path(name)
    if path.is_dir():
        return _of_folder(path, config)
    if path.is_file():
        return _of_file(path, config, dataset)
    meant = f"did you mean --data {near}? " if (near := _near(data)) else ""
    raise InputError(
        f"--data {data}: no such folder or file, and not sprites, pokemon, tfds:NAME[:SPLIT] or hf:NAME[:SPLIT]. "
        f"{meant}If the images have moved, give train --data with their new place"
    )


def _of_folder(path: Path, config: Config) -> Source:
    """A folder of pictures; if it has none, of IDX files, tables, archives or arrays."""
    names = walk(path)
    pictured = any(map(is_picture, names))
    here = [name for name in names if "/" not in name or not pictured]
    if images := idx.choose(path, here):
        return _idx(images)
    if pictured:
        return _folder(path, names)
    from dcgan_jax.data import packed, tables, tars  # which import this

    if files := tables.tables_of(path, names, ""):
        return packed.table(path, files, config.column)
    if archives := sorted(path / name for name in names if tars.is_tar(name)):
        return packed.tar(path, archives)
    if chosen := sorted(name for name in names if arrays.is_arrays(name)):
        return _planes(path, arrays.of_folder(path, chosen, labels(chosen)), config, folders(chosen))
    return _folder(path, names)


def _of_file(path: Path, config: Config, dataset: str) -> Source:
    from dcgan_jax.data import packed, tars  # which import this

    if arrays.is_arrays(path.name):
        return _planes(path, arrays.of_file(path, dataset), config, dataset=dataset)
    if tars.is_tar(path.name):
        return packed.tar(path, [path])
    if path.suffix.lower() == ".parquet":
        return packed.table(path, [path], config.column)
    return _idx(path) if idx.is_images(path.name) else _zip(_checked_archive(path))


def _near(data: str) -> str | None:
    """The name of a data set that is nearly ``data``."""
    plain = re.sub(r"[^a-z0-9]", "", data.lower())
    names = {name: name for name in BY_NAME} | {re.sub("[^a-z0-9]", "", name): f"tfds:{name}" for name in _PUBLISHED}
    close = difflib.get_close_matches(plain, names, n=1, cutoff=0.8)
    return names[close[0]] if close else None


def _checked_archive(path: Path) -> Path:
    """
    Raises:
      InputError: it is a file of another kind, for which there is a remedy.
    """
    if is_picture(path.name):
        several = "a network learns what many pictures have in common"
        raise InputError(f"{path} is one picture, but {several}: give the folder with all of them as --data")
    if (images := idx.images_of(path)) is not None:
        raise InputError(f"{path} holds labels, not images: give the file of the images as --data, {images}")
    if path.name.lower().endswith(_OTHER_ARCHIVES):
        raise InputError(f"{path} is an archive, but not a .zip or .tar: unpack it, and give the folder as --data")
    return path


def _sprites(seed: int, *, alpha: bool) -> Source:
    def items():
        for i in range(SPRITE_COUNT):
            label = sprites.PLANS[i % len(sprites.PLANS)]
            yield Item(f"sprite {i}", label, lambda i=i: sprites.draw(seed, i, alpha=alpha)[0])

    code = [Path(sprites.__file__).read_bytes(), Path(bodies.__file__).read_bytes()]
    return Source(f"sprites-{seed}", digest([*code, str(seed), str(SPRITE_COUNT)]), SPRITE_COUNT, items)


def _arrays(name: str, facts: list[str], count: int, examples: Callable[[], Iterator]) -> Source:
    """Pictures that are arrays of pixels already, each with its label."""

    def items():
        for i, (pixels, label) in enumerate(examples()):
            yield Item(f"example {i}", label, lambda pixels=pixels: pixels)

    return Source(name, digest(facts), count, items)


def _planes(path: Path, images: arrays.Images, config: Config, folders: int = 0, dataset: str = "") -> Source:
    """Arrays of any number of channels, of a file or a folder, or of what ``dataset`` names in the file.

    Raises:
      InputError: the run has another number, or the range of the values has to be stated.
    """
    first = images.members[0]
    check_channels(str(path), first.image[2], config)
    kind = first.kind.newbyteorder("=")
    if not (config.range or defined_range(kind)):
        _ask_for_range(path, kind, images)

    def items():
        for i, (values, label) in enumerate(zip(arrays.read(images), images.labels(), strict=True)):
            yield Item(f"image {i}", label, lambda values=values: Planes(values))

    files = {one.path: one.path.stat() for one in images.members}
    facts = (f"{name}\0{file.st_size}\0{file.st_mtime_ns}" for name, file in files.items())
    name = f"{path.resolve()}{':' * bool(dataset)}{dataset}"
    return Source(name, digest(facts), images.count, items, folders, Kind(first.image[2], kind))


def _ask_for_range(path: Path, kind: np.dtype, images: arrays.Images):
    low, high, bad = arrays.seen_range(lambda: arrays.read(images))
    others = f"; {bad:,} of {images.count:,} images hold values that are infinite or not a number" if bad else ""
    if low > high:
        raise InputError(f"{path} holds no finite value: save numbers")
    if low == high:
        raise InputError(f"{path} holds the one value {low:g}{others}: there is nothing to learn")
    low, high = (str(kind.type(end)) for end in (low, high))
    raise InputError(
        f"{path} holds values of {kind} from {low} to {high}{others}: say between which values they lie, such as "
        f"--range {low} {high}"
    )


def digest(parts: Iterable[bytes | str]) -> str:
    """What names the content of a source: a SHA-256 of these parts."""
    sha = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def _folder(root: Path, names: list[str]) -> Source:
    names = pictures(names, root)

    def facts():
        for name in names:
            try:
                facts = (root / name).stat()
                yield f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}"
            except OSError as error:  # such as a broken link: counted and named when it is loaded
                yield f"{name}\0{error.strerror}"

    def items():
        for name, label in zip(names, labels(names), strict=True):
            read = functools.partial(read_file, root / name)
            yield Item(name, label, read, head=functools.partial(read, _HEAD))

    return Source(str(root.resolve()), digest(facts()), len(names), items, folders(names))


def read_file(path: Path, most: int | None = None) -> bytes:
    """What is in a picture's file, or its first bytes, at ``most`` so many.

    Raises:
      ValueError: says why it cannot be read, for the list of those that are left out.
    """
    try:
        facts = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP) and path.is_symlink():
            raise ValueError(f"a broken link: {error.strerror}") from None
        raise
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("not a regular file")  # opening a pipe would wait forever
    check_size(facts.st_size)
    with open_regular(path) as file:
        return file.read(facts.st_size if most is None else most)


def _zip(path: Path) -> Source:
    """Pictures read directly from an archive. Nothing is extracted, so no member is written anywhere.

    Raises:
      InputError: not an archive, or one that claims to expand beyond ``EXPANSION_LIMIT``.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path} is neither a folder nor a readable .zip of images ({error}): get it again, or give a folder of "
            "pictures, or another of what --data takes"
        ) from None
    read_as = slashed(archive.namelist())
    members = {info.filename: info for info in archive.infolist() if not read_as(info.filename).endswith("/")}
    names = pictures(members, path, read_as=read_as)
    size, declared = path.stat().st_size, sum(members[name].file_size for name in names)
    if declared > EXPANSION_LIMIT * size:
        raise InputError(f"{path} claims to expand from {mib(size)} to {mib(declared)}, more than images do")
    facts = (f"{name}\0{members[name].file_size}\0{members[name].CRC}" for name in names)
    one_at_a_time = threading.Lock()  # on Python 3.12 and 3.13 a reader can move the place where another one reads

    def load(member, most=None):
        with one_at_a_time:
            return _read_member(archive, member, most)

    def items():
        for name, label in zip(names, labels(map(read_as, names)), strict=True):
            read = functools.partial(load, members[name])
            yield Item(read_as(name), label, read, head=functools.partial(read, _HEAD))

    return Source(str(path.resolve()), digest(facts), len(names), items, folders(map(read_as, names)))


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int | None = None) -> bytes:
    check_size(member.file_size)
    with archive.open(member) as content:
        # Never more than is declared. If the checksum then fails, the file is bad.
        return content.read(member.file_size if most is None else min(most, member.file_size))


def _idx(path: Path) -> Source:
    count = next(idx.read(path))

    def examples():
        stream = idx.read(path)
        next(stream)
        return stream

    files = [file.stat() for file in (path, idx.labels_of(path)) if file.exists()]
    facts = [f"{file.st_size}\0{file.st_mtime_ns}" for file in files]
    return _arrays(str(path.resolve()), facts, count, examples)
