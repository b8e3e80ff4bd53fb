"""Pictures in files, and the latent vectors whose images are most like them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.config import has_alpha
from dcgan_jax.gan.pixels import from_pixels, from_uint8, rounded_to_uint8, to_levels, to_uint8
from dcgan_jax.gan.sampling import as_labels, decode, slerp
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.metrics.projection import project_images
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.given import read_picture, several
from dcgan_jax.run.restore import Step, restore
from dcgan_jax.run.values import scale_of
from dcgan_jax.share import latents
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.disk import user_path, writing
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import check_new_folder, new_folder, replacing, write_text
from dcgan_jax.system.ranges import SEED
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.grid import grid, save_png, visible

_WAY = 10  # images from one picture to the other
_SHOWN = 256  # pixels, at least, that a side of an image has in the pictures


class Projection(NamedTuple):
    """What ``project`` made of its pictures.

    Attributes:
      z: float32 (N, latent_dim), for ``decode``.
      errors: root mean square of the differences between the pixels of a picture and those of its image, of 255; with
        alpha, of premultiplied ones: what is not seen does not count.
      files: what was written.
    """

    z: np.ndarray
    errors: list[float]
    files: list[Path]


def project(
    workdir: str | Path,
    pictures: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    step: Step = "best",
    iterations: int = 300,
    seed: int = 0,
    labels: str | int | Sequence[str | int] = (),
    generator: nn.Module | str | None = None,
) -> Projection:
    """Find the z of one picture or two, and show their images, as ``python -m dcgan_jax.project`` does.

    ``project_images`` does it for arrays.

    Args:
      workdir: the folder of the run.
      pictures: one or two files, which are brought to the shape of the run's images as those were; also a .npy of
        one image, (H, W, C) or (H, W), with values as ``generate`` writes them.
      out: folder for projection.png, z.npy, z.json, which the page that ``export`` writes of the same step opens, and,
        of two pictures, interpolation.png; must be new or empty.
      step: of the checkpoint, as for ``restore``.
      iterations: steps of the search, at least 1.
      seed: of the places where the search starts, in [0, 2**32).
      labels: of a conditional run, which needs it: the class of each picture, or one for all, by name or number.
      generator: as for ``restore``.

    Raises:
      InputError: an argument is out of its range, a picture cannot be decoded, ``out`` is in use, or the run cannot be
        restored: then nothing is written; or it cannot be written.
    """
    pictures, labels = several(pictures), several(labels)
    if len(pictures) not in (1, 2):
        raise InputError(f"{len(pictures)} pictures: give --image once or twice")
    if iterations < 1:
        raise InputError(f"iterations {iterations} must be at least 1")
    SEED("seed", seed)
    key = random_key(seed)
    cache_compilations()
    place = RunFolder.output(out)
    check_new_folder(place)
    config = RunFolder(workdir).config()
    scale = scale_of(workdir, config.image_shape[2])
    # One may have 8 bits, and one 16.
    squares = [read_picture(user_path(path), config, scale, "--image") for path in pictures]
    targets, pixels = (np.stack([read(one) for one in squares]) for read in (from_pixels, rounded_to_uint8))
    params = restore(workdir, step, generator=generator)
    classes = as_labels(params, labels * (len(pixels) if len(labels) == 1 else 1) or None, len(pixels))
    z = project_images(params, jnp.asarray(targets), key, steps=iterations, labels=classes)
    images = to_uint8(decode(params, z, labels=classes))
    numbers = None if classes is None else np.asarray(classes).tolist()
    name = printable(RunFolder(workdir).path.absolute().name)
    page = latents.to_json(params, np.asarray(z), numbers, run=name)
    with writing(place), new_folder(place) as new:
        write_text(new / latents.NAME, page)
        _write(new, params, z, classes, pixels, images, config.show)
    errors = [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in zip(*map(_levels, (pixels, images)), strict=True)]
    return Projection(np.asarray(z), errors, sorted(place.iterdir()))


def _levels(pixels: np.ndarray) -> np.ndarray:
    """uint8 images as floats from 0 to 255, premultiplied where there is alpha."""
    return to_levels(from_uint8(pixels).astype(float)) if has_alpha(pixels.shape[-1]) else pixels.astype(float)


def _write(
    folder: Path,
    params: GeneratorParams,
    z: jax.Array,
    labels: jax.Array | None,
    pixels: np.ndarray,
    images: np.ndarray,
    channels: tuple[int, ...] | None,
) -> None:
    def save(name, images, columns):
        images, larger = visible(images, channels), -(-_SHOWN // images.shape[1])
        save_png(folder / name, grid(images.repeat(larger, axis=1).repeat(larger, axis=2), columns=columns))

    with replacing(folder / "z.npy") as file:
        np.save(file, np.asarray(z))
    save("projection.png", np.stack([pixels, images], axis=1).reshape(-1, *pixels.shape[1:]), columns=2)
    if len(z) == 2:
        t = jnp.linspace(0.0, 1.0, _WAY)
        if labels is not None:
            ends = jax.nn.one_hot(labels, len(params.classes))
            labels = (1 - t)[:, None] * ends[:1] + t[:, None] * ends[1:]
        save("interpolation.png", to_uint8(decode(params, slerp(z[0], z[1], t), labels=labels)), columns=_WAY)
