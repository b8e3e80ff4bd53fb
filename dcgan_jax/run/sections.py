"""The words and numbers of a report, made of what the run folder holds."""

import dataclasses
from pathlib import Path
from typing import Any

from dcgan_jax.config import Config
from dcgan_jax.metrics.evaluate import labels
from dcgan_jax.run.classes import Classes
from dcgan_jax.run.doctor import findings
from dcgan_jax.run.evaluation import Evaluation
from dcgan_jax.run.init import name_of
from dcgan_jax.run.verdict import Measured, advice, judge, unusual
from dcgan_jax.system.errors import printable

Lines = list[dict[str, Any]]

_COLUMNS = 6  # checkpoints in a table


def summary(config: Config, count: int, last: int) -> str:
    """A line on the images, and how far the run is."""
    images = f"{count:,} images" if count else "images"
    size = "×".join(map(str, config.image_shape))
    return f"{images} of {size} from {settings(config)['data']}; {last:,} of {config.steps:,} steps"


def settings(config: Config) -> dict[str, Any]:
    """The settings as a page that is passed on should name them: no path of this machine."""
    data = printable(Path(config.data).name or config.data)
    return {**dataclasses.asdict(config), "data": data, "init": name_of(config.init)}


def verdict(config: Config, lines: Lines, images: int, measured: list[Measured]) -> list[tuple[str, str, str]]:
    """How far the samples are, what is wrong, and what to do next: kinds, labels and sentences."""
    said: list[tuple[str, str, str]] = []
    if measured:
        said.append(judge(measured[0]))
        said += [("note", "Unusual", f"{text}.") for text in unusual(measured[0])]
    else:
        how = "python -m dcgan_jax.evaluate --workdir, with the folder of this run, does"  # no path: it is passed on
        said.append(("note", "Not measured", f"How good the images are has not been measured yet: {how}."))
    for finding in findings(lines, images=images):
        said.append(("alarm" if finding.alarm else "note", f"Step {finding.step:,}", f"{finding.text}."))
    if text := advice(lines, config, images=images, measured=measured):
        said.append(("note", "What to do next", f"{text}."))
    return sorted(said, key=lambda one: one[0] != "alarm")


def numbers(measured: list[Measured]) -> dict[str, tuple[str, str]]:
    """The figures that the verdict is from, by their full names, beside what real images get."""
    if not measured:
        return {}
    rows = {"best step": (f"{measured[0].step:,}", "by coverage")}
    for name in ("coverage", "recall", "precision", "fd", "kid"):
        if name in measured[0].figures:
            value, floor = measured[0].figures[name]
            rows[labels(measured[0].features)[name][0]] = (f"{value:.3g}", f"real images {floor:.3g}")
    return rows


def source(measured: list[Measured], lines: Lines) -> str:
    """Where the figures of the page come from, as those of curves and tables differ."""
    if not measured:
        return ""
    text = f"These figures: {measured[0].source()}."
    if measured[0].n and any("kid" in line for line in lines):
        text += " The curves below show CIFAR features of fewer samples, compared with other images: they are rougher."
    return text


def figures(evaluations: list[Evaluation]) -> list[tuple[str, list[dict[str, Any]]]]:
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


def classes(result: Classes | None) -> list[tuple[str, list[dict[str, Any]]]]:
    """A row for each class, its numbers beside their floors."""
    if result is None:
        return []
    names = {"kid": "KID", "fd": "FD"}
    rows = [
        {
            "value / floor": one.name,
            **{names.get(name, name): _beside_floor(figure) for name, figure in one.figures.items()},
        }
        for one in result.classes
    ]
    line = f"Step {result.step:,}, in {result.features} features"
    if result.accuracy and result.learned:
        line += f"; of the samples {_share(result.accuracy)} are named as they were asked for; of the real images "
        line += f"{_share(result.learned)} are named rightly by a classifier that learned from samples"
    return [(line, rows)]


def _share(figure):
    ends = f"{100 * figure.low:.3g} to {100 * figure.high:.3g}"
    return f"{100 * figure.value:.3g} % ({ends}; real images {100 * figure.floor:.3g})"


def _beside_floor(figure):
    return f"{figure.value:.3g} / {figure.floor:.2g}"


def machine(timings: list[dict[str, Any]]) -> dict[str, str]:
    """Hardware, versions and time, by name."""
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
