"""The decoded store: every image resized once, as uint8, in one file of the cache.

A store is a folder with ``images.u8`` (N·S·S·C bytes), ``labels.npy`` (int32), ``manifest.json`` and
``SHA256SUMS`` of these. It is written under another name, synced, and renamed when it is complete.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import queue
import re
import shutil
import stat
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data.decode import Picture, read_picture
from dcgan_jax.data.depth import Values, notices
from dcgan_jax.data.listing import is_drawn
from dcgan_jax.data.sources import Item, Source, open_source
from dcgan_jax.system.cache import writable_cache
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import locked, need_room, open_regular, parse_json, read_bytes, reading, write_text, writing
from dcgan_jax.system.progress import progress
from dcgan_jax.system.schema import checked

_FORMAT = 7
_FILES = ("images.u8", "labels.npy", "manifest.json")
_SUMS = "SHA256SUMS"
_CHECKED = "checked"
_FEW = 200
"""Fewer different images than this get a warning: a network learns them by heart."""
_MANY_COPIES = 0.1
"""A larger share of copies gets a warning."""


@dataclasses.dataclass(frozen=True)
class _Manifest:
    """``manifest.json``; see ``Store``."""

    shape: list[int]
    fingerprint: str
    digest: str
    labels: list[str]
    skipped: list[str]
    off_colour: list[str]
    copies: int
    transparent: int
    drawn: int
    values: list[list[float]]


class Store:
    """Images of one size, read-only, in the order of their source.

    Attributes:
      shape: (N, S, S, C).
      labels: int32 (N,), indices into ``label_names``.
      label_names: the folders or classes that the images come from.
      digest: SHA-256 of the images.
      skipped: a line for each file that could not be decoded.
      off_colour: a line for each file whose colour profile was ignored.
      copies: how many images are exact copies of others.
      transparent: how many pictures have transparent pixels.
      drawn: how many were left out because a network has drawn them.
      values: of the pictures with more than 8 bits a value, by what their files mean by black and white.

    Raises:
      InputError: a file is missing or damaged.
    """

    def __init__(self, path: Path):
        try:
            manifest = checked(_Manifest, parse_json(read_bytes(path / "manifest.json", most=1 << 32)), "manifest")
            self.path = path
            self.shape = tuple(manifest.shape)
            self.fingerprint = manifest.fingerprint
            self.digest = manifest.digest
            self.label_names = tuple(manifest.labels)
            self.skipped = tuple(manifest.skipped)
            self.off_colour = tuple(manifest.off_colour)
            self.values = tuple(Values(*values) for values in manifest.values)
            self.copies, self.transparent, self.drawn = manifest.copies, manifest.transparent, manifest.drawn
            self.labels = np.load(io.BytesIO(read_bytes(path / "labels.npy", most=1 << 32)), allow_pickle=False)
            self._file = open_regular(path / "images.u8", buffering=0)  # as long as the store
            weakref.finalize(self, self._file.close)
            self._check_sizes()
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise InputError(f"{path} cannot be read as a store ({type(error).__name__}: {error})") from None
        self._lock = threading.Lock()

    def _check_sizes(self):
        size, labels = os.fstat(self._file.fileno()).st_size, self.labels
        if len(self.shape) != 4 or min(self.shape) < 1 or size != math.prod(self.shape):
            raise ValueError(f"{size} bytes are no images of the shape {list(self.shape)}")
        if labels.dtype != np.int32 or labels.shape != self.shape[:1]:
            raise ValueError("it has not one label for each image")
        if labels.min() < 0 or labels.max() >= len(self.label_names):
            raise ValueError("a label has no name")

    def __len__(self) -> int:
        return self.shape[0]

    def close(self) -> None:
        """Close the file. TensorFlow keeps what reads it for as long as the process lives."""
        self._file.close()

    def take(self, indices: Iterable[int]) -> np.ndarray:
        """Copy images out: uint8 (len(indices), S, S, C).

        The file is not memory-mapped: a map makes the process grow with the store, and a failing disk
        would kill it.

        Raises:
          InputError: the file cannot be read, or has become shorter.
        """
        indices = np.asarray(indices)
        batch = np.empty((len(indices), *self.shape[1:]), np.uint8)
        size = batch[:1].nbytes
        with self._lock, reading(self.path):
            for image, index in zip(batch, indices, strict=True):
                self._file.seek(int(index) * size)
                if self._file.readinto(memoryview(image)) != size:  # pyright: ignore[reportArgumentType]
                    raise InputError(f"{self._file.name} was damaged during the run: run the same command again")
        return batch


def open_store(config: Config, *, cache: Path | None = None) -> Store:
    """The images that ``config.data`` names, decoded as the configuration says; close it after use.

    They are decoded once, into ``cache`` (by default the cache folder). One line on stderr says what there is.

    Raises:
      InputError: ``config.data`` names no images, they cannot be read, or the cache cannot be written.
    """
    cache = cache or writable_cache()
    return prepare(open_source(config, cache), config, cache)


def prepare(source: Source, config: Config, cache: Path) -> Store:
    """Open the store of a source; build it first if it is missing or damaged, or the source has changed.

    Raises:
      InputError: the background is not a colour, an image cannot be read, more than half of the files are
        not images, or the cache cannot be written.
    """
    try:
        Image.new("RGB", (1, 1), config.background)
    except ValueError:
        colour = f"background {config.background!r} is not a colour"
        raise InputError(f"{colour}: use a name such as white, or #rrggbb") from None
    settings = [_FORMAT, source.name, config.image_size, config.channels, config.resize, config.background]
    settings.append(config.range)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(source.name).name).strip("-")[:40]
    path = cache / "stores" / f"{slug}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]}"
    with locked(cache / "locks" / f"{path.name}.lock"):  # a second run on the same images waits for the first
        store = _existing(path) if path.exists() else None
        if store is None or store.fingerprint != source.fingerprint:
            size = source.count * config.image_size**2 * config.channels
            need_room(path, size, f"the decoded copy of {source.name}")
            partial = path.with_name(f"{path.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
            try:
                with writing(partial):
                    partial.mkdir(parents=True)
                    _build(source, config, partial)
                    shutil.rmtree(path, ignore_errors=True)
                    partial.rename(path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            store = Store(path)
    if store.skipped:
        print(f"skipped {_summary(store.skipped, len(store), source)}", file=sys.stderr)
    if store.off_colour:
        ignored = f"{len(store.off_colour)} pictures in {source.name} have a colour profile that cannot be used"
        print(printable(f"{ignored}, and are taken as sRGB: {_some(store.off_colour)}"), file=sys.stderr)
    for line in (_understood(store, source), *_warnings(store), *notices(store.values, source.name, config.range)):
        print(printable(line), file=sys.stderr)
    return store


def _understood(store: Store, source: Source) -> str:
    """What was found, in one line."""

    def some(count, noun):
        return f"{count:,} {noun}{'s' * (count != 1)}"

    counts = np.bincount(store.labels, minlength=len(store.label_names))
    kinds = [f"{store.label_names[i] or 'without one'} {counts[i]:,}" for i in np.argsort(-counts, kind="stable")]
    labels = "no labels"
    if any(store.label_names):
        labels = f"{some(len(kinds), 'label')} ({', '.join(kinds[:5])}{', …' * (len(kinds) > 5)})"
    folders = f" in {some(source.folders, 'folder')}" if source.folders else ""
    return (
        f"{source.name}: {some(len(store), 'image')}{folders}, {labels}, {len(store.skipped):,} skipped, "
        f"{store.copies:,} exact copies of others, {store.transparent:,} with transparent pixels"
        + f", {some(store.drawn, 'picture')} that dcgan_jax has drawn left out"
        * bool(store.drawn)
    )


def _warnings(store: Store) -> Iterator[str]:
    """What to expect of images that teach little."""
    different = len(store) - store.copies
    if store.copies > _MANY_COPIES * len(store):
        yield (
            f"warning: {store.copies:,} of {len(store):,} images are exact copies of others: expect these pictures to "
            "be drawn more often, and every figure to look better than it is, since copies are on both sides of a "
            "comparison; delete the copies, or keep them if this is meant"
        )
    if 1 < different < _FEW:  # a run refuses one alone
        yield (
            f"warning: {different:,} different images are few: expect these very images again, or parts of them, "
            f"rather than new ones; from {_FEW} on something can be learned, and thousands are better"
        )


def _existing(path: Path) -> Store | None:
    """Open the store at ``path`` if its files are undamaged; else print what is wrong.

    They are hashed, unless they have not changed since they were last hashed.
    """
    try:
        files = [(path / name).stat() for name in (*_FILES, _SUMS)]
        if not all(stat.S_ISREG(file.st_mode) for file in files):  # a pipe would be waited for
            raise ValueError("holds what is no regular file")
        stamp = "".join(f"{f.st_ino} {f.st_size} {f.st_mtime_ns} {f.st_ctime_ns}\n" for f in files).encode()
        found_whole = path / _CHECKED
        if not found_whole.is_file() or read_bytes(found_whole) != stamp:
            if read_bytes(path / _SUMS) != _sums(path):
                raise ValueError("its files do not match their checksums")
            with contextlib.suppress(OSError):  # then they are hashed again at the next start
                write_text(found_whole, stamp.decode())
        return Store(path)
    except (OSError, ValueError, InputError) as error:
        print(printable(f"{path} is damaged ({error}): building it again"), file=sys.stderr)
        return None


def _sums(folder: Path) -> bytes:
    """The SHA-256 of the files, as ``sha256sum`` prints it."""
    lines = []
    for name in _FILES:
        with open_regular(folder / name) as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines).encode()


def _summary(skipped, good: int, source: Source) -> str:
    total = good + len(skipped)
    return printable(f"{len(skipped)} of {total} files in {source.name} could not be decoded: {_some(skipped)}")


def _some(lines) -> str:
    return "; ".join(lines[:3]) + ("; …" if len(lines) > 3 else "")


class _Found:
    """What is known of the pictures of a source, while they are decoded one after another."""

    def __init__(self):
        self.labels, self.names = [], {}
        self.skipped, self.off_colour, self.values = [], [], {}
        self.transparent, self.drawn, self._hashes, self._digest = 0, 0, bytearray(), hashlib.sha256()

    def skip(self, name: str, problem: str) -> None:
        self.skipped.append(printable(f"{name} ({problem})"))

    def add(self, item: Item, picture: Picture) -> bytes:
        """Note down a picture; returns its bytes."""
        content = picture.square.tobytes()
        self._digest.update(content)
        self._hashes += hashlib.blake2b(content, digest_size=8).digest()
        self.labels.append(self.names.setdefault(item.label, len(self.names)))
        self.transparent += picture.transparent
        if picture.problem:
            self.off_colour.append(printable(f"{item.name} ({picture.problem})"))
        if values := picture.values:
            self.values[values[2:4]] = values.merged(self.values.get(values[2:4]))
        return content

    def manifest(self) -> dict:
        return {
            "digest": self._digest.hexdigest(),
            "labels": list(self.names),
            "skipped": self.skipped,
            "off_colour": self.off_colour,
            "copies": len(self.labels) - len(np.unique(np.frombuffer(self._hashes, np.uint64))),
            "transparent": self.transparent,
            "drawn": self.drawn,
            "values": list(self.values.values()),
        }


def _build(source: Source, config: Config, folder: Path) -> None:
    found = _Found()

    def square(item: Item):
        try:
            content = item.load()
            if isinstance(content, bytes) and is_drawn(content):
                return item, None, None
            return item, read_picture(content, config), None
        except Exception as error:  # decoders raise anything on bad bytes; each is counted and named
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                reason = getattr(error, "strerror", None) or "not enough memory"
                place = f"{item.name} in {source.name} cannot be read"
                raise InputError(f"{place}: {reason}: fix this and run the same command again") from error
            return item, None, " ".join(str(error).split()) or type(error).__name__

    with (
        open(folder / "images.u8", "wb") as out,
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        contextlib.closing(_ordered_map(square, source.items())) as squares,
    ):
        for item, picture, problem in progress(squares, "preparing images", total=source.count):
            if problem:
                found.skip(item.name, problem)
            elif picture is None:
                found.drawn += 1
            else:
                out.write(found.add(item, picture))
    if len(found.skipped) > len(found.labels):
        raise InputError(_summary(found.skipped, len(found.labels), source))
    if not found.labels:
        drawn = "only pictures that dcgan_jax has drawn: to learn from them, save them in another format, such as .webp"
        raise InputError(f"{source.name} holds {drawn if found.drawn else 'no images'}")
    np.save(folder / "labels.npy", np.asarray(found.labels, np.int32))
    manifest = {
        "shape": [len(found.labels), config.image_size, config.image_size, config.channels],
        "source": source.name,
        "fingerprint": source.fingerprint,
        **found.manifest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    (folder / _SUMS).write_bytes(_sums(folder))
    for name in (*_FILES, _SUMS):
        with open(folder / name, "r+b") as file:
            os.fsync(file.fileno())


def _ordered_map(function: Callable, items: Iterable) -> Generator:
    """``map`` over threads, in order, with a bounded number of results waiting.

    Closing it does not wait for what is being computed, nor does the end of the process: a large
    picture takes longer than a user waits after Ctrl-C.
    """
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
