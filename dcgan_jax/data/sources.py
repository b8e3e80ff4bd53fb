"""Where images come from: the embedded sprites, a folder, a .zip, the chapter's Pokémon, TFDS."""

import hashlib
import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data import remote, sprites
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import mib, user_path

POKEMON_URLS = [f"{scheme}://d2l-data.s3-accelerate.amazonaws.com/pokemon.zip" for scheme in ("https", "http")]
POKEMON_SHA1 = "c065c0e2593b8b161a2d7873e42418bf6a21106c"  # d2l, section DCGAN
SPRITE_COUNT = 20_000

MEMBER_LIMIT = 256 << 20
"""Bytes that one picture in a .zip may expand to."""
EXPANSION_LIMIT = 2000
"""How many times its own size a .zip may expand to: deflate reaches 1032."""

BY_NAME = ("sprites", "pokemon")
"""Values of ``Config.data`` that mean no file."""

ENDINGS = frozenset(".png .jpg .jpeg .jpe .jfif .gif .webp .bmp .tif .tiff .ppm .pgm .pbm .avif .tga .jp2".split())

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF", "TGA", "JPEG2000")
"""What is decoded, whatever it is called: Pillow would run Ghostscript on an EPS file named .png."""


class Item(NamedTuple):
    """One picture: its name for messages, its label, and a function that decodes it."""

    name: str
    label: str
    load: Callable[[], Image.Image]


class Source(NamedTuple):
    """A set of pictures: what it is called, what its content is recognised by, and the pictures."""

    name: str
    fingerprint: str
    count: int
    items: Callable[[], Iterator[Item]]


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
        return _folder(path)
    if path.is_file():
        return _zip(path)
    raise InputError(
        f"--data {data}: no such folder or file, nor one of sprites, pokemon, tfds:NAME[:SPLIT]"
    )


def _sprites(seed: int) -> Source:
    def items():
        for i in range(SPRITE_COUNT):
            label = sprites.PLANS[i % len(sprites.PLANS)]
            yield Item(f"sprite {i}", label, lambda i=i: Image.fromarray(sprites.draw(seed, i)[0]))

    code = Path(sprites.__file__).read_bytes()
    return Source(f"sprites-{seed}", _digest([code, str(seed), str(SPRITE_COUNT)]), SPRITE_COUNT, items)


def _arrays(name: str, facts: list[str], count: int, examples: Callable[[], Iterator]) -> Source:
    """Pictures that are arrays of pixels already, each with its label."""

    def items():
        for i, (pixels, label) in enumerate(examples()):
            yield Item(f"example {i}", label, lambda pixels=pixels: Image.fromarray(pixels))

    return Source(name, _digest(facts), count, items)


def _digest(parts) -> str:
    sha = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.parts)


def _images_among(names: list[str], where: Path) -> list[str]:
    """The names that end like images, sorted.

    Raises:
      InputError: there are none; says what there is.
    """
    visible = [name for name in names if not _is_hidden(PurePosixPath(name))]
    images = sorted(name for name in visible if PurePosixPath(name).suffix.lower() in ENDINGS)
    if not images:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "without an ending" for name in visible)
        commonest = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))[:5]
        found = ", ".join(f"{count} {kind}" for kind, count in commonest) or "nothing"
        raise InputError(f"{where} holds no images: found {found}; wanted files like .png, .jpg or .webp")
    return images


def _label(name: str) -> str:
    return PurePosixPath(name).parent.name


def _folder(root: Path) -> Source:
    def refuse(error):
        raise InputError(f"{error.filename} cannot be read: {error.strerror}")

    names = []
    for folder, _, files in os.walk(root, onerror=refuse):
        names += [Path(folder, file).relative_to(root).as_posix() for file in files]
    names = _images_among(names, root)

    def facts():
        for name in names:
            try:
                facts = (root / name).stat()
                yield f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}"
            except OSError as error:  # a link to nowhere, say: counted and named when it is loaded
                yield f"{name}\0{error.strerror}"

    def items():
        for name in names:
            yield Item(name, _label(name), lambda path=root / name: _open_file(path))

    return Source(str(root.resolve()), _digest(facts()), len(names), items)


def _open_file(path: Path) -> Image.Image:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")  # opening a pipe would wait for ever
    return Image.open(path, formats=FORMATS)


def _zip(path: Path) -> Source:
    """Pictures straight out of an archive. Nothing is extracted, so no member can land anywhere.

    Raises:
      InputError: no archive, or one that claims to expand beyond ``EXPANSION_LIMIT``.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} is neither a folder nor a readable .zip of images: {error}") from None
    members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    names = _images_among(list(members), path)
    size, declared = path.stat().st_size, sum(members[name].file_size for name in names)
    if declared > EXPANSION_LIMIT * size:
        raise InputError(f"{path} claims to expand from {mib(size)} to {mib(declared)}: no set of images does")
    facts = (f"{name}\0{members[name].file_size}\0{members[name].CRC}" for name in names)

    def items():
        for name in names:
            yield Item(name, _label(name), lambda member=members[name]: _open_member(archive, member))

    return Source(str(path.resolve()), _digest(facts), len(names), items)


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Image.Image:
    if member.file_size > MEMBER_LIMIT:
        raise ValueError(f"expands to {mib(member.file_size)}, more than {mib(MEMBER_LIMIT)}")
    with archive.open(member) as content:
        # No more than is declared, whatever is there: a checksum that then fails is a bad file.
        return Image.open(io.BytesIO(content.read(member.file_size)), formats=FORMATS)
