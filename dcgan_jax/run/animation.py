"""What a run draws, as an animation: a walk through the latent space, or the sample grids of its training."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.gan.directions import directions
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import decode, floats, slerp
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.metrics.steering import direction_towards
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.generators import Source, generator_of, shown_of
from dcgan_jax.run.given import read_pictures, several
from dcgan_jax.run.restore import Step
from dcgan_jax.share.portable import is_portable
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.disk import reading, writing
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.ranges import SEED
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.grid import grid, read_tiles, shown_shape, visible
from dcgan_jax.views.video import check_suffix, save_animation

_OF_WALKS = "--step, --seed, --class, --direction, --towards and --away-from"
_SECONDS_PER_STOP = 1.5
_REACH = 3.0  # along a direction: pictures change clearly, and stay whole
_WIDTH, _HEIGHT = 340, 200  # pixels that are about filled, unless the size is given
_LIMIT = 128_000_000  # pixels of all frames together, which are in memory at once: about 1 GB


class _Layout(NamedTuple):
    """How images are laid out in a frame, and how many pixels wide each of their pixels is drawn."""

    columns: int
    rows: int
    scale: int

    def sheet(self, images: np.ndarray) -> np.ndarray:
        """One frame: uint8 (N, H, W, C) -> (height, width, C)."""
        sheet = grid(images[: self.columns * self.rows], self.columns)
        return sheet.repeat(self.scale, 0).repeat(self.scale, 1)


def animate(
    source: Source,
    out: str | Path,
    *,
    what: Literal["walk", "training"] = "walk",
    seconds: float = 6.0,
    fps: int = 20,
    size: tuple[int, int] | None = None,
    scale: int | None = None,
    seed: int = 0,
    labels: str | int | Sequence[str | int] = (),
    direction: Any = None,
    towards: str | Path | Sequence[str | Path] = (),
    away_from: str | Path | Sequence[str | Path] = (),
    step: Step = "best",
    generator: nn.Module | str | None = None,
) -> Path:
    """Write an endless animation, or a video, as ``python -m dcgan_jax.animate`` does.

    Args:
      source: as for ``generate``; for the training the folder of a run.
      out: the file to write. Its ending says the format: .gif, .webp, or .mp4, which needs the package imageio-ffmpeg.
      what: a walk through the latent space that ends where it began, or the sample grids of the run in their order.
      seconds: length; at least 2 frames, at most 10,000.
      fps: frames in a second, from 1 to 50.
      size: columns and rows of images; by default as many as are about 340 pixels wide and 200 high.
      scale: how many pixels wide each pixel is drawn; by default 1, and more for images of less than 64 pixels.
      seed: of the walk, in [0, 2**32).
      labels: of a conditional run, the classes through which the walk goes in turn, by their names or numbers; one for
        a walk within it, or along a direction. By default each image goes from one to another at random.
      direction: number of one of the ``directions``, 1 for the strongest, or a vector (latent_dim,), such as of
        ``direction_towards``: each image goes along it and back, in place of a walk.
      towards: in place of a number: pictures, or folders of which each gives 256 at most, that images become like;
        ``source`` must be the folder of a run.
      away_from: and others, in the same way, that they become less like; by default the samples.
      step: of the checkpoint for the walk, as for ``restore``, like ``generator``.

    Returns:
      The file.

    Raises:
      InputError: an argument is out of its range, all frames together have more than 128 million pixels, the run cannot
        be restored or has no sample grids, or the file cannot be written.
    """
    labels, towards, away_from = several(labels), several(towards), several(away_from)
    path = RunFolder.output(out)
    check_suffix(path)
    _check(seconds, fps, size, scale)
    SEED("seed", seed)
    count = round(seconds * fps)
    if what == "walk":
        cache_compilations()
        params = generator_of(source, step, generator=generator)
        layout = _layout(params.image_shape, size, scale, count)
        along = _course(source, params, direction, towards, away_from)
        shown = shown_of(source)
        frames = along(params, random_key(seed), layout, seconds, fps, labels)
        sheets = [layout.sheet(visible(images, shown)) for images in frames]
    else:
        others = (step, seed, generator, *labels, *towards, *away_from) != ("best", 0, None) or direction is not None
        sheets = _training(_trained(source, what, others), size, scale, count)
    with writing(path):
        save_animation(path, sheets, fps=fps)
    return path


def _check(seconds: float, fps: int, size: tuple[int, int] | None, scale: int | None) -> None:
    if not 1 <= fps <= 50:
        raise InputError(f"fps {fps} must lie in [1, 50]")
    if not 2 <= seconds * fps <= 10_000:
        raise InputError(f"seconds {seconds:g} at {fps} fps must make at least 2 frames, at most 10,000")
    if min(*(size or (1, 1)), 1 if scale is None else scale) < 1:
        raise InputError("size and scale must be at least 1")


def _layout(
    shape: tuple[int, ...],
    size: tuple[int, int] | None,
    scale: int | None,
    count: int,
    most: tuple[int, int] | None = None,
) -> _Layout:
    """The layout of images of a shape (H, W, C), unless ``count`` frames of it would not fit into memory.

    Args:
      most: columns and rows, at most, where ``size`` does not say them.

    Raises:
      InputError: says how large they are, and what to make smaller.
    """
    high, wide, *_ = shape
    scale = scale or max(1, 64 // max(high, wide))
    filling = max(1, _WIDTH // (wide * scale)), max(1, _HEIGHT // (high * scale))
    columns, rows = size or map(min, filling, most or filling)
    width, height = (columns * (wide + 2) + 2) * scale, (rows * (high + 2) + 2) * scale
    if (pixels := count * width * height) > _LIMIT:
        raise InputError(
            f"{count} frames of {width}x{height} are {pixels / 1e6:,.0f} million pixels, more than "
            f"{_LIMIT / 1e6:.0f}: give a smaller --size, --scale, --seconds or --fps"
        )
    return _Layout(columns, rows, scale)


def _stops(
    params: GeneratorParams, key: jax.Array, stops: int, tiles: int, labels: Sequence[str | int]
) -> jax.Array | None:
    """How much of each class each tile has at each stop, (stops, tiles, classes); None of a run that has no classes."""
    classes = params.classes
    if not classes:
        classes.labels(labels or None, 0)  # or none
        return None
    turns = [int(classes.labels(label, 1)[0]) for label in labels]  # pyright: ignore[reportOptionalSubscript]
    if turns:
        numbers = jnp.asarray([turns[i % len(turns)] for i in range(stops)], jnp.int32).repeat(tiles)
    else:
        numbers = classes.draw(key, stops * tiles)
    return jax.nn.one_hot(numbers, len(classes)).reshape(stops, tiles, -1)


def _walk(
    params: GeneratorParams, key: jax.Array, layout: _Layout, seconds: float, fps: int, labels: Sequence[str | int]
) -> Iterator[np.ndarray]:
    """The images of each frame: each goes from one random z to the next, and at last to its first."""
    count, stops = round(seconds * fps), max(2, round(seconds / _SECONDS_PER_STOP), len(labels))
    if len(labels) > count:
        least = math.ceil(len(labels) / fps)
        raise InputError(f"{len(labels)} classes are more than {count} frames show: give --seconds {least} at least")
    tiles = layout.columns * layout.rows
    z = params.latent.draw(key, stops * tiles).reshape(stops, tiles, -1)
    classes = _stops(params, key, stops, tiles, labels)
    place = np.arange(count) * stops / count
    for i in range(stops):
        t = jnp.asarray(place[place.astype(int) == i] - i, jnp.float32)
        latents, weights = slerp(z[i], z[(i + 1) % stops], t), None
        if classes is not None:
            start, end, t = classes[i][None], classes[(i + 1) % stops][None], t[:, None, None]
            weights = ((1 - t) * start + t * end).reshape(-1, classes.shape[-1])
        images = to_uint8(decode(params, latents.reshape(-1, z.shape[-1]), labels=weights))
        yield from images.reshape(*latents.shape[:2], *images.shape[1:])


def _course(source: Source, params: GeneratorParams, *where: Any) -> Callable[..., Iterator[np.ndarray]]:
    """What makes the frames: ``_walk``, or ``_along`` the direction that the arguments of ``_way`` say."""
    way = _way(source, params, *where)
    return _walk if way is None else functools.partial(_along, way=way)


def _way(
    source: Source,
    params: GeneratorParams,
    direction: Any,
    towards: Sequence[str | Path],
    away_from: Sequence[str | Path],
) -> jax.Array | None:
    """The direction that ``animate`` is to go along, if any."""
    if towards:
        if direction is not None:
            raise InputError("--direction and --towards each say where to go: give one of them")
        if not isinstance(source, str | Path) or is_portable(source):
            raise InputError("--towards needs the folder of the run, which says how its pictures were read")
        start = read_pictures(source, away_from, "--away-from") if away_from else None
        return direction_towards(params, jnp.asarray(read_pictures(source, towards, "--towards")), start)
    if away_from:
        raise InputError("--away-from says what images become less like: give --towards too")
    if direction is None:
        return None
    dim = params.latent.dim
    if hasattr(direction, "__index__") and np.ndim(direction) == 0 and not isinstance(direction, bool):
        if not 1 <= direction <= dim:
            raise InputError(f"direction {direction} must lie in [1, {dim}]: 1 is the strongest")
        return directions(params, int(direction))[-1]
    if (way := floats("direction", direction)).shape != (dim,):
        raise InputError(f"direction must be a number from 1 to {dim}, or a vector of {dim}, not {way.shape}")
    return way


def _along(
    params: GeneratorParams,
    key: jax.Array,
    layout: _Layout,
    seconds: float,
    fps: int,
    labels: Sequence[str | int],
    *,
    way: jax.Array,
) -> Iterator[np.ndarray]:
    """The images of each frame: each goes along a direction as far as pictures stay whole, back, and the other way."""
    if len(labels) > 1:
        raise InputError("along a direction images stay in their class: give --class once, or leave it out")
    count, tiles = round(seconds * fps), layout.columns * layout.rows
    z = params.latent.draw(key, tiles)
    classes = _stops(params, key, 1, tiles, labels)
    for place in np.sin(2 * np.pi * np.arange(count) / count):
        yield to_uint8(decode(params, z + _REACH * place * way[None], labels=None if classes is None else classes[0]))


def _trained(source: Source, what: str, others: bool) -> RunFolder:
    """The run whose training is to be shown, unless ``others`` says that arguments of a walk are given."""
    if what != "training":
        raise InputError(f"what {what!r} must be walk or training")
    if not isinstance(source, str | Path):
        raise InputError("a training is that of the folder of a run: give the folder, not parameters")
    if others:
        raise InputError(f"{_OF_WALKS} are of a walk: leave them out with --what training")
    return RunFolder(source)


def _training(folder: RunFolder, size: tuple[int, int] | None, scale: int | None, count: int) -> list[np.ndarray]:
    """The sample grids in turn, which all come from the same noise; the last stays for a sixth of the time."""
    config = folder.config()
    if not (paths := list(folder.grids().values())):
        raise InputError(f"{folder.samples} holds no sample grids: train the run first")
    rows, columns, *_ = _read(paths[0], config).shape
    layout = _layout(config.image_shape, size, scale, count, most=(columns, rows))
    grids = [layout.sheet(images) for images in _grids(paths, config, layout)]
    return [grids[min(6 * i * len(grids) // (5 * count), len(grids) - 1)] for i in range(count)]


def _read(path: Path, config: Config) -> np.ndarray:
    with reading(path):
        return read_tiles(path, shown_shape(config))


def _grids(paths: Sequence[Path], config: Config, layout: _Layout) -> Iterator[np.ndarray]:
    """The images of each sample grid that are shown."""
    for path in paths:
        images = _read(path, config)
        if layout.rows > images.shape[0] or layout.columns > images.shape[1]:
            raise InputError(f"a sample grid has {images.shape[1]}x{images.shape[0]} images: give a smaller --size")
        yield images[: layout.rows, : layout.columns].reshape(-1, *images.shape[2:])
