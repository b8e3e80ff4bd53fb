"""What a run folder holds, gathered for its report."""

import dataclasses
import sys
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
from dcgan_jax.metrics.evaluate import labels
from dcgan_jax.run.classes import Classes, load_classes
from dcgan_jax.run.doctor import findings
from dcgan_jax.run.evaluation import Evaluation, load_evaluations
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.restore import restore
from dcgan_jax.run.verdict import advice, at_best, judge, unusual
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.errors import InputError, first_line, printable, shell_word
from dcgan_jax.system.files import reading, write_text, writing
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.grid import read_tiles
from dcgan_jax.views.report import Run, page

_GRIDS = 32
_COLUMNS = 6  # checkpoints in a table
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
      against: the folder of a second run, shown beside it with the same axes.
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
    write_page(path, [_restored(place, generator) for place in (workdir, against) if place is not None])
    return path


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


def write_page(path: Path, runs: list[Run]) -> None:
    """Write the report of one run or several.

    Raises:
      InputError: it cannot be written.
    """
    with writing(path):
        write_text(path, page(runs, _shown(Config())))


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
    named: list[str] = []

    def extra(read, otherwise):
        try:
            return read()
        except InputError as error:
            if damaged is None:
                raise
            named.append(str(error))
            return otherwise

    config, lines = folder.config(), folder.read_metrics()
    count = (folder.images_then() or {}).get("count", 0)
    evaluations = extra(lambda: load_evaluations(folder.evaluation), [])
    classes = extra(lambda: load_classes(folder.classes), None)
    grids = folder.grids()
    steps = list(grids)
    chosen = {steps[i] for i in np.linspace(0, len(steps) - 1, min(_GRIDS, len(steps))).round().astype(int)}
    cut = {step: extra(lambda path=grids[step]: _cut(path, config), None) for step in sorted(chosen)}
    shown = {step: images for step, images in cut.items() if images is not None}
    newest = shown[max(shown)] if shown else None
    reals = extra(lambda: _cut(folder.reals, config)[:20], None) if folder.reals.exists() else None
    pairs = extra(lambda: _cut(folder.pairs, config), None) if folder.pairs.exists() else None
    machine = extra(lambda: _machine(folder.timings()), {})
    last = max([*(line["step"] for line in lines), *steps], default=0)
    known = at_best(lines, evaluations)
    if damaged is not None:
        damaged += named
    return Run(
        name=printable(folder.path.resolve().name),
        summary=_summary(config, count, last),
        verdict=[
            *_verdict(folder, config, lines, count, known),
            *([("note", "Note", classes.finding)] if classes else []),
            *(("note", "Left out", text) for text in named),
        ],
        numbers=_numbers(known),
        source=_source(known, lines),
        lines=lines,
        grids={step: images[: 64 if config.image_size <= 64 else 16] for step, images in shown.items()},
        reals=reals,
        fakes=None if newest is None or reals is None else newest[: len(reals)],
        pairs=None if pairs is None else pairs[: len(pairs) // 2 * 2].reshape(-1, 2, *pairs.shape[1:])[:16],
        walk=None if params is None else _between(params, config.seed),
        missing={
            "pairs": "They are added by python -m dcgan_jax.evaluate and then python -m dcgan_jax.report.",
            "walk": why,
        },
        figures=_figures(evaluations),
        classes=_classes(classes),
        settings=_shown(config),
        machine=machine,
    )


def _summary(config, count, last):
    images = f"{count:,} images" if count else "images"
    size = f"{config.image_size}×{config.image_size}×{config.channels}"
    return f"{images} of {size} from {_shown(config)['data']}; {last:,} of {config.steps:,} steps"


def _shown(config: Config) -> dict[str, Any]:
    """The settings as a page that is passed on should name them: no path of this machine."""
    return {**dataclasses.asdict(config), "data": printable(Path(config.data).name or config.data)}


def _cut(path: Path, config: Config) -> np.ndarray:
    with reading(path):
        images = read_tiles(path, config.image_size, config.channels)
    return images.reshape(-1, *images.shape[2:])


def _between(params: GeneratorParams, seed: int) -> np.ndarray:
    rows, columns = _WALK
    ends = params.latent.draw(jax.random.fold_in(random_key(seed), 1), 2 * rows)
    z = slerp(ends[:rows], ends[rows:], jnp.linspace(0.0, 1.0, columns)).swapaxes(0, 1)
    images = to_uint8(decode(params, z.reshape(rows * columns, -1)))
    return images.reshape(rows, columns, *images.shape[1:])


def _verdict(folder, config, lines, images, known) -> list[tuple[str, str, str]]:
    """How far the samples are, what is wrong, and what to do next: kinds, labels and sentences."""
    said: list[tuple[str, str, str]] = []
    if known:
        said.append(judge(known[0]))
        said += [("note", "Unusual", f"{text}.") for text in unusual(known[0])]
    else:
        where = f"python -m dcgan_jax.evaluate --workdir {shell_word(folder.path.name)}"
        said.append(("note", "Not measured", f"How good the images are has not been measured yet: {where} does."))
    found = findings(lines, images=images)
    said += [("alarm" if one.alarm else "note", f"Step {one.step:,}", f"{one.text}.") for one in found]
    if text := advice(lines, config, images=images, known=known):
        said.append(("note", "What to do next", f"{text}."))
    return sorted(said, key=lambda one: one[0] != "alarm")


def _numbers(known) -> dict[str, tuple[str, str]]:
    """The figures that the verdict is from, by their full names, beside what real images get."""
    if not known:
        return {}
    numbers = {"best step": (f"{known[0].step:,}", "by coverage")}
    for name in ("coverage", "recall", "precision", "fd", "kid"):
        if name in known[0].figures:
            value, floor = known[0].figures[name]
            numbers[labels(known[0].features)[name][0]] = (f"{value:.3g}", f"real images {floor:.3g}")
    return numbers


def _source(known, lines) -> str:
    """Where the figures of the page come from, as those of curves and tables differ."""
    if not known:
        return ""
    text = f"These figures: {known[0].source()}."
    if known[0].n and any("kid" in line for line in lines):
        text += " The curves below show CIFAR features of fewer samples, compared with other images: they are rougher."
    return text


def _figures(evaluations: list[Evaluation]) -> list[tuple[str, list[dict[str, Any]]]]:
    """A table for each set of features, with a column for each step, the newest steps only."""
    tables = []
    for features in dict.fromkeys(one.features for one in evaluations):
        some = [one for one in evaluations if one.features == features][-_COLUMNS:]
        rows = []
        for name in dict.fromkeys(name for one in some for name in one.figures):
            label, better = labels(features)[name]
            here = [one for one in some if name in one.figures]
            values = {_column(one): _with_range(one.figures[name]) for one in here}
            last = here[-1].figures[name]
            rows.append({"": label, **values, "floor": last.floor, "n": last.n, "better": better})
        if fids := {_column(one): f"{one.fid.value:.4g} ({one.fid.n:,} samples)" for one in some if one.fid}:
            rows.append({"": "FID, against all images", **fids, "better": "lower"})
        tables.append((f"By evaluate, in {features} features: mean of three sets of samples (lowest to highest)", rows))
    return tables


def _column(evaluation):
    return f"step {evaluation.step:,}" + (", not averaged" if evaluation.ema is False else "")


def _with_range(figure):
    return f"{figure.value:.3g} ({figure.low:.3g}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{figure.high:.3g})"


def _classes(found: Classes | None) -> list[tuple[str, list[dict[str, Any]]]]:
    """A row for each class, its numbers beside their floors."""
    if found is None:
        return []
    names = {"kid": "KID", "fd": "FD"}
    rows = [
        {"value / floor": one.name, **{names.get(name, name): _beside_floor(of) for name, of in one.figures.items()}}
        for one in found.classes
    ]
    return [(f"Step {found.step:,}, in {found.features} features", rows)]


def _beside_floor(figure):
    return f"{figure.value:.3g} / {figure.floor:.2g}"


def _machine(timings) -> dict[str, str]:
    if not timings:
        return {}
    last = timings[-1]
    seconds = sum(one.get("seconds", 0) for one in timings)
    speed = last.get("images_per_second")
    shown = {
        "time": _duration(seconds) + (f" in {len(timings)} starts" if len(timings) > 1 else ""),
        "images per second": f"{speed:,.1f}" if speed else "",
        "device": f"{last.get('devices', 1)} × {last.get('device', '')}",
        "processes": str(last.get("processes", 1)),
        "processor": f"{last.get('processor', '')}, {last.get('cores', '')} cores",
        **{name: str(number) for name, number in last.get("versions", {}).items()},
    }
    return {name: value for name, value in shown.items() if value}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
