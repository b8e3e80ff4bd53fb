"""A run, or two beside each other, as one HTML page that loads nothing."""

import base64
import importlib.resources
import io
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.views.grid import grid, picture

_POINTS = 400  # of a curve at most
_FILM = 2_000_000  # bytes of all sample grids of a page; as text they take a third more
_SHEET = 700  # pixels: the width of the widest picture

NAMES = {
    "loss_D": "D",
    "loss_G": "G",
    "D_x": "real images",
    "D_G_z1": "generated, before G's step",
    "D_G_z2": "generated, after D's step",
    "grad_norm_D": "D",
    "grad_norm_G": "G",
    "kid": "KID",
    "fd": "FD",
}
_PLOTS = {
    "Losses": ("loss_D", "loss_G"),
    "Probability of being real, as D says": ("D_x", "D_G_z1", "D_G_z2"),
    "Gradient norms (logarithmic)": ("grad_norm_D", "grad_norm_G"),
}
_LOGARITHMIC = ("kid", "fd", "grad_norm_D")
_STRETCH = 1e4  # what is smaller than the largest value by more than this lies on the lower edge of a logarithmic plot


class Run(NamedTuple):
    """What a page shows of one run. Images are uint8 (N, H, W, 1 or 3); what is empty is left out.

    Attributes:
      name: a short title.
      summary: a line below it.
      verdict: sentences, each with its kind: ``good``, ``alarm`` or ``note``.
      numbers: the few that matter most, by name, with what to compare them with.
      lines: the metrics, oldest first, each with its ``step``.
      grids: samples after some steps, from the same noise.
      reals, fakes: as many of the data set and of the run.
      pairs: (N, 2, H, W, C), samples, each beside the training image most like it.
      walk: (rows, columns, H, W, C); each row goes from one sample to another.
      missing: why pairs or walk are not there.
      figures, classes: tables, whose rows map the heads of columns to text or numbers.
      settings: each value by its name.
      machine: hardware, versions and time, by name.
    """

    name: str
    summary: str
    verdict: Sequence[tuple[str, str]]
    numbers: Mapping[str, tuple[str, str]]
    lines: Sequence[Mapping[str, float]]
    grids: Mapping[int, np.ndarray]
    reals: np.ndarray | None
    fakes: np.ndarray | None
    pairs: np.ndarray | None
    walk: np.ndarray | None
    missing: Mapping[str, str]
    figures: Sequence[Mapping[str, Any]]
    classes: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    machine: Mapping[str, str]


def page(runs: Sequence[Run], defaults: Mapping[str, Any]) -> str:
    """Make the page of one run or several.

    Args:
      runs: the plots of all have the same axes.
      defaults: the settings that need not be shown.

    Returns:
      HTML with its style, its script and its pictures in it: less than 5 MB.
    """
    title = " and ".join(run.name for run in runs)
    sections = [
        ("Verdict", [_verdict(run) for run in runs]),
        ("Curves", [_plots(run, runs) for run in runs]),
        ("Samples through training, from the same noise", _films(runs)),
        ("Real images beside samples", [_beside(run) for run in runs]),
        ("Samples and the training images most like them", [_pairs(run) for run in runs]),
        ("Between two samples", [_walk(run) for run in runs]),
        ("Figures", [_table(run.figures) for run in runs]),
        ("Classes", [_table(run.classes) for run in runs]),
    ]
    names = [run.name if len(runs) > 1 else "" for run in runs]
    body = [f"<h1>{escape(title)}</h1>", *(f'<p class="soft">{escape(run.summary)}</p>' for run in runs)]
    body += [_section(head, names, parts) for head, parts in sections]
    body.append(_section("Settings that differ from the defaults", [""], [_settings(runs, defaults)]))
    body.append(_section("Machine and time", names, [_machine(run) for run in runs]))
    template = importlib.resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    return template.replace("<!-- title -->", escape(title)).replace("<!-- body -->", "\n".join(filter(None, body)))


def _section(head, names, parts) -> str:
    if not any(parts):
        return ""
    cells = "".join(
        f"<div>{f'<h3>{escape(name)}</h3>' if name else ''}{part or '<p class=soft>nothing to show</p>'}</div>"
        for name, part in zip(names, parts)
    )
    return f'<section><h2>{escape(head)}</h2><div class="runs">{cells}</div></section>'


def _verdict(run) -> str:
    label = {"good": "Good", "alarm": "Alarm", "note": "Note"}
    items = "".join(f'<li class="{kind}"><b>{label[kind]}</b> {escape(text)}</li>' for kind, text in run.verdict)
    tiles = "".join(
        f'<div>{escape(name)}<b>{escape(value)}</b><span class="soft">{escape(other)}</span></div>'
        for name, (value, other) in run.numbers.items()
    )
    return f'<ul class="verdict">{items}</ul>' + (f'<div class="tiles">{tiles}</div>' if tiles else "")


def _plots(run, runs) -> str:
    seen = list(dict.fromkeys(name for other in runs for line in other.lines for name in line))
    plots = {head: [name for name in names if name in seen] for head, names in _PLOTS.items()}
    for name in seen:  # a metric that has a floor has a plot of its own
        if f"{name}_floor" in seen:
            note = " (logarithmic)" if name in _LOGARITHMIC else ""
            plots[NAMES.get(name, name) + note] = [name, f"{name}_floor"]
    html = "".join(_plot(head, names, run, runs) for head, names in plots.items() if names)
    return f'<div class="plots">{html}</div>' if html else ""


def _plot(head, names, run, runs) -> str:
    curves = [_curve(other.lines, names) for other in runs]
    everything = np.concatenate([values.ravel() for _, values in curves])
    everything = everything[np.isfinite(everything)]
    steps, values = curves[[other is run for other in runs].index(True)]
    if not len(steps):
        return ""
    low, high = min(steps[0] for steps, _ in curves if len(steps)), max(steps[-1] for steps, _ in curves if len(steps))
    height, marks = _scale(everything, logarithmic=names[0] in _LOGARITHMIC, probability=names[0].startswith("D_"))
    across = (steps - low) / max(high - low, 1)
    paths, keys, series = [], [], []
    for i, (name, column) in enumerate(zip(names, values.T)):
        floor = name.endswith("_floor")
        colour = "var(--floor)" if floor else f"var(--c{i % 3})"
        dashed = " dashed" if floor or i == 1 else ""
        there = np.isfinite(column)
        points = zip(1000 * across[there], 1000 * (1 - height(column[there])))
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        paths.append(f'<path class="{dashed}" style="stroke:{colour}" d="M{path}"/>' if path else "")
        label = "real images (floor)" if floor else NAMES.get(name, name)
        keys.append(f'<span class="key{dashed}" style="--colour:{colour}">{escape(label)}</span>')
        series.append((label, [float(f"{x:.4g}") if math.isfinite(x) else None for x in column]))
    rules = "".join(
        f'<path class="ruled" d="M0 {y:.1f}H1000"/>' for y in (1000 * (1 - height(np.array(marks)))).tolist()
    )
    labels = "".join(
        f'<span class="y" style="bottom:{100 * y:.1f}%">{mark:g}</span>'
        for mark, y in zip(marks, height(np.array(marks)))
    )
    for mark in _ticks(low, high, 4):
        if mark == int(mark):
            labels += (
                f'<span class="x" style="left:{100 * (mark - low) / max(high - low, 1):.1f}%">{int(mark):,}</span>'
            )
    data = {"steps": steps.tolist(), "low": float(low), "high": float(high), "series": series}
    last = ", ".join(f"{label} {known[-1]:g}" for label, known in _known(series))
    return (
        f'<figure class="plot" tabindex="0" role="img" data-points="{escape(json.dumps(data))}" aria-label="'
        f'{escape(f"{head}, a curve up to step {int(steps[-1])}; at its end: {last}. Arrow keys read it.")}">'
        f'<figcaption><b>{escape(head)}</b>{"".join(keys)}</figcaption><div class="area">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{rules}{"".join(paths)}</svg>'
        f'{labels}<i class="cursor" hidden></i><output class="tip" hidden></output></div></figure>'
    )


def _known(series):
    for label, values in series:
        if known := [value for value in values if value is not None]:
            yield label, known


def _curve(lines, names):
    """Steps (N,) and values (N, names) of the lines that have any of them; each point the mean of a few lines."""
    lines = [line for line in lines if any(name in line for name in names)]
    steps = np.array([line["step"] for line in lines], float)
    values = np.array([[line.get(name, math.nan) for name in names] for line in lines]).reshape(-1, len(names))
    if names[-1].endswith("_floor"):  # few, and each counts
        return steps, values
    each = -(-len(lines) // _POINTS) or 1
    ends = range(0, len(lines), each)
    means = [values[i : i + each].mean(0) for i in ends]
    return np.array([steps[i : i + each][-1] for i in ends]), np.array(means).reshape(-1, len(names))


def _scale(values, *, logarithmic, probability):
    """A function from values to heights in [0, 1], and the values to mark."""
    if logarithmic and (values > 0).any():
        top = math.log10(values.max())
        bottom = max(math.log10(values[values > 0].min()), top - math.log10(_STRETCH))
        bottom, top = math.floor(bottom), max(math.ceil(top), math.floor(bottom) + 1)
        marks = [10.0**power for power in range(bottom, top + 1)]
        return lambda x: (np.log10(np.maximum(x, marks[0])) - bottom) / (top - bottom), marks
    low, high = (0.0, 1.0) if probability else (min(0.0, *values, 0), max(values, default=1.0))
    marks = _ticks(low, high, 4)
    low, high = min(low, marks[0]), max(high, marks[-1])
    return lambda x: (np.asarray(x) - low) / ((high - low) or 1), marks


def _ticks(low, high, about):
    span = (high - low) or 1
    power = 10 ** math.floor(math.log10(span / about))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= about + 0.5)
    return [round(step * i, 10) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)] or [
        low
    ]


def _webp(image, quality=80) -> bytes:
    shown = picture(image)
    if shown.width > _SHEET:
        shown = shown.resize((_SHEET, max(1, round(shown.height * _SHEET / shown.width))))
    file = io.BytesIO()
    shown.save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()


def _img(webp: bytes, alt: str, attributes="") -> str:
    data = base64.b64encode(webp).decode()
    return f'<img {attributes} alt="{escape(alt)}" src="data:image/webp;base64,{data}">'


def _small(images) -> str:
    return "small" if images.shape[-2] <= 32 else ""


def _films(runs) -> list[str]:
    films = [{step: _webp(_square(images)) for step, images in run.grids.items()} for run in runs]
    while sum(len(webp) for film in films for webp in film.values()) > _FILM:
        films = [{step: film[step] for step in [*list(film)[:-1:2], *list(film)[-1:]]} for film in films]
    return [_film(film, run) for film, run in zip(films, runs)]


def _square(images):
    return grid(images, columns=math.isqrt(len(images) - 1) + 1)


def _film(film, run) -> str:
    if not film:
        return ""
    *_, last = film
    count = len(run.grids[last])
    pictures = "".join(
        _img(
            webp,
            f"{count} samples after step {step:,}",
            f'class="sheet" data-step="{step}"{"" if step == last else " hidden"}',
        )
        for step, webp in film.items()
    )
    return (
        f'<div class="film {_small(run.grids[last])}"><div class="slider"><output>step {last:,}</output>'
        f'<input type="range" min="0" max="{len(film) - 1}" value="{len(film) - 1}" aria-label="step of the samples" '
        f'aria-valuetext="step {last:,}"><button type="button">Play</button></div>{pictures}</div>'
    )


def _beside(run) -> str:
    if run.reals is None or run.fakes is None:
        return ""
    figures = "".join(
        f"<figure>{_img(_webp(grid(images, columns=5), 90), alt)}<figcaption>{alt}</figcaption></figure>"
        for images, alt in ((run.reals, "real images"), (run.fakes, "samples at the end"))
    )
    return f'<div class="pair {_small(run.reals)}">{figures}</div>'


def _pairs(run) -> str:
    if run.pairs is None:
        return _missing(run, "pairs")
    sheet = grid(run.pairs.reshape(-1, *run.pairs.shape[2:]), columns=4)
    alt = f"{len(run.pairs)} pairs: a sample, and right of it the training image most like it"
    return (
        f'<div class="{_small(run.pairs)}">{_img(_webp(sheet, 90), alt, "class=sheet")}</div>'
        '<p class="soft">In columns 1 and 3 samples, right of each the training image most like it. Pairs that are '
        "the same say that the generator copies.</p>"
    )


def _walk(run) -> str:
    if run.walk is None:
        return _missing(run, "walk")
    rows, columns = run.walk.shape[:2]
    sheet = _webp(grid(run.walk.reshape(-1, *run.walk.shape[2:]), columns), 90)
    alt = f"{rows} rows of {columns} images that change from one sample to another in small steps"
    return (
        f'<div class="{_small(run.walk)}">{_img(sheet, alt, "class=sheet")}</div><p class="soft">Each row goes from one '
        "sample to another. Changes that are even, with creatures of their own on the way, are a good sign.</p>"
    )


def _missing(run, what) -> str:
    return f'<p class="soft">{escape(run.missing[what])}</p>' if what in run.missing else ""


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    numeric = {head for head in heads if all(isinstance(row.get(head, 0), int | float) for row in rows)}

    def cell(tag, head, value):
        kind = ' class="number"' if head in numeric else ""
        return f"<{tag}{kind}>{escape(_text(value))}</{tag}>"

    top = "".join(cell("th", head, head) for head in heads)
    body = "".join(f"<tr>{''.join(cell('td', head, row.get(head, '')) for head in heads)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _settings(runs, defaults) -> str:
    differing = [name for name in runs[0].settings if any(run.settings.get(name) != defaults.get(name) for run in runs)]
    heads = [run.name for run in runs] if len(runs) > 1 else ["this run"]
    heads = heads if len(set(heads)) == len(heads) else [f"{head} ({i})" for i, head in enumerate(heads, 1)]
    rows = [
        {
            "setting": name,
            **{head: str(run.settings.get(name, "")) for head, run in zip(heads, runs)},
            "default": str(defaults.get(name, "")),
        }
        for name in differing
    ]
    return _table(rows) or "<p>None: all settings are the defaults.</p>"


def _machine(run) -> str:
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in run.machine.items())
    return f'<div class="scroll"><table>{rows}</table></div>' if rows else ""
