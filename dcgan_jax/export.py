"""Share a trained generator: ``python -m dcgan_jax.export --workdir runs/ --out DIR``.

explorer.html draws images in any browser, generator.safetensors is what restore reads, generator.onnx is for others."""

import dataclasses
from pathlib import Path
from typing import Literal

from dcgan_jax import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``export``."""

    workdir: Path
    """Folder of the run."""
    out: Path
    """Folder for the files, made if it does not exist. Overwrites explorer.html and generator.* in it."""
    formats: tuple[Literal["html", "safetensors", "onnx"], ...] | None = None
    """Which files; by default all of them, safetensors and onnx if the extra "export" is installed."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint; by default the one that restore takes."""
    push: str | None = None
    (
        "USER/NAME: upload the files to the Hugging Face Hub too, with samples, the report if there is one, and a "
        'model card. Needs the extra "hub". restore("hf:USER/NAME") reads it.'
    )
    license: str | None = None
    """Of the weights, for the model card, as the Hub names it: mit, cc-by-4.0. By default unknown."""
    discriminator: bool = False
    """Put the discriminators into generator.safetensors too, for runs that start from it (train --init)."""
    precision: Literal["float32", "float16"] = "float32"
    """Of the weights in generator.safetensors; float16 makes it half as large."""


def run(arguments: Arguments) -> None:
    """Write the files, and name them with their sizes.

    Raises:
      InputError: as from ``dcgan_jax.export``.
    """
    from dcgan_jax.run.export import export

    a = arguments
    more = {"discriminator": a.discriminator, "precision": a.precision}
    for path in export(a.workdir, a.out, formats=a.formats, step=a.step, push=a.push, license=a.license, **more):
        print(f"{path}  {path.stat().st_size / 1e6:,.1f} MB")


def main() -> None:
    """Read the command line and export."""
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
