"""Find the z of a picture: ``python -m dcgan_jax.project --workdir runs/ --image PHOTO --out DIR``.

The z whose image is most like the picture, in its pixels and in the features of ``evaluate``. With a second --image,
also the way from one to the other."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import check_new_folder, new_folder, read_bytes, reading, replacing, user_path, writing
from dcgan_jax.system.ranges import SEED

if TYPE_CHECKING:
    import numpy as np

    from dcgan_jax.config import Config

_WAY = 10  # images from one picture to the other
_SHOWN = 256  # pixels, at least, that a side of an image has in the pictures


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``project``."""

    workdir: Path
    """Folder of the run."""
    image: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction]
    """A picture. Give the flag twice to interpolate between two."""
    out: Path
    """Folder for projection.png, z.npy and, of two pictures, interpolation.png; must be new or empty."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint; the same as for generate by default."""
    iterations: int = 300
    """Steps of the search."""
    seed: int = 0
    """Seed of the eight places where the search starts."""

    def __post_init__(self):
        if len(self.image) not in (1, 2):
            raise InputError(f"{len(self.image)} pictures: give --image once or twice")
        if self.iterations < 1:
            raise InputError(f"iterations {self.iterations} must be at least 1")
        SEED("seed", self.seed)


def project(arguments: Arguments) -> None:
    """Write each picture beside its projection, and the latent vectors as ``z.npy``, float32 (1 or 2, latent_dim).

    Raises:
      InputError: a picture cannot be decoded, ``out`` is in use, or the run cannot be restored; nothing is written.
    """
    import jax.numpy as jnp
    import numpy as np

    from dcgan_jax.gan.pixels import from_uint8, to_uint8
    from dcgan_jax.gan.sampling import decode, slerp
    from dcgan_jax.metrics.projection import project_images
    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.system.cache import cache_compilations
    from dcgan_jax.system.xla import random_key
    from dcgan_jax.views.grid import grid, save_png

    cache_compilations()
    out = RunFolder.output(arguments.out)
    check_new_folder(out)
    config = RunFolder(arguments.workdir).config()
    pictures = np.stack([_square(path, config) for path in arguments.image])
    params = restore(arguments.workdir, arguments.step)
    wanted = jnp.asarray(from_uint8(pictures))
    z = project_images(params, wanted, random_key(arguments.seed), steps=arguments.iterations)
    found = to_uint8(decode(params, z))

    def save(path, images, columns):
        larger = -(-_SHOWN // config.image_size)
        save_png(path, grid(images.repeat(larger, axis=1).repeat(larger, axis=2), columns=columns))

    with writing(out), new_folder(out) as new:
        with replacing(new / "z.npy") as file:
            np.save(file, np.asarray(z))
        save(new / "projection.png", np.stack([pictures, found], axis=1).reshape(-1, *pictures.shape[1:]), columns=2)
        if len(pictures) == 2:
            way = slerp(z[0], z[1], jnp.linspace(0.0, 1.0, _WAY))
            save(new / "interpolation.png", to_uint8(decode(params, way)), columns=_WAY)
    for path, picture, image in zip(arguments.image, pictures, found, strict=True):
        error = np.sqrt(np.mean((picture.astype(float) - image) ** 2))
        print(f"{path}: its pixels and those of the projection differ by {error:.1f} of 255 (root mean square)")
    print(f"{', '.join(sorted(path.name for path in out.iterdir()))} in {out}")


def _square(path: Path, config: "Config") -> "np.ndarray":
    """The picture, made square as the run's images were: uint8 (image_size, image_size, channels).

    Raises:
      InputError: it is not there, or not a picture.
    """
    from dcgan_jax.data.decode import FILE_LIMIT, decode

    path = user_path(path)
    with reading(path):
        if not path.is_file():
            raise InputError(f"{path} is not a file: give --image a picture")
        content = read_bytes(path, most=FILE_LIMIT)
        try:
            return decode(content, config)
        except Exception as error:  # decoders raise anything on bad bytes
            if getattr(error, "errno", None):
                raise
            raise InputError(f"{path} cannot be decoded ({first_line(error)}): give --image a picture") from error


def main() -> None:
    """Read the command line and project."""
    cli.run(project, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
