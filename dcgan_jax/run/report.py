"""What a run folder holds, gathered for its report."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import decode, slerp
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.run.doctor import best, findings
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import reading, write_text, writing
from dcgan_jax.views.grid import tiles
from dcgan_jax.views.report import Run, page

_GRIDS = 32
_RANGE = ("value", "low", "high")
_WALK = (6, 8)  # rows and columns: fewer than the 64 images that are decoded together


def write_report(folder: RunFolder, params: GeneratorParams | None) -> None:
    """Write ``report.html`` of a run.

    Args:
      params: the generator, for the images between two samples.

    Raises:
      InputError: something in the folder is damaged, or it cannot be written.
    """
    write_page(folder.report, [describe(folder, params)])


def write_page(path: Path, runs: list[Run]) -> None:
    """Write the report of one run or several.

    Raises:
      InputError: it cannot be written.
    """
    with writing(path):
        write_text(path, page(runs, _shown(Config())))


def describe(folder: RunFolder, params: GeneratorParams | None, *, why: str = "") -> Run:
    """Gather what a report shows of a run. A run of an older version simply has less.

    Args:
      params: the generator; without it there are no images between two samples, and ``why`` says the reason.

    Raises:
      InputError: it is no run, or something in it is damaged.
    """
    config, lines, about = folder.config(), folder.read_metrics(), folder.images_then()
    evaluated, (classes, finding) = _checkpoints(folder), _classes(folder)
    grids = folder.grids()
    steps = list(grids)
    chosen = {steps[i] for i in np.linspace(0, len(steps) - 1, min(_GRIDS, len(steps))).round().astype(int)}
    shown = {step: _cut(grids[step], config) for step in sorted(chosen)}
    newest = shown[steps[-1]] if steps else None
    reals = _cut(folder.reals, config)[:20] if folder.reals.exists() else None
    pairs = _cut(folder.pairs, config) if folder.pairs.exists() else None
    last = max([*(line["step"] for line in lines), *steps], default=0)
    images = f"{about['count']:,} images" if about else "images"
    size = f"{config.image_size}×{config.image_size}×{config.channels}"
    return Run(
        name=folder.path.resolve().name,
        summary=f"{images} of {size} from {_shown(config)['data']}; {last:,} of {config.steps:,} steps",
        verdict=[
            *_verdict(folder, lines, evaluated, about["count"] if about else 0),
            *([("note", finding)] if finding else []),
        ],
        numbers=_numbers(lines, evaluated),
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
        figures=_figures(evaluated),
        classes=classes,
        settings=_shown(config),
        machine=_machine(folder.timings()),
    )


def _shown(config: Config) -> dict[str, Any]:
    """The settings as a page that is passed on should name them: no path of this machine."""
    return {**dataclasses.asdict(config), "data": Path(config.data).name or config.data}


def _cut(path: Path, config: Config) -> np.ndarray:
    with reading(path), Image.open(path) as sheet:
        images = tiles(np.asarray(sheet), config.image_size)
    return images.reshape(-1, *images.shape[2:])


def _between(params: GeneratorParams, seed: int) -> np.ndarray:
    rows, columns = _WALK
    ends = params.latent.draw(jax.random.fold_in(jax.random.key(seed), 1), 2 * rows)
    z = slerp(ends[:rows], ends[rows:], jnp.linspace(0.0, 1.0, columns)).swapaxes(0, 1)
    images = to_uint8(decode(params, z.reshape(rows * columns, -1)))
    return images.reshape(rows, columns, *images.shape[1:])


def _checkpoints(folder: RunFolder) -> list[dict]:
    """The checkpoints that ``evaluate`` looked at, oldest first."""
    found = folder.read_json(folder.evaluation) or []
    try:
        return sorted(({**one, "metrics": dict(one["metrics"])} for one in found), key=lambda one: int(one["step"]))
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"{folder.evaluation} is damaged ({first_line(error)}): delete it") from None


def _measured(lines, evaluated) -> tuple[int, dict[str, tuple[float, float]]]:
    """The best step, and each metric there with its floor: by the run's log, else by ``evaluate``."""
    floors = [{f"{name}_floor": of["floor"] for name, of in one["metrics"].items()} for one in evaluated]
    values = [{name: of["value"] for name, of in one["metrics"].items()} for one in evaluated]
    measured = [{"step": one["step"], **a, **b} for one, a, b in zip(evaluated, values, floors, strict=True)]
    for found in (lines, measured):
        if found := [line for line in found if "kid" in line]:
            top = best(found)
            names = [name for name in top if f"{name}_floor" in top]
            return int(top["step"]), {name: (top[name], top[f"{name}_floor"]) for name in names}
    return 0, {}


def _verdict(folder, lines, evaluated, images) -> list[tuple[str, str]]:
    found = sorted(findings(lines, images=images), key=lambda finding: not finding.alarm)
    verdict = [("alarm" if one.alarm else "note", f"Step {one.step:,}: {one.text}.") for one in found]
    if not any(one.alarm for one in found):
        good = "No alarm." if found else "Nothing in the metrics says that training went wrong."
        verdict.insert(0, ("good", good))
    if not _measured(lines, evaluated)[1]:
        where = f"python -m dcgan_jax.evaluate --workdir {folder.path.name}"
        verdict.append(("note", f"How good the images are has not been measured yet: {where} does."))
    return verdict


def _numbers(lines, evaluated) -> dict[str, tuple[str, str]]:
    step, measured = _measured(lines, evaluated)
    names = {"kid": "KID", "fd": "FD", "coverage": "coverage", "precision": "precision", "recall": "recall"}
    numbers = {"best step": (f"{step:,}", "by coverage")} if measured else {}
    for name, label in names.items():
        if name in measured:
            value, floor = measured[name]
            numbers[label] = (f"{value:.3g}", f"floor {floor:.3g}")
    return numbers


def _figures(evaluated) -> list[dict[str, Any]]:
    from dcgan_jax.metrics.evaluate import LABELS

    names = dict.fromkeys(name for one in evaluated for name in one["metrics"])
    rows = []
    for name in names:
        label, better = LABELS.get(name, (name, ""))
        here = {one["step"]: one["metrics"][name] for one in evaluated if name in one["metrics"]}
        last = {head: of[head] for of in here.values() for head in ("floor", "n") if head in of}
        values = {f"step {step}": _with_range(of) for step, of in here.items()}
        rows.append({"": label, **values, **last, "better": better})
    return rows


def _with_range(of):
    shown = [f"{of[name]:.3g}" if isinstance(of.get(name), float) else str(of.get(name, "")) for name in _RANGE]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if of.keys() >= set(_RANGE) else shown[0]


def _classes(folder: RunFolder) -> tuple[list[dict[str, Any]], str]:
    """A row for each class, its numbers beside their floors, and the sentence about them."""
    found = folder.read_json(folder.classes) or {}
    try:
        rows = [{name: _beside_floor(of) for name, of in one.items()} for one in found.get("classes", [])]
        rows = [{"value / floor": row.pop("name", ""), **row} for row in rows]
        return rows, str(found.get("finding", ""))
    except (AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{folder.classes} is damaged ({first_line(error)}): delete it") from None


def _beside_floor(of):
    return f"{of['value']:.3g} / {of['floor']:.2g}" if isinstance(of, dict) else of


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
