"""How unusual pictures are for a run: how far they lie from the nearest of its own pictures."""

import contextlib
import csv
import dataclasses
import functools
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data.build import first_lines, ordered_map, reader
from dcgan_jax.data.decode import MODES
from dcgan_jax.data.listing import is_picture
from dcgan_jax.data.planes import Scale
from dcgan_jax.data.sources import Item, Source, open_source, read_file
from dcgan_jax.data.split import groups_of
from dcgan_jax.data.store import Store
from dcgan_jax.gan.pixels import rounded_to_uint8
from dcgan_jax.metrics.distances import nearest, nearest_other
from dcgan_jax.metrics.features import CIFAR, store_features
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.given import several
from dcgan_jax.run.images import images_of
from dcgan_jax.run.values import check_arrays, scale_of
from dcgan_jax.system.cache import cache_compilations, cache_folder
from dcgan_jax.system.disk import reading, user_path, writing
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import write_text

COMPARED = 2000
"""Of the run's pictures, at most so many say which distances are usual."""
_PIECE = 512  # pictures in memory at a time


class Score(NamedTuple):
    """How unusual one picture is.

    Attributes:
      picture: its file, or the file or folder that it is in and its name there.
      distance: to the nearest of the run's pictures, in features of the CIFAR-10 classifier.
      share: of up to 2,000 of the run's pictures and this one, those that are at least as far from the nearest other
        one; in (0, 1]. Of pictures of the same kind as the run's, 5 % have .05 or less.
      copy: whether it is, at the size of the run, equal to that nearest picture.
    """

    picture: str
    distance: float
    share: float
    copy: bool


def score(
    workdir: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    column: str = "",
) -> list[Score]:
    """Say how unusual pictures are for a run, the most unusual first, as ``python -m dcgan_jax.score`` does.

    By the distance to the nearest of the images that the run was trained on, beside those of these images to each
    other. Where they have 100 labels or more, such as one for each creature, to those of other labels. Neither the
    generator nor the discriminator tells it better: docs/results/anomalies.md. So no checkpoint is read.

    Args:
      workdir: the folder of the run.
      images: files or folders: pictures, and what else ``Config.data`` may name by a path. They are brought to the
        shape of the run's images as those were. What cannot be decoded is left out, and named on stderr.
      out: a .csv file to write, too.
      column: of tables, where the pictures lie; by default as of the run's own.

    Raises:
      InputError: there is no such file, or nothing in it can be decoded; arrays have other channels or another type
        than the run's; the run's images are others now; or ``out`` cannot be written.
    """
    place = None if out is None else _checked_out(out)
    cache_compilations()
    folder = RunFolder(workdir)
    config = folder.config()
    scale, paths = scale_of(workdir, config.image_shape[2]), [_existing(image) for image in several(images)]
    if not paths:
        raise InputError("there are no images: give a picture, or a folder of them")
    with contextlib.closing(images_of(folder, "compare pictures with them")) as store:
        vectors = store_features(store, cache_folder())
        usual = _usual(vectors, store.labels)
        opened = functools.partial(_opened, config=config, scale=scale, column=column)
        scores = [one for path in paths for one in _scores(path, opened, store, vectors, usual)]
    scores.sort(key=lambda one: -one.distance)
    if place is not None:
        with writing(place):
            write_text(place, _csv(scores))
    return scores


def _checked_out(out: str | Path) -> Path:
    place = RunFolder.output(out)
    if place.suffix.lower() != ".csv" or place.is_dir():
        raise InputError(f"out {place} is not the name of a .csv file: give one, such as scores.csv")
    return place


def _existing(image: str | Path) -> Path:
    path = user_path(image)
    with reading(path):
        if not path.exists():
            raise InputError(f"{path} does not exist: give --images pictures, or folders of them")
    return path


def _usual(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How far some of the run's pictures are from the nearest other one, in order. Copies are no other ones."""
    groups = groups_of(labels)
    if groups is None:
        groups = np.unique(vectors, axis=0, return_inverse=True)[1].reshape(-1)
    some = np.random.default_rng(0).permutation(len(vectors))[:COMPARED]
    return np.sort(nearest_other(vectors, some, groups))


def _scores(
    path: Path, opened: Callable[[Path], tuple[Source, Config]], store: Store, vectors: np.ndarray, usual: np.ndarray
) -> Iterator[Score]:
    """Those of the pictures in a file or a folder, in their order there."""
    for names, images in _pieces(path, *opened(path)):
        distances, indices = nearest(vectors, CIFAR.vectors(images))
        copies = (store.take_uint8(indices) == images).all((1, 2, 3))
        shares = (1 + len(usual) - np.searchsorted(usual, distances)) / (1 + len(usual))
        for values in zip(names, distances.tolist(), shares.tolist(), copies.tolist(), strict=True):
            yield Score(*values)


def _pieces(path: Path, source: Source, config: Config) -> Iterator[tuple[list[str], np.ndarray]]:
    """Some hundreds of pictures at a time: what they are called, and uint8 (n, H, W, C).

    Raises:
      InputError: none can be decoded.
    """
    names, squares, skipped, total = [], [], [], 0
    with (
        warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
        contextlib.closing(ordered_map(reader(source, config, drawn=True), source.items())) as pictures,
    ):
        for item, picture, problem in pictures:
            if picture is None:
                skipped.append(printable(f"{item.name} ({problem})"))
                continue
            names.append(printable(str(path) if item.name == str(path) else f"{path}/{item.name}"))
            squares.append(rounded_to_uint8(picture.square))
            total += 1
            if len(squares) == _PIECE:
                yield names, np.stack(squares)
                names, squares = [], []
    if skipped:
        said = f"{len(skipped)} of {total + len(skipped)} files in {printable(str(path))} could not be decoded"
        if not total:
            raise InputError(f"{said}: {first_lines(skipped)}")
        print(f"{said}, and have no score: {first_lines(skipped)}", file=sys.stderr)
    if squares:
        yield names, np.stack(squares)


def _opened(path: Path, config: Config, scale: Scale, column: str) -> tuple[Source, Config]:
    """What is in a file or a folder, and the settings to read it with.

    Raises:
      InputError: it cannot be pictures of the run.
    """
    if path.is_file() and is_picture(path.name):
        read = functools.partial(read_file, path)
        source = Source(str(path), "", 1, lambda: iter([Item(str(path), "", read)]))
    else:
        ends = config.range or (scale.low, scale.high)
        asked = dataclasses.replace(config, data=str(path), channels="auto", range=ends)
        source = open_source(dataclasses.replace(asked, column=column or config.column), cache_folder())
    if column and not source.column:
        raise InputError(f"--column {column} is for tables, and {path} is none: leave it out")
    channels = config.image_shape[2]
    if source.planes:
        check_arrays(path, source.planes.channels, source.planes.kind, config, scale, flag="--images")
        return source, dataclasses.replace(config, range=(scale.low, scale.high))
    if scale.channels not in MODES or scale.channels != channels:
        raise InputError(f"this run has images of {scale.channels} channels: give --images arrays of them, as .npy")
    return source, config


def _csv(scores: Sequence[Score]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "distance", "share", "copy"])
    writer.writerows([one.picture, f"{one.distance:.6g}", f"{one.share:.6g}", int(one.copy)] for one in scores)
    return text.getvalue()
