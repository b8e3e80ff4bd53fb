"""Measure how good the images of a run are: ``python -m dcgan_jax.evaluate --workdir runs/``.

Samples are compared with the images that the run was trained on. The floor is what real images get in their place."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import write_text, writing

if TYPE_CHECKING:
    from dcgan_jax.data.store import Store
    from dcgan_jax.metrics.evaluate import Figures
    from dcgan_jax.run.folder import RunFolder

SETS = 3
"""Sets of samples for each checkpoint, which give the range of a figure."""
_SHOWN, _PIECE = 64, 512


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``evaluate``."""

    workdir: Path
    """Folder of the run. Overwrites evaluation.json, evaluation.png and pairs.png in it."""
    num: int = 5000
    """Number of samples in each of three sets, compared with as many images: at most half of those there are."""
    step: tuple[int, ...] | None = None
    """Steps of the checkpoints; the newest by default."""
    seed: int = 0
    """Seed of the noise and of how the images are split in halves."""

    def __post_init__(self):
        if self.num < 6:
            raise InputError(f"num {self.num} must be at least 6")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed} must lie in [0, 2**32)")


def evaluate(arguments: Arguments) -> None:
    """Print a table for each checkpoint, and write ``evaluation.json``, and ``evaluation.png`` of the latest one.

    Raises:
      InputError: the run cannot be restored, its images are others or too few, or something cannot be written.
    """
    import jax
    import numpy as np

    from dcgan_jax.gan.pixels import to_uint8
    from dcgan_jax.gan.sampling import sample
    from dcgan_jax.metrics.evaluate import Reals
    from dcgan_jax.metrics.features import features, store_features
    from dcgan_jax.run.checkpoints import restore_state
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.system.cache import cache_compilations, cache_folder
    from dcgan_jax.views.evaluation import save_evaluation
    from dcgan_jax.views.grid import grid, save_png

    cache_compilations()
    folder = RunFolder(arguments.workdir)
    states = [restore_state(folder.path, step) for step in dict.fromkeys(arguments.step or (None,))]
    store = _images(folder)
    reals = Reals(
        store.take,
        store_features(store, cache_folder()),
        num=arguments.num,
        groups=store.labels,
        seed=arguments.seed,
    )

    def draw(state, number):
        key = jax.random.fold_in(jax.random.key(arguments.seed), number)
        for start in range(0, reals.n, _PIECE):  # as floats they take four times the room
            yield to_uint8(sample(state, jax.random.fold_in(key, start), min(_PIECE, reals.n - start)))

    found = []
    for state in sorted(states, key=lambda state: int(state.step)):
        step, sets = int(state.step), []
        for number in range(SETS):
            images = np.concatenate(list(draw(state, number)))
            vectors = features(images)
            sets.append(reals.compare(images, vectors))
        figures = reals.figures(sets)
        print(f"step {step}: {SETS} sets of {reals.n} samples against {reals.n} real images\n{_table(figures)}\n")
        found.append({"step": step, "n": reals.n, "metrics": {name: of._asdict() for name, of in figures.items()}})
    pairs = reals.closest(images, vectors, num=_SHOWN // 2)
    with writing(folder.path):
        write_text(folder.evaluation, json.dumps(found, indent=2) + "\n")
        save_png(folder.pairs, grid(pairs.reshape(-1, *pairs.shape[2:]), columns=8))
        save_evaluation(folder.evaluation_picture, reals.images[:_SHOWN], images[:_SHOWN], pairs, step=step)
    print(f"{folder.evaluation.name} and {folder.evaluation_picture.name} in {folder.path}; to add them to its report:")
    print(f"  python -m dcgan_jax.report --workdir {arguments.workdir}")


def _images(folder: "RunFolder") -> "Store":
    """The images that the run was trained on."""
    from dcgan_jax.data.sources import open_source
    from dcgan_jax.data.store import prepare
    from dcgan_jax.system.cache import cache_folder

    config, then = folder.config(), folder.images_then()
    store = prepare(open_source(config, cache_folder()), config, cache_folder())
    if then and store.digest != then["sha256"]:
        raise InputError(
            f"{config.data} has other images than {folder.path} was trained on ({len(store)} now, {then['count']} "
            "then): restore those to evaluate the run"
        )
    return store


def _table(figures: "dict[str, Figures]") -> str:
    from dcgan_jax.metrics.evaluate import LABELS

    rows: list[tuple[str, ...]] = [("", "value", "low", "high", "floor", "n", "better")]
    for name, of in figures.items():
        label, better = LABELS[name]
        rows.append((label, *(f"{x:.4g}" for x in (of.value, of.low, of.high, of.floor)), str(of.n), better))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for label, *numbers, better in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:])]
        lines.append("  ".join([f"{label:<{widths[0]}}", *cells, better]))
    return "\n".join(lines)


def main() -> None:
    cli.run(evaluate, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
