"""Find the z of a picture: ``python -m dcgan_jax.project --workdir runs/ --image PHOTO --out DIR``.

The z whose image is most like the picture, in its pixels and in the features of ``evaluate``. With a second --image,
also the way from one to the other."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dcgan_jax import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``project``."""

    workdir: Path
    """Folder of the run."""
    image: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction]
    (
        "A picture, or a .npy of one image (H, W, C) or (H, W) with values as the run has learned from. Give the flag "
        "twice to interpolate between two."
    )
    out: Path
    (
        "Folder for projection.png, z.npy, z.json, which the page that export writes of the same step opens, and, of "
        "two pictures, interpolation.png; must be new or empty."
    )
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint; the same as for generate by default."""
    iterations: int = 300
    """Steps of the search."""
    seed: int = 0
    """Seed of the eight places where the search starts."""
    labels: Annotated[tuple[str, ...], tyro.conf.arg(name="class"), tyro.conf.UseAppendAction] = ()
    """Of a conditional run, the class of the picture. Of two pictures give it twice, or once for both."""


def run(arguments: Arguments) -> None:
    """Project the pictures, and say how near their images are.

    Raises:
      InputError: as from ``dcgan_jax.project``.
    """
    from dcgan_jax.run.projection import project

    a = arguments
    options = {"step": a.step, "iterations": a.iterations, "seed": a.seed, "labels": a.labels}
    projection = project(a.workdir, a.image, a.out, **options)
    for path, error in zip(a.image, projection.errors, strict=True):
        print(f"{path}: its pixels and those of the projection differ by {error:.1f} of 255 (root mean square)")
    print(f"{', '.join(path.name for path in projection.files)} in {projection.files[0].parent}")


def main() -> None:
    """Read the command line and project."""
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
