"""Decoding all pictures of a source into the folder of a store."""

import contextlib
import dataclasses
import hashlib
import json
import os
import queue
import re
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax.config import Config, has_alpha
from dcgan_jax.data.decode import Picture, read_picture
from dcgan_jax.data.depth import FULL
from dcgan_jax.data.listing import is_drawn
from dcgan_jax.data.planes import Scale, Type, bits, defined_range
from dcgan_jax.data.sources import Item, Source
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import open_regular
from dcgan_jax.system.progress import progress

IMAGES = {"uint8": "images.u8", "uint16": "images.u16"}
"""The file of the images, by the type of its numbers; those of two bytes begin with the lower one."""
SUMS = "SHA256SUMS"
_SLOW, _MANY = 0.01, 5  # seconds for a picture, and so many of the last 20: threads are faster from there on


@dataclasses.dataclass(frozen=True)
class Manifest:
    """``manifest.json``; see ``Store``, which is read by it."""

    shape: list[int]
    fingerprint: str
    digest: str
    labels: list[str]
    skipped: list[str]
    off_colour: list[str]
    copies: int
    transparent: int  # pictures with transparent pixels
    drawn: int  # left out because a network has drawn them
    several: int  # files of which the first of several pages or frames was taken
    values: list[list[float]]  # of pictures with more than 8 bits a value, by what their files mean by black and white
    type: Type  # of the images
    scale: Scale  # what the files held


def build(source: Source, config: Config, folder: Path) -> None:
    """Decode all pictures of ``source``, and write the files of a store into ``folder``.

    Raises:
      InputError: an image cannot be read, more than half of the files are not images, or there are none to learn from.
    """
    type_: Type = "uint16" if bits(config) == "16" else "uint8"
    try:
        census = _decoded(source, config, folder, type_)
    except _DeeperError:  # mostly the first picture: all begins anew, with room for what it holds
        (folder / IMAGES[type_]).unlink()
        type_ = "uint16"
        census = _decoded(source, config, folder, type_)
    census.check(source, config)
    np.save(folder / "labels.npy", census.numbers())
    manifest = census.manifest(source, config)
    values = {"source": source.name, **dataclasses.asdict(manifest), "scale": manifest.scale._asdict()}
    (folder / "manifest.json").write_text(json.dumps(values, indent=2))
    (folder / SUMS).write_bytes(sums(folder))
    for path in (*files(folder), folder / SUMS):
        with open(path, "r+b") as file:
            os.fsync(file.fileno())


def expected_type(source: Source, config: Config) -> Type:
    """The type of the numbers that ``build`` will most likely write: it looks at the first picture."""
    if source.planes:
        return source.planes.type(config)
    if bits(config) != "auto":
        return "uint8" if bits(config) == "8" else "uint16"
    with contextlib.suppress(InputError):  # such as without a network, which a store in the cache does not need
        for item in source.items():
            _, picture, _ = reader(source, config)(item)
            return "uint16" if picture and picture.square.dtype == np.uint16 else "uint8"
    return "uint8"


class _DeeperError(Exception):
    """A picture has 16 bits, and there was only room for 8."""


def files(folder: Path) -> list[Path]:
    """The files of a store, beside ``SUMS``."""
    images = next((folder / name for name in IMAGES.values() if (folder / name).exists()), folder / IMAGES["uint8"])
    return [images, folder / "labels.npy", folder / "manifest.json"]


def _decoded(source: Source, config: Config, folder: Path, type_: Type) -> "_Census":
    """Write the images in this type, and count what they are.

    Raises:
      _DeeperError: they need the larger one.
    """
    census = _Census(type_)
    with (
        open(folder / IMAGES[type_], "wb") as out,
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        contextlib.closing(ordered_map(reader(source, config), source.items())) as pictures,
    ):
        for item, picture, problem in progress(pictures, "preparing images", total=source.count):
            if problem:
                census.skip(item.name, problem)
            elif picture is None:
                census.drawn += 1
            else:
                out.write(census.add(item, picture))
    return census


def reader(
    source: Source, config: Config, *, drawn: bool = False
) -> Callable[[Item], tuple[Item, Picture | None, str | None]]:
    """A function from an item to it, its picture, and why it cannot be decoded.

    The picture is None then, and if a network has ``drawn`` it, unless those are wanted.
    """

    def read(item: Item):
        try:
            content = item.load()
            if not drawn and isinstance(content, bytes) and is_drawn(content):
                return item, None, None
            return item, read_picture(content, config), None
        except Exception as error:  # decoders raise anything on bad bytes; each is counted and named
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                reason = getattr(error, "strerror", None) or "not enough memory"
                place = f"{item.name} in {source.name} cannot be read"
                raise InputError(f"{place}: {reason}: fix this and run the same command again") from error
            return item, None, " ".join(str(error).split()) or type(error).__name__

    return read


class _Census:
    """What is counted of the pictures of a source, while they are decoded one after another into numbers of a type."""

    def __init__(self, type_: Type):
        self._type: Type = type_
        self._floating = False
        self.labels, self._names = [], {}
        self.skipped, self.off_colour, self._values = [], [], {}
        self.transparent, self.drawn, self.several = 0, 0, 0
        self._hashes, self._digest = bytearray(), hashlib.sha256()

    def skip(self, name: str, problem: str) -> None:
        self.skipped.append(printable(f"{name} ({problem})"))

    def add(self, item: Item, picture: Picture) -> bytes:
        """Note down a picture; returns its bytes."""
        square = picture.square
        if square.dtype.name != self._type:
            if self._type == "uint8":
                raise _DeeperError
            square = square.astype(np.uint16) * 257
        content = square.astype(square.dtype.newbyteorder("<"), copy=False).tobytes()
        self._floating |= picture.floating
        self._digest.update(content)
        self._hashes += hashlib.blake2b(content, digest_size=8).digest()
        self.labels.append(self._names.setdefault(item.label, len(self._names)))
        self.transparent += picture.transparent
        self.several += picture.several
        if picture.problem:
            self.off_colour.append(printable(f"{item.name} ({picture.problem})"))
        if values := picture.values:
            self._values[values[2:4]] = values.merged(self._values.get(values[2:4]))
        return content

    def check(self, source: Source, config: Config) -> None:
        """Refuse a source of which most files are not images, none is one to learn from, or all beyond the range."""
        if len(self.skipped) > len(self.labels):
            raise InputError(of_skipped(self.skipped, len(self.labels), source))
        if not self.labels:
            only = "only pictures that dcgan_jax has drawn: to learn from them, save them in another format, such as "
            raise InputError(f"{source.name} holds {f'{only}.webp' if self.drawn else 'no images'}")
        values = list(self._values.values())
        if config.range and sum(one.count for one in values) == len(self.labels):
            low, high = min(one.low for one in values), max(one.high for one in values)
            if high <= min(config.range) or low >= max(config.range):
                raise InputError(
                    f"values in {source.name} go from {low:g} to {high:g}, all beyond --range "
                    f"{config.range[0]:g} {config.range[1]:g}: give one in which they lie"
                )

    def names(self) -> list[str]:
        """The labels that there are. Their order, which numbers them, depends on nothing but them."""
        return in_order(self._names)

    def numbers(self) -> np.ndarray:
        """The label of each picture as an index into ``names``: int32 (N,)."""
        number = {name: i for i, name in enumerate(self.names())}
        return np.array([number[name] for name in self._names], np.int32)[self.labels]

    def manifest(self, source: Source, config: Config) -> Manifest:
        return Manifest(
            shape=[len(self.labels), *config.image_shape],
            fingerprint=source.fingerprint,
            digest=self._digest.hexdigest(),
            labels=self.names(),
            skipped=self.skipped,
            off_colour=self.off_colour,
            copies=len(self.labels) - len(np.unique(np.frombuffer(self._hashes, np.uint64))),
            transparent=self.transparent,
            drawn=self.drawn,
            several=self.several,
            values=[list(values) for values in self._values.values()],
            type=self._type,
            scale=self._scale(source, config),
        )

    def _scale(self, source: Source, config: Config) -> Scale:
        """Which values the files held, and what the lowest and the highest number of the images stand for."""
        channels = config.image_shape[2]
        if source.planes:
            low, high = config.range or defined_range(source.planes.kind) or FULL
            spare = source.planes.channels == channels - 1 and has_alpha(source.planes.channels)
            return Scale(source.planes.kind.name, low, high, channels - spare)
        if not self._values:
            return Scale("uint8", 0.0, 255.0, channels)
        means = list(self._values)
        low, high = config.range or (means[0] if len(means) == 1 else FULL)
        fits = min(low, high) >= 0 and max(low, high) <= FULL[1]
        kind = "float32" if self._floating else "uint16" if fits else "int32"
        return Scale(kind, low, high, channels)


def in_order(names: Iterable[str]) -> list[str]:
    """Labels as one counts them: whole numbers by their value, else as text, but numbers in it by theirs: a2, a10."""
    names = list(names)
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))

    def parts(name: str) -> list[str | int]:  # text and numbers in turn
        return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d{1,18})", name))]

    return sorted(names, key=lambda name: (parts(name), name))


def of_skipped(lines: Sequence[str], good: int, source: Source) -> str:
    """How many files are no images, in words, and the first of them."""
    total = good + len(lines)
    what = "images" if source.planes else "files"
    return printable(f"{len(lines)} of {total} {what} in {source.name} could not be decoded: {first_lines(lines)}")


def first_lines(lines: Sequence[str]) -> str:
    """The first three of many."""
    return "; ".join(lines[:3]) + ("; …" if len(lines) > 3 else "")


def sums(folder: Path) -> bytes:
    """The SHA-256 of the files, as ``sha256sum`` prints it."""
    lines = []
    for path in files(folder):
        with open_regular(path) as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines).encode()


def ordered_map(function: Callable, items: Iterable) -> Generator:
    """``map`` in order: over threads once some results have taken long, with a bounded number of them waiting.

    Until then they are computed here. For small pictures Python itself does most of the work, and two threads that wait
    for each other take twice as long as one.

    Closing it does not wait for what threads compute, nor does the end of the process: a large picture takes longer
    than a user waits after Ctrl-C.
    """
    items, slow = iter(items), deque(maxlen=20)
    for item in items:
        start = time.perf_counter()
        result = function(item)
        slow.append(time.perf_counter() - start > _SLOW)
        yield result
        if sum(slow) >= _MANY:
            break
    else:
        return
    yield from _threaded(function, items)


def _threaded(function: Callable, items: Iterator) -> Generator:
    workers = os.cpu_count() or 1
    todo, waiting = queue.SimpleQueue(), deque()

    def work():
        while job := todo.get():
            future, item = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(item))
                except BaseException as error:  # raised where the result is asked for
                    future.set_exception(error)

    for _ in range(workers):
        threading.Thread(target=work, name="decoder", daemon=True).start()
    try:
        for item in items:
            waiting.append(Future())
            todo.put((waiting[-1], item))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in range(workers):
            todo.put(None)
