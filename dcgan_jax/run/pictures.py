"""Any number of images of a generator as PNG files, or as one array, in pieces."""

import contextlib
import csv
import functools
import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dcgan_jax.config import check_shown
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import COLUMNS, sample, sample_labels, sheet
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.run.best import best_of, share_of
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.generators import Source, generator_of, shown_of
from dcgan_jax.run.restore import Step
from dcgan_jax.run.values import Draw, scale_of, write_values
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.disk import reading, writing
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import parse_json, read_bytes, sync, write_text
from dcgan_jax.system.progress import progress
from dcgan_jax.system.ranges import SEED
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.grid import grid, save_png, square_columns, visible

PIECE = 512
"""Images that are drawn and written at a time."""
_UNFINISHED = "unfinished.json"  # in the folder until all is there: of which weights, and how many pictures are safe


class Pictures(NamedTuple):
    """What ``generate`` wrote.

    Attributes:
      files: the pictures, in order; or the one file of all.
      grid: ``grid.png``, which shows the first ``shown`` of them; or none of them, but a row for each class.
      step: of the weights, if that is known.
    """

    files: list[Path]
    grid: Path
    shown: int
    step: int | None


def generate(
    source: Source,
    out: str | Path,
    *,
    num: int = 64,
    seed: int = 0,
    label: str | int | None = None,
    format: Literal["png", "npy"] = "png",
    show: Sequence[int] | None = None,
    step: Step = "best",
    ema: bool = True,
    generator: nn.Module | str | None = None,
    best: str | float | None = None,
) -> Pictures:
    """Draw images and write them as PNG files, or as one array, as ``python -m dcgan_jax.generate`` does.

    Picture ``i`` depends only on the weights, ``seed``, its class and ``i``. 512 are in memory at a time. A start that
    was interrupted is continued by the next with the same weights and seed; an array begins anew.

    Args:
      source: the folder of a run; what ``export`` made of it, a .safetensors file or hf:USER/NAME; or what ``sample``
        takes.
      out: folder for 00000.png and so on, or images.npy, and for grid.png; new or empty, or of an interrupted start.
      num: how many, at least 1.
      seed: of the noise, in [0, 2**32).
      label: of a conditional run, the class of all pictures, by its name or number. Without, each class is drawn as
        often as it has images: labels.csv says which picture, or which index of the array, is of which class, and
        grid.png has a row for each class.
      format: npy is one array (num, H, W, C) in the type and the range of the values that the run has learned from; of
        a source that is no run float32 in [-1, 1].
      show: the channels that pictures show as red, green and blue, or one as grey, counted from 1; by default those
        that the run shows.
      step: of a run, as for ``restore``, like ``ema`` and ``generator``.
      best: the share that is kept of what is drawn, "10%" or 0.1: pictures are those of ``dcgan_jax.best``, grid.png
        shows the first ones in any case, and random.png as many that are not chosen. Needs the folder of a run, and the
        images that it was trained on.

    Raises:
      InputError: an argument is out of its range, the run cannot be restored, or ``out`` is in use: then nothing is
        written; or it cannot be written.
    """
    _check_asked(num, seed, format)
    share = None if best is None else share_of("best", best)
    key = random_key(seed)
    cache_compilations()
    folder = RunFolder.output(out)
    _check_free(folder)
    params = generator_of(source, step, ema=ema, generator=generator)
    check_shown("show", show, params.image_shape[2])
    channels = shown_of(source) if show is None else show
    origin, files = _origin(params, seed, label, format, share), [_picture(folder, i) for i in range(num)]
    done = _done(folder, origin)
    with _drawing(source, params, key, share) as draw, writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _UNFINISHED, json.dumps({**origin, "done": done}))
        if format == "npy":
            scale = scale_of(source, params.image_shape[2])
            files, done = [folder / "images.npy"], num  # what follows is the grid
            write_values(files[0], draw, num, scale, label)
        shown = _write(folder, params, draw, num, origin, done, channels)
        if params.classes and label is None:
            _write_labels(folder, params, key, num, format)
            shown = shown if share else _write_rows(folder, params, key, channels)
        if share:
            _write_random(folder, params, key, shown, label, channels)
        (folder / _UNFINISHED).unlink()
    return Pictures(files, folder / "grid.png", shown, None if params.step is None else int(params.step))


def _check_asked(num: int, seed: int, format: str) -> None:
    if num < 1:
        raise InputError(f"num {num} must be at least 1")
    SEED("seed", seed)
    if format not in ("png", "npy"):
        raise InputError(f"format {format!r} must be png or npy")


@contextlib.contextmanager
def _drawing(source: Source, params: GeneratorParams, key: jax.Array, share: float | None) -> Iterator[Draw]:
    """What draws the pictures: ``sample``, or the best of more."""
    if share is None:
        yield functools.partial(sample, params, key)
        return
    with best_of(source, params, share=share) as best:
        yield functools.partial(best, key)


def _origin(
    params: GeneratorParams, seed: int, label: str | int | None, format: str, share: float | None = None
) -> dict:
    """What two starts must have in common, so that the second continues the first."""
    origin: dict = {"weights": _digest(jax.tree.leaves(params)), "seed": int(seed)}
    if label is not None:
        if np.ndim(label):
            raise InputError("label must be one class, which all pictures are of: draw those of each class by itself")
        params.classes.labels(label, 1)  # or there is no such class
        origin["label"] = label if isinstance(label, str) else int(label)
    if share is not None:
        origin["best"] = share
    return origin if format == "png" else {**origin, "format": format}


def _picture(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.png"


def _write(folder: Path, params: GeneratorParams, draw: Draw, num: int, origin: dict, done: int, shown_channels) -> int:
    """Write the pictures from number ``done`` on, and the grid. Returns how many the grid shows."""
    columns = square_columns(num, params.image_shape)
    shown, first = min(num, columns**2), []
    for start in progress(range(0, num, PIECE), "pictures", total=num, size=PIECE):
        end = min(start + PIECE, num)
        if start < shown or end > done:
            images = draw(end - start, start=start, labels=origin.get("label"))
            images = visible(to_uint8(images), shown_channels)
            first += list(images[: max(0, shown - start)])
            new = range(max(start, done), end)
            for i in new:
                save_png(_picture(folder, i), images[i - start], synced=False)
            for path in (*(_picture(folder, i) for i in new), folder):
                sync(path)
        done = max(done, end)
        write_text(folder / _UNFINISHED, json.dumps({**origin, "done": done}))
    save_png(folder / "grid.png", grid(np.stack(first), columns=columns))
    return shown


def _write_labels(folder: Path, params: GeneratorParams, key: jax.Array, num: int, format: str) -> None:
    """Write which class each picture is of."""
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(["file" if format == "png" else "index", "class"])
    for i, label in enumerate(np.asarray(sample_labels(params, key, num))):
        rows.writerow([_picture(folder, i).name if format == "png" else i, printable(params.classes.names[label])])
    write_text(folder / "labels.csv", lines.getvalue())


def _write_rows(folder: Path, params: GeneratorParams, key: jax.Array, shown_channels) -> int:
    """Write a grid with a row for each class in place of that of the first pictures: it shows none of them."""
    save_png(folder / "grid.png", grid(visible(to_uint8(sheet(params, key)), shown_channels), columns=COLUMNS))
    return 0


def _write_random(folder: Path, params: GeneratorParams, key: jax.Array, num: int, label, shown_channels) -> None:
    """Write a grid of as many pictures that are not chosen, beside that of the best."""
    images = visible(to_uint8(sample(params, key, num, labels=label)), shown_channels)
    save_png(folder / "random.png", grid(images, columns=square_columns(num, params.image_shape)))


def _check_free(out: Path) -> None:
    """Refuse a place for the pictures that holds something else.

    Raises:
      InputError: it does; the message says what.
    """
    with reading(out):
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file: give --out a folder")
        if out.is_dir() and not (out / _UNFINISHED).exists():
            if any(out.glob("*.png")):
                raise InputError(f"{out} already holds pictures: give --out another folder")
            if any(not path.name.startswith(".") for path in out.iterdir()):
                raise InputError(f"{out} is not an empty folder: give --out another one")


def _done(out: Path, origin: dict) -> int:
    """How many pictures an interrupted start wrote, up to the first that is no longer there.

    Raises:
      InputError: it drew others.
    """
    marker = out / _UNFINISHED
    if not marker.exists():
        return 0
    with reading(marker):
        content = read_bytes(marker, most=1 << 20)  # the name of a class may be long
    try:
        noted = parse_json(content)
        if {**noted, "done": 0} == {**origin, "done": 0} and type(noted["done"]) is int and noted["done"] >= 0:
            names = {path.name for path in out.iterdir()}
            return next(i for i in itertools.count() if i == noted["done"] or _picture(out, i).name not in names)
    except (KeyError, TypeError, ValueError):
        pass
    raise InputError(
        f"{out} holds the pictures of an unfinished start with other weights or another --seed, --class, --best "
        "or --format: give --out another folder"
    )


def _digest(leaves) -> str:
    """What names the weights: a SHA-256."""
    sha = hashlib.sha256()
    for leaf in leaves:
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()
