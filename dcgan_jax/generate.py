"""Draw images from a trained run: ``python -m dcgan_jax.generate --workdir runs/ --num 64 --out DIR``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dcgan_jax import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``generate``."""

    workdir: Path
    """Folder of the run; or a generator.safetensors that export wrote, or hf:USER/NAME."""
    out: Path
    (
        "Folder for the pictures: 00000.png and so on, or images.npy, and grid.png; new or empty, or of an interrupted "
        "start, which is continued."
    )
    num: int = 64
    """Number of pictures."""
    seed: int = 0
    """Seed of the noise. Picture i does not depend on --num."""
    best: str | None = None
    (
        "Draw more, and keep this share of it, such as 10%: those that are most like the images of the run. Needs its "
        "folder and its images. random.png shows as many at random."
    )
    label: Annotated[tuple[str, ...], tyro.conf.arg(name="class"), tyro.conf.UseAppendAction] = ()
    (
        "Of a conditional run, the class of all pictures. Without, each class is drawn as often as it has images, "
        "and labels.csv says which picture is which."
    )
    format: Literal["png", "npy"] = "png"
    (
        "npy writes images.npy, one array (num, H, W, C), in the type and the range of the values that the run has "
        "learned from."
    )
    show: tuple[int, ...] | None = None
    """The channels that pictures show as red, green and blue, or one as grey, from 1; by default those of the run."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint, or the one with the highest coverage while training, or the newest."""
    ema: bool = True
    """Average the weights over the last images seen; --no-ema takes the weights of that step."""


def run(arguments: Arguments) -> None:
    """Draw the pictures, and say where they are.

    Raises:
      InputError: as from ``dcgan_jax.generate``.
    """
    from dcgan_jax.run.pictures import generate
    from dcgan_jax.system.errors import InputError

    a = arguments
    if len(a.label) > 1:
        raise InputError(f"--class {a.label[0]} and --class {a.label[1]}: draw each class by itself, in its own --out")
    options = {
        "label": a.label[0] if a.label else None,
        "format": a.format,
        "show": a.show,
        "step": a.step,
        "ema": a.ema,
        "best": a.best,
    }
    pictures = generate(a.workdir, a.out, num=a.num, seed=a.seed, **options)
    rest = "" if pictures.shown == a.num else f", which shows the first {pictures.shown},"
    rest = rest if pictures.shown else ", a row for each class,"
    if (pictures.grid.parent / "labels.csv").exists():
        rest = f"{rest} and labels.csv"
    what = "images" if a.format == "png" else "images in images.npy,"
    chosen = "" if a.best is None else f" (the best {a.best})"
    print(f"{a.num} {what}{chosen} and grid.png{rest} in {pictures.grid.parent} (step {pictures.step})")
    if chosen:
        print(f"random.png shows {pictures.shown} that are not chosen")


def main() -> None:
    """Read the command line and generate."""
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
