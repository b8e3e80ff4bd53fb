"""Make a video of what a run draws: ``python -m dcgan_jax.animate --workdir runs/ --out walk.gif``.

The ending of --out says the format: .gif, .webp, or .mp4, which needs ``pip install imageio-ffmpeg``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dcgan_jax import cli


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
    labels: Annotated[tuple[str, ...], tyro.conf.arg(name="class"), tyro.conf.UseAppendAction] = ()
    (
        "Of a conditional run, a class that the walk goes through; several in turn: --class cat --class dog. By "
        "default each image goes from one to another at random."
    )
    direction: int | None = None
    """Go along one of the directions of z that change pictures most, and back; 1 is the strongest."""
    towards: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    (
        "In place of --direction: a picture that images become like, or a folder of pictures. Give the flag again for "
        "more: three or more that share what you mean."
    )
    away_from: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    """Pictures, given in the same way, that images become less like; by default what the run draws."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint for the walk; as for ``generate`` by default."""


def run(arguments: Arguments) -> None:
    """Write the animation, and say how large it is.

    Raises:
      InputError: as from ``dcgan_jax.animate``.
    """
    from dcgan_jax.run.animation import animate

    a = arguments
    options = {"what": a.what, "seconds": a.seconds, "fps": a.fps, "size": a.size, "scale": a.scale}
    options |= {"seed": a.seed, "labels": a.labels, "step": a.step}
    out = animate(a.workdir, a.out, **options, direction=a.direction, towards=a.towards, away_from=a.away_from)
    print(f"{out}: {round(a.seconds * a.fps)} frames, {out.stat().st_size / 1e6:.1f} MB")


def main() -> None:
    """Read the command line and animate."""
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
