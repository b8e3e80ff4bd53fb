"""Draw images from a trained run: ``python -m dcgan_jax.generate --workdir runs/ --num 64 --out DIR``."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import parse_json, read_bytes, reading, sync, write_text, writing
from dcgan_jax.system.progress import progress
from dcgan_jax.system.ranges import SEED

if TYPE_CHECKING:
    from dcgan_jax.gan.state import GeneratorParams

_PIECE = 512  # images that are drawn and written at a time
_UNFINISHED = "unfinished.json"  # in the folder until all is there: of which weights, and how many pictures are safe


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``generate``."""

    workdir: Path
    """Folder of the run; or a generator.safetensors that export wrote, or hf:USER/NAME."""
    out: Path
    """Folder for the pictures: 00000.png and so on, and grid.png; new or empty, or of an interrupted start, which is
    continued."""
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
        SEED("seed", self.seed)


def generate(arguments: Arguments) -> None:
    """Write ``num`` PNG files, a few hundred at a time, and one grid of those that have room in it.

    A start that was interrupted is continued by the next with the same weights and seed.

    Raises:
      InputError: the run cannot be restored, or ``out`` is in use; nothing is written.
    """
    import jax

    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.system.cache import cache_compilations

    cache_compilations()
    out = RunFolder.output(arguments.out)
    _check_free(out)
    params = restore(arguments.workdir, arguments.step, ema=arguments.ema)
    origin = {"weights": _digest(jax.tree.leaves(params)), "seed": arguments.seed}
    done = _done(out, origin)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        shown = _write(out, params, arguments.num, origin, done)
    rest = "" if shown == arguments.num else f", which shows the first {shown},"
    print(f"{arguments.num} images and grid.png{rest} in {out} (step {params.step})")


def _write(out: Path, params: "GeneratorParams", num: int, origin: dict, done: int) -> int:
    """Write the pictures from number ``done`` on, and the grid. Returns how many the grid shows."""
    import numpy as np

    from dcgan_jax.gan.pixels import to_uint8
    from dcgan_jax.gan.sampling import sample
    from dcgan_jax.system.xla import random_key
    from dcgan_jax.views.grid import grid, save_png, square_columns

    columns = square_columns(num, params.image_shape[0])
    key, shown, first = random_key(origin["seed"]), min(num, columns**2), []
    write_text(out / _UNFINISHED, json.dumps({**origin, "done": done}))
    for start in progress(range(0, num, _PIECE), "pictures", total=num, size=_PIECE):
        end = min(start + _PIECE, num)
        if start < shown or end > done:
            images = to_uint8(sample(params, key, end - start, start=start))
            first += list(images[: max(0, shown - start)])
            new = range(max(start, done), end)
            for i in new:
                save_png(out / f"{i:05d}.png", images[i - start], synced=False)
            for path in (*(out / f"{i:05d}.png" for i in new), out):
                sync(path)
        done = max(done, end)
        write_text(out / _UNFINISHED, json.dumps({**origin, "done": done}))
    save_png(out / "grid.png", grid(np.stack(first), columns=columns))
    (out / _UNFINISHED).unlink()
    return shown


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
        content = read_bytes(marker, most=4096)
    try:
        found = parse_json(content)
        if {**found, "done": 0} == {**origin, "done": 0} and type(found["done"]) is int and found["done"] >= 0:
            there = {path.name for path in out.iterdir()}
            return next(i for i in itertools.count() if i == found["done"] or f"{i:05d}.png" not in there)
    except (KeyError, TypeError, ValueError):
        pass
    raise InputError(
        f"{out} holds the pictures of an unfinished start with other weights or another --seed: give --out another "
        "folder"
    )


def _digest(leaves) -> str:
    """What names the weights: a SHA-256."""
    import numpy as np

    sha = hashlib.sha256()
    for leaf in leaves:
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()


def main() -> None:
    """Read the command line and generate."""
    cli.run(generate, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
