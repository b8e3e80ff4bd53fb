"""Draw images from a trained run: ``python -m dcgan_jax.generate --workdir runs/ --num 64 --out DIR``."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import check_new_folder, new_folder, writing


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``generate``."""

    workdir: Path
    """Folder of the run; or a generator.safetensors that export wrote, or hf:USER/NAME."""
    out: Path
    """Folder for the pictures: 00000.png and so on, and grid.png; must be new or empty."""
    num: int = 64
    """Number of pictures."""
    seed: int = 0
    """Seed of the noise. Picture i does not depend on --num."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint, or the one with the highest coverage while training, or the newest."""
    ema: bool = True
    """Average the weights over the last images seen; --no-ema takes the weights of that step."""

    def __post_init__(self):
        if self.num < 1:
            raise InputError(f"num {self.num} must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed} must lie in [0, 2**32)")


def generate(arguments: Arguments) -> None:
    """Write ``num`` PNG files and one grid.

    Raises:
      InputError: the run cannot be restored, or ``out`` is in use; nothing is written.
    """
    import jax

    from dcgan_jax.gan.pixels import to_uint8
    from dcgan_jax.gan.sampling import sample
    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.system.cache import cache_compilations
    from dcgan_jax.views.grid import grid, save_png

    cache_compilations()
    out = RunFolder.output(arguments.out)
    check_new_folder(out)
    params = restore(arguments.workdir, arguments.step, ema=arguments.ema)
    images = to_uint8(sample(params, jax.random.key(arguments.seed), arguments.num))
    with writing(out), new_folder(out) as new:
        for i, image in enumerate(images):
            save_png(new / f"{i:05d}.png", image, synced=False)
        save_png(new / "grid.png", grid(images, columns=math.isqrt(len(images) - 1) + 1), synced=False)
    print(f"{len(images)} images and grid.png in {out} (step {params.step})")


def main() -> None:
    """Read the command line and generate."""
    cli.run(generate, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
