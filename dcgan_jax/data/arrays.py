"""Images in .npy, .npz and HDF5 files, read few at a time: (N, H, W, C), (N, H, W), or one alone as (H, W, C) or
(H, W)."""

import contextlib
import functools
import itertools
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy

from dcgan_jax.config import CHANNELS
from dcgan_jax.data import hdf5
from dcgan_jax.data.decode import FILE_LIMIT
from dcgan_jax.system.disk import mib, reading
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import open_regular

ENDINGS = (".npy", ".npz", *hdf5.ENDINGS)
_PLANES = 16
"""A third axis of at most this length is that of the channels of one image, in a folder of files of one each."""
_PLANES_ALONE = 7
"""The same in a file that is the whole set: a longer one is the width of images that make a stack."""
_FORTRAN_LIMIT = 512 << 20  # bytes of an array in which an image is not in one piece, so that all is read at once
_LABELS = 1 << 26  # labels at most
_ALONE = "save the one to learn from alone"


class Member(NamedTuple):
    """An array: what it is called, its file, its name in it where there may be several, and what its header says.

    A third axis that is longer than ``most`` is not one of channels.
    """

    name: str
    path: Path
    inside: str | None
    shape: tuple[int, ...]
    kind: np.dtype
    fortran: bool
    most: int

    @property
    def stacked(self) -> bool:
        """Whether its first axis is that of images, and not of rows."""
        return len(self.shape) == 4 or (len(self.shape) == 3 and self.shape[2] > self.most)

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, *channels = self.shape[1:] if self.stacked else self.shape
        return height, width, channels[0] if channels else 1

    def __len__(self) -> int:
        return self.shape[0] if self.stacked else 1


class Images(NamedTuple):
    """A set of images of one type and number of channels: its arrays, a label for each of these, and one for each
    image, if there are any."""

    members: list[Member]
    of_members: list[str]
    of_images: list[str] | None

    @property
    def count(self) -> int:
        return sum(map(len, self.members))

    def labels(self) -> Iterator[str]:
        """The label of each image. They are made one by one: a header may claim any number of images."""
        if self.of_images is not None:
            return iter(self.of_images)
        return (label for one, label in zip(self.members, self.of_members, strict=True) for _ in range(len(one)))


def is_arrays(name: str) -> bool:
    """Whether a file is called like one of arrays."""
    return name.lower().endswith(ENDINGS)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """
    Raises:
      InputError: the block cannot read the file, or it is no such file.
    """
    try:
        with reading(path):
            yield
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, KeyError) as error:
        raise InputError(f"{path} cannot be read as NumPy's ({first_line(error)}): save it again") from None


@contextlib.contextmanager
def _arrays(path: Path) -> Iterator[dict[str | None, Callable[[], Any]]]:
    """What opens each array of a file, by its name inside: an archive, which may have thousands, is listed once."""
    with open_regular(path) as file:
        if path.suffix.lower() == ".npy":
            yield {None: lambda: contextlib.nullcontext(file)}
            return
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            yield {name: functools.partial(archive.open, name) for name in names}


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    return read(file)


def members(path: Path, called: str, most: int) -> list[Member]:
    """The arrays in a file, by their headers.

    Args:
      called: what the file is called in messages; may be empty for an archive.
      most: as in ``Member``.

    Raises:
      InputError: it is no such file.
    """
    if hdf5.is_hdf5(path):
        with _readable(path):
            inside = hdf5.listed(path)
        return [
            Member(f"{called} {name}".strip(), path, name, shape, kind, False, most) for name, shape, kind in inside
        ]
    arrays = []
    with _readable(path), _arrays(path) as opened:
        for name, array in opened.items():
            with array() as file:
                shape, fortran, kind = _header(file)
            arrays.append(Member(f"{called} {name or ''}".strip(), path, name, shape, kind, fortran, most))
    return arrays


def of_file(path: Path, dataset: str = "") -> Images:
    """The images of one .npy, or of an .npz or HDF5 file, in which an array of one axis and their number holds their
    labels.

    Args:
      dataset: which of the arrays in an HDF5 file holds the images, if not the only one that may.

    Raises:
      InputError: it holds no images, several sets, or images of different shapes.
    """
    arrays = members(path, str(path) if path.suffix.lower() == ".npy" else "", _PLANES_ALONE)
    named = [one for one in arrays if not dataset or str(one.inside).strip("/") == dataset.strip("/")]
    if dataset and not named:
        raise InputError(f"{path} has no data set {dataset}, only {_names(arrays)}: give one of them after the colon")
    chosen = _one_set(path, [one for one in named if _may_be_images(one)])
    if not chosen:
        shapes = ", ".join(f"{one.kind} {one.shape}" for one in arrays[:4]) or "nothing"
        raise InputError(f"{path} holds {shapes}: give arrays of numbers (N, H, W, C), (N, H, W) or (H, W, C)")
    count = sum(map(len, chosen))
    _check_alike(path, chosen, same_size=True)
    if count == 1:
        raise InputError(
            f"{path} holds one image of the shape {chosen[0].shape}, but a network learns what many have in common: "
            "give an array (N, H, W, C), or a folder of such files"
        )
    return Images(chosen, [""] * len(chosen), _labels(chosen, arrays, count))


def of_image(path: Path) -> np.ndarray:
    """The one image of a .npy file, (H, W, C) or (H, W), as (H, W, C) in its own type.

    Raises:
      InputError: it is no such file, or holds something else.
    """
    (one,) = members(path, str(path), CHANNELS)
    if not _may_be_images(one) or len(one) != 1:
        raise InputError(f"{path} holds {one.kind} {one.shape}: give an array of one image, (H, W, C) or (H, W)")
    _check_alike(path, [one], same_size=True)
    return next(read(Images([one], [""], None)))


def _may_be_images(one: Member) -> bool:
    return one.kind.kind in "biuf" and 2 <= len(one.shape) <= 4 and 0 < min(one.shape) <= max(one.shape) < 1 << 48


def _one_set(path: Path, arrays: list[Member]) -> list[Member]:
    """Of several sets of images that for training; images alone, if there is no set."""
    for axes in (4, 3, 2):
        some = [one for one in arrays if len(one.shape) == axes]
        stacks = [one for one in some if one.stacked]
        training = [one for one in stacks if one.inside and "train" in one.inside] or stacks
        if len(training) > 1:
            remedy = f"name one, as --data {path}:{training[0].inside}" if hdf5.is_hdf5(path) else _ALONE
            raise InputError(f"{path} holds several sets of images ({_names(training)}): {remedy}")
        if training or some:
            return training or some
    return []


def _names(arrays: list[Member]) -> str:
    return ", ".join(str(one.inside).removesuffix(".npy") for one in arrays) or "nothing"


def _group(one: Member) -> str:
    """The folder in its file in which an array lies; mostly "" for none."""
    return (one.inside or "").rpartition("/")[0]


def _labels(chosen: list[Member], arrays: list[Member], count: int) -> list[str] | None:
    """What the array of so many whole numbers or words says; of several that which is called like labels."""
    fitting = [one for one in arrays if one.shape in ((count,), (count, 1)) and one.kind.kind in "iubUS"]
    fitting = [one for one in fitting if _group(one) == _group(chosen[0])]
    if len(fitting) > 1:
        training = [one for one in fitting if "train" in str(one.inside) and "train" in str(chosen[0].inside)]
        named = [one for one in fitting if _names([one]).lower().rpartition("/")[2] in ("y", "label", "labels")]
        fitting = training or named
    if len(fitting) != 1 or count > _LABELS:
        return None
    values = _values(fitting[0]).ravel().tolist()
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]


def _values(one: Member) -> np.ndarray:
    """All that an array holds."""
    with _readable(one.path):
        if hdf5.is_hdf5(one.path):
            return np.concatenate(list(hdf5.blocks(one.path, str(one.inside))))
        with _arrays(one.path) as opened, opened[one.inside]() as file:
            return npy.read_array(file)


def of_folder(root: Path, names: list[str], labels: list[str]) -> Images:
    """The images of all such files of a folder, each array with the label of its file.

    An array of one axis, of as many labels as there are images, holds these.

    Raises:
      InputError: there are none, or they differ in their type or number of channels.
    """
    arrays = [
        (one, label) for name, label in zip(names, labels, strict=True) for one in members(root / name, name, _PLANES)
    ]
    chosen = [(one, label) for one, label in arrays if _may_be_images(one)]
    if not chosen:
        raise InputError(f"{root} holds no images: its {len(names)} files have no arrays (H, W, C) or (N, H, W, C)")
    images = [one for one, _ in chosen]
    _check_alike(root, images, same_size=False)
    count = sum(map(len, images))
    beside = _labels(images, [one for one, _ in arrays], count) if len(images) == 1 else None
    return Images(images, [label for _, label in chosen], beside)


def _check_alike(place: Path, arrays: list[Member], *, same_size: bool) -> None:
    first = arrays[0]
    for one in arrays:
        if _channels_first(one):
            raise InputError(
                f"{one.name} is of the shape {one.shape}, with the channels before the rows: save "
                "numpy.moveaxis(array, 1, -1) instead"
            )
        size = one.image[0] * one.image[1] * one.image[2] * one.kind.itemsize
        if size > FILE_LIMIT:
            raise InputError(
                f"{one.name} holds images of {mib(size)} each, more than {mib(FILE_LIMIT)}: save smaller ones"
            )
        if (one.image if same_size else one.image[2:]) != (first.image if same_size else first.image[2:]):
            what = "shapes" if same_size else "numbers of channels"
            both = f"{first.name} of {_shown(first)}, {one.name} of {_shown(one)}"
            raise InputError(f"{place} holds images of different {what} ({both}): keep those of one kind")
        if one.kind != first.kind:
            raise InputError(
                f"{place} holds values of different types: {first.name} of {first.kind}, {one.name} of {one.kind}: "
                "save all in one type"
            )


def _shown(one: Member) -> str:
    return "{}x{}x{}".format(*one.image)


def _channels_first(one: Member) -> bool:
    return len(one.shape) == 4 and one.shape[1] <= 4 and one.shape[3] > _PLANES


def read(images: Images) -> Iterator[np.ndarray]:
    """Each image in turn, (H, W, C) in its own type and the machine's byte order. One is in memory at a time, of HDF5
    files some.

    Raises:
      InputError: a file ends too early or is damaged.
    """
    for path, members_of_it in itertools.groupby(images.members, key=lambda one: one.path):
        if hdf5.is_hdf5(path):
            yield from (image for one in members_of_it for image in _of_hdf5(one))
            continue
        with _readable(path), _arrays(path) as opened:
            for one in members_of_it:
                with opened[one.inside]() as file:
                    _header(file)
                    yield from _whole(one, file) if one.fortran else _pieces(one, file)


def _of_hdf5(one: Member) -> Iterator[np.ndarray]:
    blocks = hdf5.blocks(one.path, str(one.inside))
    with _readable(one.path):
        for images in blocks if one.stacked else [np.concatenate(list(blocks))[None]]:
            yield from (_native(image.reshape(one.image)) for image in images)


def _pieces(one: Member, file: BinaryIO) -> Iterator[np.ndarray]:
    size = math.prod(one.image) * one.kind.itemsize
    for i in range(len(one)):
        content = file.read(size)
        if len(content) != size:
            raise EOFError(f"it ends in image {i} of {len(one)}")
        yield _native(np.frombuffer(content, one.kind).reshape(one.image))


def _whole(one: Member, file: BinaryIO) -> Iterator[np.ndarray]:
    size = math.prod(one.shape) * one.kind.itemsize
    if size > _FORTRAN_LIMIT:
        raise InputError(
            f"{one.name} is in Fortran's order, in which no image is in one piece: save numpy.ascontiguousarray(array)"
        )
    content = file.read(size)
    if len(content) != size:
        raise EOFError("it ends too early")
    array = np.frombuffer(content, one.kind).reshape(one.shape[::-1]).T
    for image in array if one.stacked else array[None]:
        yield _native(np.ascontiguousarray(image).reshape(one.image))


def _native(image: np.ndarray) -> np.ndarray:
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def seen_range(examples: Callable[[], Iterator[np.ndarray]]) -> tuple[float, float, int]:
    """The lowest and the highest finite value, and how many images have others; infinities the other way if none is."""
    low, high, bad = math.inf, -math.inf, 0
    for image in examples():
        finite = image[np.isfinite(image)]
        bad += finite.size < image.size
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high, bad
