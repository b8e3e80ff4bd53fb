"""IDX files, the format of MNIST and similar sets: big-endian headers, then a byte for each pixel or label."""

import contextlib
import gzip
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import open_regular

_IMAGES = re.compile(r"(.*)images([-.]idx)3(-ubyte(?:\.gz)?)")
_LABELS = re.compile(r"(.*)labels([-.]idx)1(-ubyte(?:\.gz)?)")


def is_images(name: str) -> bool:
    """Whether a file is called like one of images."""
    return bool(_IMAGES.fullmatch(PurePosixPath(name).name))


def labels_of(images: Path) -> Path:
    """The file of labels that belongs to one of images. It need not exist."""
    return images.with_name(_IMAGES.sub(r"\1labels\g<2>1\3", images.name))


def images_of(labels: Path) -> Path | None:
    """The file of images that belongs to one of labels, and need not exist; None if this is called otherwise."""
    return labels.with_name(_LABELS.sub(r"\1images\g<2>3\3", labels.name)) if _LABELS.fullmatch(labels.name) else None


def choose(root: Path, names: list[str]) -> Path | None:
    """Of these files below ``root`` the one of images: by preference with labels, and for training.

    Raises:
      InputError: there are several.
    """
    files = [root / name for name in sorted(names, reverse=True) if is_images(name) and (root / name).is_file()]
    files = [path for path in files if labels_of(path).is_file()] or files
    images = {str(path).removesuffix(".gz"): path for path in files}  # the unpacked file rather than the same as .gz
    images = {name: path for name, path in images.items() if "train" in Path(name).name} or images
    if len(images) > 1:
        several = ", ".join(sorted(map(str, images.values())))
        raise InputError(f"{root} holds several sets of images: give one of these files as --data: {several}")
    return next(iter(images.values()), None)


@contextlib.contextmanager
def _opened(path: Path):
    with open_regular(path) as file, gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file as content:
        yield content


def read(path: Path) -> Iterator:
    """Yield the number of images, then each, uint8 (H, W), with its label, "" where there is no file of labels.

    Raises:
      InputError: the files are incomplete, or not IDX files.
    """
    labels = labels_of(path)
    labelled = labels.exists()
    try:
        with _opened(path) as images, _opened(labels if labelled else path) as names:
            kind, count, *shape = struct.unpack(">4I", images.read(16))
            size = shape[0] * shape[1]
            if kind != 0x803 or not 0 < size < 2**24:
                raise EOFError("wrong headers")
            if labelled and struct.unpack(">2I", names.read(8)) != (0x801, count):
                raise EOFError("wrong headers, or different numbers of images and labels")
            yield count
            lying = path.name.startswith("emnist")  # these are stored by columns
            for _ in range(count):
                pixels = np.frombuffer(images.read(size), np.uint8).reshape(shape)
                yield pixels.T if lying else pixels, str(names.read(1)[0]) if labelled else ""
            if images.read(1) or (labelled and names.read(1)):
                raise EOFError(f"more than {count} images or labels")
    except (EOFError, IndexError, OSError, ValueError, struct.error, zlib.error) as error:
        what, remedy = ("with its labels ", "both files") if labelled else ("", "the file")
        raise InputError(f"{path} cannot be read {what}({first_line(error)}): get {remedy} again") from None
