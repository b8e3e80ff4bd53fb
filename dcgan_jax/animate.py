"""Make a video of what a run draws: ``python -m dcgan_jax.animate --workdir runs/ --out walk.gif``.

The ending of --out says the format: .gif, .webp, or .mp4, which needs ``pip install imageio-ffmpeg``."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import writing
from dcgan_jax.system.ranges import SEED

if TYPE_CHECKING:
    import numpy as np

_SECONDS_PER_STOP, _WIDTH = 1.5, 340
_LIMIT = 128_000_000
"""Most pixels of all frames together, which are in memory at once: about 1 GB."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``animate``."""

    workdir: Path
    """Folder of the run."""
    out: Path
    """The file to write: .gif, .webp or .mp4."""
    what: Literal["walk", "training"] = "walk"
    """A walk through the latent space that ends where it began, or the sample grids of the run in their order."""
    seconds: float = 6.0
    """Length."""
    fps: int = 20
    """Frames in a second, from 1 to 50."""
    size: tuple[int, int] | None = None
    """Columns and rows of images; by default as many as are about 340 pixels wide and 200 high."""
    scale: int | None = None
    """How many pixels wide each pixel is drawn; by default 1, and more for images of less than 64 pixels."""
    seed: int = 0
    """Seed of the walk."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint for the walk; as for ``generate`` by default."""

    def __post_init__(self):
        if not 1 <= self.fps <= 50:
            raise InputError(f"fps {self.fps} must lie in [1, 50]")
        if not 2 <= self.seconds * self.fps <= 10_000:
            raise InputError(f"seconds {self.seconds:g} at {self.fps} fps must make at least 2 frames, at most 10,000")
        if min(*(self.size or (1, 1)), self.scale or 1) < 1:
            raise InputError("size and scale must be at least 1")
        if self.what == "training" and (self.step, self.seed) != ("best", 0):
            raise InputError("--step and --seed are of a walk: leave them out with --what training")
        SEED("seed", self.seed)


def animate(arguments: Arguments) -> None:
    """Write the animation.

    Raises:
      InputError: the run has nothing to show, or the file cannot be written.
    """
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.views.grid import grid
    from dcgan_jax.views.video import check_suffix, save_animation

    out, folder = RunFolder.output(arguments.out), RunFolder(arguments.workdir)
    check_suffix(out)
    side = folder.config().image_size
    scale = arguments.scale or max(1, 64 // side)
    columns, rows = arguments.size or (max(1, _WIDTH // (side * scale)), max(1, 200 // (side * scale)))
    count = round(arguments.seconds * arguments.fps)
    _check_size(count, *((n * (side + 2) + 2) * scale for n in (columns, rows)))
    draw = _walk(arguments, columns * rows, count) if arguments.what == "walk" else _training(folder, columns, rows)
    sheets = [grid(images[: columns * rows], columns).repeat(scale, 0).repeat(scale, 1) for images in draw]
    if arguments.what == "training":  # the last grid stays for a sixth of the time
        sheets = [sheets[min(6 * i * len(sheets) // (5 * count), len(sheets) - 1)] for i in range(count)]
    with writing(out):
        save_animation(out, sheets, fps=arguments.fps)
        size = out.stat().st_size
    h, w = sheets[0].shape[:2]
    print(f"{out}: {count} frames of {w}x{h}, {size / 1e6:.1f} MB")


def _check_size(count: int, width: int, height: int) -> None:
    """Refuse what would not fit into memory, before anything is drawn.

    Raises:
      InputError: says how large it is, and what to make smaller.
    """
    pixels = count * width * height
    if pixels > _LIMIT:
        raise InputError(
            f"{count} frames of {width}x{height} are {pixels / 1e6:,.0f} million pixels, more than "
            f"{_LIMIT / 1e6:.0f}: give a smaller --size, --scale, --seconds or --fps"
        )


def _walk(arguments: Arguments, tiles: int, count: int) -> "Iterator[np.ndarray]":
    """Frames in which each image goes from one random z to the next, and at last to its first."""
    import jax.numpy as jnp
    import numpy as np

    from dcgan_jax.gan.pixels import to_uint8
    from dcgan_jax.gan.sampling import decode, slerp
    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.system.cache import cache_compilations
    from dcgan_jax.system.xla import random_key

    cache_compilations()
    params = restore(arguments.workdir, arguments.step)
    stops = max(2, round(arguments.seconds / _SECONDS_PER_STOP))
    z = params.latent.draw(random_key(arguments.seed), stops * tiles).reshape(stops, tiles, -1)
    place = np.arange(count) * stops / count
    for i in range(stops):
        t = jnp.asarray(place[place.astype(int) == i] - i, jnp.float32)
        latents = slerp(z[i], z[(i + 1) % stops], t)
        images = to_uint8(decode(params, latents.reshape(-1, z.shape[-1])))
        yield from images.reshape(*latents.shape[:2], *images.shape[1:])


def _training(folder, columns: int, rows: int) -> "Iterator[np.ndarray]":
    """The images of each sample grid, which all come from the same noise."""
    from dcgan_jax.system.files import reading
    from dcgan_jax.views.grid import read_tiles

    if not (grids := folder.grids()):
        raise InputError(f"{folder.samples} holds no sample grids: train the run first")
    config = folder.config()
    for path in grids.values():
        with reading(path):
            images = read_tiles(path, config.image_size, config.channels)
        if rows > images.shape[0] or columns > images.shape[1]:
            raise InputError(f"a sample grid has {images.shape[1]}x{images.shape[0]} images: give a smaller --size")
        yield images[:rows, :columns].reshape(-1, *images.shape[2:])


def main() -> None:
    """Read the command line and animate."""
    cli.run(animate, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
