"""The decoded store: every image resized once, as uint8, in one memory-mapped file of the cache.

A store is a folder with ``images.u8`` (N·S·S·C bytes), ``labels.npy`` (int32) and ``manifest.json``.
It is written beside its place and renamed into it when it is whole.
"""

import hashlib
import json
import mmap
import os
import re
import shutil
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from dcgan_jax.config import Config
from dcgan_jax.data.decode import to_square
from dcgan_jax.data.sources import Item, Source
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import locked, need_room, writing

_FORMAT = 2
_NAMED = 20  # skipped files named in the manifest
_RESIDENT = 64 << 20  # bytes of the map touched before its pages are given back


class Store:
    """Images of one size, read-only, in the order of their source.

    Attributes:
      shape: (N, S, S, C).
      labels: int32 (N,), indices into ``label_names``.
      digest: SHA-256 of the images.

    Raises:
      InputError: the files are not those that were written.
    """

    def __init__(self, path: Path):
        try:
            self._open(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}): delete it, it will be built again") from None

    def _open(self, path):
        manifest = json.loads((path / "manifest.json").read_text())
        self.path = path
        self.shape = tuple(manifest["shape"])
        self.fingerprint = manifest["fingerprint"]
        self.digest = manifest["digest"]
        self.label_names = tuple(manifest["labels"])
        self.skipped = manifest["skipped"]
        self.labels = np.load(path / "labels.npy", allow_pickle=False)
        with open(path / "images.u8", "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._images = np.frombuffer(self._map, np.uint8).reshape(self.shape)
        self._touched = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, indices) -> np.ndarray:
        """Copy images out: uint8 (len(indices), S, S, C).

        The pages that were read are given back from time to time, so that the memory of the process
        does not grow with the size of the store.
        """
        batch = self._images[np.asarray(indices)]
        with self._lock:
            # Linux maps 16 pages around each one that is read.
            self._touched += max(batch.nbytes, len(batch) * 16 * mmap.PAGESIZE)
            if self._touched > _RESIDENT and hasattr(mmap, "MADV_DONTNEED"):
                self._map.madvise(mmap.MADV_DONTNEED)
                self._touched = 0
        return batch


def prepare(source: Source, config: Config, cache: Path) -> Store:
    """Open the store of a source, building it first if there is none or the source has changed.

    Raises:
      InputError: the background is no colour, more than half of the files are no images, or the cache
        cannot be written.
    """
    try:
        Image.new("RGB", (1, 1), config.background)
    except ValueError:
        raise InputError(f"background {config.background!r} is no colour: use a name such as white, or #rrggbb") from None
    settings = json.dumps([_FORMAT, source.name, config.image_size, config.channels, config.background])
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(source.name).name).strip("-")[:40]
    path = cache / "stores" / f"{slug}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"
    with locked(cache / "locks" / f"{path.name}.lock"):  # a second run on the same images waits for the first
        if not path.exists() or Store(path).fingerprint != source.fingerprint:
            need_room(path, source.count * config.image_size**2 * config.channels, f"the decoded copy of {source.name}")
            partial = path.with_name(f"{path.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a killed process
            try:
                with writing(partial):
                    partial.mkdir(parents=True)
                    _build(source, config, partial)
                    shutil.rmtree(path, ignore_errors=True)
                    partial.rename(path)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return Store(path)


def _build(source: Source, config: Config, folder: Path) -> None:
    labels, names, skipped, digest = [], {}, [], hashlib.sha256()

    def decode(item: Item):
        try:
            with item.load() as image:
                return item, to_square(image, config), None
        except Exception as error:  # decoders raise anything on bad bytes; each is counted and named
            return item, None, " ".join(str(error).split()) or type(error).__name__

    with open(folder / "images.u8", "wb") as out, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        progress = tqdm(_ordered_map(decode, source.items()), total=source.count, unit="img", desc="preparing images")
        for item, pixels, problem in progress:
            if problem:
                skipped.append(printable(f"{item.name} ({problem})"))
            else:
                out.write(pixels.tobytes())
                digest.update(pixels.tobytes())
                labels.append(names.setdefault(item.label, len(names)))
    if skipped:
        some = "; ".join(skipped[:3]) + ("; …" if len(skipped) > 3 else "")
        summary = f"{len(skipped)} of {len(labels) + len(skipped)} files in {source.name} could not be decoded: {some}"
        if len(skipped) > len(labels):
            raise InputError(summary)
        print(printable(f"skipped {summary}"), file=sys.stderr)
    if not labels:
        raise InputError(f"{source.name} holds no images")
    np.save(folder / "labels.npy", np.asarray(labels, np.int32))
    manifest = {
        "shape": [len(labels), config.image_size, config.image_size, config.channels],
        "source": source.name,
        "fingerprint": source.fingerprint,
        "digest": digest.hexdigest(),
        "labels": list(names),
        "skipped": {"count": len(skipped), "first": skipped[:_NAMED]},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))


def _ordered_map(function, items):
    """``map`` over threads, in order, with a bounded number of results waiting."""
    workers = os.cpu_count() or 1
    waiting = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 8 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
