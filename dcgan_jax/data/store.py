"""The decoded store: every image resized once, as uint8 or uint16, in one file of the cache.

A store is a folder with ``images.u8`` or ``images.u16`` (N·H·W·C numbers), ``labels.npy`` (int32), ``manifest.json``
and ``SHA256SUMS`` of these. It is written under another name, synced, and renamed when it is complete.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import sys
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data.build import IMAGES, SUMS, Manifest, build, files, sums
from dcgan_jax.data.planes import bits, check_picture_channels
from dcgan_jax.data.remarks import remarks
from dcgan_jax.data.settle import settle
from dcgan_jax.data.sources import Source, open_source
from dcgan_jax.gan.classes import Classes
from dcgan_jax.gan.pixels import rounded_to_uint8
from dcgan_jax.system.cache import writable_cache
from dcgan_jax.system.disk import need_room, reading, writing
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import locked, open_regular, parse_json, read_bytes, write_text
from dcgan_jax.system.schema import checked

_FORMAT = 11
_CHECKED = "checked"


class Store:
    """Images of one size, read-only, in the order of their source.

    Attributes:
      path: its folder.
      manifest: all that is known of the images, as it was written; in part also as the attributes below.
      shape: (N, H, W, C).
      type: of the numbers: "uint8" or "uint16".
      scale: which values the files held, and those that 0 and the largest number stand for.
      labels: int32 (N,), indices into ``label_names``.
      label_names: the folders or classes that the images come from, in the order of ``in_order``.
      classes: the same for a conditional run, with the number of images of each.
      digest: SHA-256 of the images.
      skipped: a line for each file that could not be decoded.
      off_colour: a line for each file whose colour profile was ignored.
      copies: how many images are exact copies of others.

    Raises:
      InputError: a file is missing or damaged.
    """

    def __init__(self, path: Path):
        try:
            manifest = checked(Manifest, parse_json(read_bytes(path / "manifest.json", most=1 << 32)), "manifest")
            self.path, self.manifest = path, manifest
            self.shape = tuple(manifest.shape)
            self.type, self.scale = manifest.type, manifest.scale
            self.fingerprint = manifest.fingerprint
            self.digest = manifest.digest
            self.label_names = tuple(manifest.labels)
            self.skipped = tuple(manifest.skipped)
            self.off_colour = tuple(manifest.off_colour)
            self.copies = manifest.copies
            self.labels = np.load(io.BytesIO(read_bytes(path / "labels.npy", most=1 << 32)), allow_pickle=False)
            self._file = open_regular(path / IMAGES[self.type], buffering=0)  # as long as the store
            weakref.finalize(self, self._file.close)
            self._check_sizes()
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise InputError(f"{path} cannot be read as a store ({type(error).__name__}: {error})") from None
        self._lock = threading.Lock()

    def _check_sizes(self):
        size, labels = os.fstat(self._file.fileno()).st_size, self.labels
        if len(self.shape) != 4 or min(self.shape) < 1 or size != self.nbytes:
            raise ValueError(f"{size} bytes are no images of the shape {list(self.shape)}")
        if labels.dtype != np.int32 or labels.shape != self.shape[:1]:
            raise ValueError("it has not one label for each image")
        if labels.min() < 0 or labels.max() >= len(self.label_names):
            raise ValueError("a label has no name")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def classes(self) -> Classes:
        counts = np.bincount(self.labels, minlength=len(self.label_names))
        return Classes(self.label_names, tuple(map(int, counts)))

    @property
    def nbytes(self) -> int:
        """The bytes of all images."""
        return math.prod(self.shape) * np.dtype(self.type).itemsize

    def close(self) -> None:
        """Close the file. TensorFlow keeps what reads it for as long as the process lives."""
        self._file.close()

    def take(self, indices: Iterable[int]) -> np.ndarray:
        """Copy images out: uint8, or uint16 from 0 to 65535, (len(indices), H, W, C), as ``from_pixels`` takes them.

        The file is not memory-mapped: a map makes the process grow with the store, and a failing disk
        would kill it.

        Raises:
          InputError: the file cannot be read, or has become shorter.
        """
        indices = np.asarray(indices)
        batch = np.empty((len(indices), *self.shape[1:]), np.dtype(self.type).newbyteorder("<"))
        size = batch[:1].nbytes
        with self._lock, reading(self.path):
            for image, index in zip(batch, indices, strict=True):
                self._file.seek(int(index) * size)
                if self._file.readinto(memoryview(image)) != size:  # pyright: ignore[reportArgumentType]
                    raise InputError(f"{self._file.name} was damaged during the run: run the same command again")
        return batch.astype(self.type, copy=False)

    def take_uint8(self, indices: Iterable[int]) -> np.ndarray:
        """``take``, as uint8: 16 bits are rounded. It is what is shown, and what metrics compare."""
        return rounded_to_uint8(self.take(indices))


def open_store(config: Config, *, cache: Path | None = None) -> Store:
    """The images that ``config.data`` names, decoded as the configuration says; close it after use.

    They are decoded once, into ``cache`` (by default the cache folder). One line on stderr says what there is.
    What is ``auto`` is settled as by ``settle``.

    Raises:
      InputError: ``config.data`` names no images, they cannot be read, or the cache cannot be written.
    """
    cache = cache or writable_cache()
    source = open_source(config, cache)
    return prepare(source, settle(config, source), cache)


def prepare(source: Source, config: Config, cache: Path) -> Store:
    """Open the store of a source; build it first if it is missing or damaged, or the source has changed.

    Raises:
      InputError: the background is not a colour, a column is given where there is no table, an image cannot be read,
        more than half of the files are not images, or the cache cannot be written.
    """
    if config.column and not source.column:
        raise InputError(f"--column {config.column} is for tables, and {source.name} is none: leave it out")
    try:
        Image.new("RGB", (1, 1), config.background)
    except ValueError:
        colour = f"background {config.background!r} is not a colour"
        raise InputError(f"{colour}: use a name such as white, or #rrggbb") from None
    if not source.planes:
        check_picture_channels(source.name, config)
    height, width, channels = config.image_shape
    settings = [_FORMAT, source.name, config.image_size, channels, config.resize, config.background]
    settings += [config.range, bits(config)]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(source.name).name).strip("-")[:40]
    path = cache / "stores" / f"{slug}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]}"
    with locked(cache / "locks" / f"{path.name}.lock"):  # a second run on the same images waits for the first
        store = _existing(path) if path.exists() else None
        if store is None or store.fingerprint != source.fingerprint:
            deep = bits(config) == "16" or (source.planes and source.planes.type(config) == "uint16")
            size = source.count * height * width * channels * (2 if deep else 1)
            need_room(path, size, f"the decoded copy of {source.name}")
            partial = path.with_name(f"{path.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
            try:
                with writing(partial):
                    partial.mkdir(parents=True)
                    build(source, config, partial)
                    shutil.rmtree(path, ignore_errors=True)
                    partial.rename(path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            store = Store(path)
    for line in remarks(store.manifest, store.labels, source, config.range):
        print(line, file=sys.stderr)
    return store


def _existing(path: Path) -> Store | None:
    """Open the store at ``path`` if its files are undamaged; else print what is wrong.

    They are hashed, unless they have not changed since they were last hashed.
    """
    try:
        facts = [file.stat() for file in (*files(path), path / SUMS)]
        if not all(stat.S_ISREG(file.st_mode) for file in facts):  # a pipe would be waited for
            raise ValueError("holds what is no regular file")
        stamp = "".join(f"{f.st_ino} {f.st_size} {f.st_mtime_ns} {f.st_ctime_ns}\n" for f in facts).encode()
        last = path / _CHECKED
        if not last.is_file() or read_bytes(last) != stamp:
            if read_bytes(path / SUMS) != sums(path):
                raise ValueError("its files do not match their checksums")
            with contextlib.suppress(OSError):  # then they are hashed again at the next start
                write_text(last, stamp.decode())
        return Store(path)
    except (OSError, ValueError, InputError) as error:
        print(printable(f"{path} is damaged ({error}): building it again"), file=sys.stderr)
        return None
