"""What a run folder holds, gathered for its report."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import decode, slerp
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.run import sections
from dcgan_jax.run.classes import load_classes
from dcgan_jax.run.comparison import Compared, comparison
from dcgan_jax.run.evaluation import load_evaluations
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.init import read_record
from dcgan_jax.run.measure import BEST
from dcgan_jax.run.restore import restore
from dcgan_jax.run.verdict import at_best
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.disk import reading, writing
from dcgan_jax.system.errors import InputError, first_line, printable
from dcgan_jax.system.files import write_text
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.grid import read_tiles, shown_shape, visible
from dcgan_jax.views.report import Run, page

_GRIDS = 32
_WALK = (6, 8)  # rows and columns: fewer than the 64 images that are decoded together


def report(
    workdir: str | Path,
    *,
    against: str | Path | None = None,
    out: str | Path | None = None,
    generator: nn.Module | str | None = None,
) -> Path:
    """Write a run, or two beside each other, as one HTML page, as ``python -m dcgan_jax.report`` does.

    Args:
      workdir: the folder of the run.
      against: the folder of a second run, shown beside it, its curves over those of the first; a sentence says which is
        better.
      out: the file to write; by default ``report.html`` in the run's folder, or ``comparison.html`` for two runs.
      generator: as for ``restore``, of both runs.

    Returns:
      The file.

    Raises:
      InputError: a folder is no run, something in it is damaged, or the file cannot be written.
    """
    cache_compilations()
    folder = RunFolder(workdir)
    path = RunFolder.output(out or (folder.report if against is None else folder.comparison))
    places = [place for place in (workdir, against) if place is not None]
    runs = _named_apart([_restored(place, generator) for place in places])
    sentence = comparison(*map(_compared, runs, places)) if against is not None else ""
    write_page(path, runs, comparison=sentence)
    return path


def _named_apart(runs: list[Run]) -> list[Run]:
    """Runs of the same name with numbers behind it."""
    if len({run.name for run in runs}) == len(runs):
        return runs
    return [run._replace(name=f"{run.name} ({i})") for i, run in enumerate(runs, 1)]


def _compared(run: Run, workdir) -> Compared:
    folder = RunFolder(workdir)
    images = (folder.images_then() or {}).get("sha256")
    return Compared(run.name, images, run.lines, load_evaluations(folder.evaluation))


def _restored(workdir, generator) -> Run:
    folder = RunFolder(workdir)
    folder.config()  # no run at all is an error; one whose generator cannot be restored still has a report
    params, why = None, ""
    try:
        params = restore(workdir, generator=generator)
    except InputError as error:
        why = f"No generator to draw with: {first_line(error)}."
    return describe(folder, params, why=why)


def write_report(folder: RunFolder, params: GeneratorParams | None) -> None:
    """Write ``report.html`` of a run that has just been trained: without what is damaged, which the page names.

    Args:
      params: the generator, for the images between two samples.

    Raises:
      InputError: its configuration or metrics are damaged, or it cannot be written.
    """
    damaged: list[str] = []
    run = describe(folder, params, damaged=damaged)
    for text in damaged:
        print(f"left out of {folder.report.name}: {text}", file=sys.stderr)
    write_page(folder.report, [run])


def write_page(path: Path, runs: list[Run], *, comparison: str = "") -> None:
    """Write the report of one run or several.

    Raises:
      InputError: it cannot be written.
    """
    with writing(path):
        write_text(path, page(runs, sections.settings(Config()), comparison=comparison))


class _Extra:
    """Reads what a page can be without. If not ``strict``, ``damaged`` gets a sentence for each damaged file."""

    def __init__(self, *, strict: bool):
        self.damaged: list[str] = []
        self._strict = strict

    def __call__(self, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except InputError as error:
            if self._strict:
                raise
            self.damaged.append(str(error))
            return otherwise


def describe(
    folder: RunFolder, params: GeneratorParams | None, *, why: str = "", damaged: list[str] | None = None
) -> Run:
    """Gather what a report shows of a run. A run of an older version simply has less.

    Args:
      params: the generator; without it there are no images between two samples, and ``why`` says the reason.
      damaged: gets a sentence for each file that is damaged and therefore not shown; None: damage is an error.

    Raises:
      InputError: it is no run, or something in it is damaged.
    """
    extra = _Extra(strict=damaged is None)
    config, lines = folder.config(), folder.read_metrics()
    count = (folder.images_then() or {}).get("count", 0)
    evaluations = extra(lambda: load_evaluations(folder.evaluation), [])
    classes = extra(lambda: load_classes(folder.classes), None)
    pictures = _pictures(folder, config, extra)
    machine = extra(lambda: sections.machine(folder.timings()), {})
    last = max([*(line["step"] for line in lines), *folder.grids(), *folder.complete_steps()], default=0)
    measured = at_best(lines, evaluations)
    notes = [("note", "Note", classes.finding)] if classes else []
    if record := extra(lambda: read_record(folder), None):
        notes.append(("note", "Started from", f"{record}."))
    notes += [("note", "Left out", text) for text in extra.damaged]
    if damaged is not None:
        damaged += extra.damaged
    return Run(
        name=printable(folder.path.resolve().name),
        summary=sections.summary(config, count, last),
        verdict=[*sections.verdict(config, lines, count, measured), *notes],
        numbers=sections.numbers(measured),
        source=sections.source(measured, lines),
        lines=lines,
        walk=None if params is None else visible(_between(params, config.seed), config.show),
        missing={
            "pairs": "They are added by python -m dcgan_jax.evaluate and then python -m dcgan_jax.report.",
            "walk": why,
        },
        figures=sections.figures(evaluations),
        classes=sections.classes(classes),
        settings=sections.settings(config),
        machine=machine,
        **pictures,
    )


def _pictures(folder: RunFolder, config: Config, extra: _Extra) -> dict[str, Any]:
    """The pictures of a report; None where a file is missing or ``extra`` takes it as damaged."""
    height, width, _ = config.image_shape
    most = 64 if height * width <= 64 * 64 else 16
    grids = folder.grids()
    steps = list(grids)
    chosen = {steps[i] for i in np.linspace(0, len(steps) - 1, min(_GRIDS, len(steps))).round().astype(int)}
    sheets = {step: extra(lambda path=grids[step]: _cut(path, config), None) for step in sorted(chosen)}
    sheets = {step: images for step, images in sheets.items() if images is not None}
    reals = extra(lambda: _cut(folder.reals, config)[:20], None) if folder.reals.exists() else None
    pairs = extra(lambda: _cut(folder.pairs, config), None) if folder.pairs.exists() else None
    sheets_of_best = [folder.best, folder.random]
    best = None
    if all(path.exists() for path in sheets_of_best):
        best = extra(lambda: [_cut(path, config)[:most] for path in sheets_of_best], None)
    return {
        "grids": {step: images[:most] for step, images in sheets.items()},
        "reals": reals,
        "fakes": None if not sheets or reals is None else sheets[max(sheets)][: len(reals)],
        "pairs": None if pairs is None else pairs[: len(pairs) // 2 * 2].reshape(-1, 2, *pairs.shape[1:])[:16],
        "best": best,
        "drawn": round(64 / BEST),
    }


def _cut(path: Path, config: Config) -> np.ndarray:
    with reading(path):
        images = read_tiles(path, shown_shape(config))
    return images.reshape(-1, *images.shape[2:])


def _between(params: GeneratorParams, seed: int) -> np.ndarray:
    rows, columns = _WALK
    ends = params.latent.draw(jax.random.fold_in(random_key(seed), 1), 2 * rows)
    z = slerp(ends[:rows], ends[rows:], jnp.linspace(0.0, 1.0, columns)).swapaxes(0, 1)
    labels = None
    if params.classes:  # each row is of one class
        labels = params.classes.draw(random_key(seed), rows).repeat(columns)
    images = to_uint8(decode(params, z.reshape(rows * columns, -1), labels=labels))
    return images.reshape(rows, columns, *images.shape[1:])
