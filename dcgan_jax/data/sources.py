"""Where images come from: the embedded sprites, a folder, a .zip, the chapter's Pokémon, TFDS."""

import hashlib
import http.client
import io
import os
import re
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from dcgan_jax.config import InputError
from dcgan_jax.data import sprites

POKEMON_URL = "http://d2l-data.s3-accelerate.amazonaws.com/pokemon.zip"
POKEMON_SHA1 = "c065c0e2593b8b161a2d7873e42418bf6a21106c"  # d2l, section DCGAN
SPRITE_COUNT = 20_000

ENDINGS = frozenset(".png .jpg .jpeg .jpe .jfif .gif .webp .bmp .tif .tiff .ppm .pgm .pbm .avif .tga .jp2".split())


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


def open_source(data: str, *, cache: Path, seed: int = 0) -> Source:
    """Open what ``Config.data`` names. Nothing is decoded yet.

    Raises:
      InputError: it names nothing, or holds no images; the message says what was found instead.
    """
    if data == "sprites":
        return _sprites(seed)
    if data == "pokemon":
        return _zip(_download(POKEMON_URL, POKEMON_SHA1, cache / "downloads" / "pokemon.zip"))
    if data.startswith("tfds:"):
        return _tfds(data.removeprefix("tfds:"))
    path = Path(data).expanduser()
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
            stat = (root / name).stat()
            yield f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}"

    def items():
        for name in names:
            yield Item(name, _label(name), lambda path=root / name: Image.open(path))

    try:
        fingerprint = _digest(facts())
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None
    return Source(str(root.resolve()), fingerprint, len(names), items)


def _zip(path: Path) -> Source:
    """Pictures straight out of an archive. Nothing is extracted, so no member can land anywhere."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is neither a folder nor a readable .zip of images: {error}") from None
    members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    names = _images_among(list(members), path)
    facts = (f"{name}\0{members[name].file_size}\0{members[name].CRC}" for name in names)

    def items():
        for name in names:
            yield Item(name, _label(name), lambda name=name: Image.open(io.BytesIO(archive.read(name))))

    return Source(str(path.resolve()), _digest(facts), len(names), items)


def _download(url: str, sha1: str, target: Path) -> Path:
    """Fetch ``url`` once; ``target`` exists only whole and checked.

    Raises:
      InputError: no network, a broken transfer, or a wrong checksum.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    mend = f"try again, or put the file at {target} yourself"
    digest = hashlib.sha1()
    try:
        with urllib.request.urlopen(url, timeout=60) as reply, open(partial, "wb") as out:
            size = int(reply.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=f"downloading {target.name}") as bar:
                while chunk := reply.read(1 << 20):
                    out.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
            if size and out.tell() != size:
                raise InputError(f"the download of {url} broke off after {out.tell()} of {size} bytes: {mend}")
        if digest.hexdigest() != sha1:
            raise InputError(f"{url} has SHA-1 {digest.hexdigest()}, not {sha1}: the file was changed or damaged")
        partial.rename(target)
    except urllib.error.HTTPError as error:
        raise InputError(f"{url} answered {error.code} {error.reason}: {mend}") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise InputError(f"the download of {url} broke off ({error or type(error).__name__}): {mend}") from None
    except urllib.error.URLError as error:
        raise InputError(f"{url} cannot be reached ({error.reason}): connect to the network, or put the file at {target} yourself") from None
    finally:
        partial.unlink(missing_ok=True)
    return target


def _tfds(spec: str) -> Source:
    """A data set of tensorflow-datasets: ``NAME[/CONFIG][:VERSION][:SPLIT]``, the split ``train`` by default."""
    import tensorflow_datasets as tfds

    parts = re.fullmatch(r"([^:]+(?::[\d.*]+)?)(?::(.+))?", spec)
    if not parts:
        raise InputError(f"--data tfds:{spec} is not of the form tfds:NAME[/CONFIG][:VERSION][:SPLIT]")
    name, split = parts[1], parts[2] or "train"
    try:
        builder = tfds.builder(name)
        builder.download_and_prepare()
    except tfds.core.registered.DatasetNotFoundError:
        raise InputError(f"--data tfds:{spec}: tensorflow-datasets has no data set {name!r}") from None
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"--data tfds:{spec} cannot be prepared ({type(error).__name__}): {first}") from None
    features = builder.info.features
    if "image" not in features:
        raise InputError(f"--data tfds:{spec} has no feature 'image', only {', '.join(features)}")
    try:
        dataset = builder.as_dataset(split=split)
    except (KeyError, ValueError):
        known = ", ".join(builder.info.splits)
        raise InputError(f"--data tfds:{spec}: there is no split {split!r}; there are {known}") from None
    count = int(dataset.cardinality())
    to_name = getattr(features["label"] if "label" in features else None, "int2str", str)

    def items():
        for i, example in enumerate(dataset.as_numpy_iterator()):
            pixels = example["image"]
            pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
            label = to_name(example["label"]) if "label" in example else ""
            yield Item(f"example {i}", label, lambda pixels=pixels: Image.fromarray(pixels))

    facts = (builder.info.full_name, split, str(count), str(builder.data_dir))
    return Source(f"tfds-{builder.info.full_name}-{split}", _digest(facts), count, items)
