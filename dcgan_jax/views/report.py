"""A run, or two beside each other, as one HTML page that loads nothing."""

import base64
import importlib.resources
import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from dcgan_jax.config import has_alpha
from dcgan_jax.views.grid import grid, picture
from dcgan_jax.views.plots import plots
from dcgan_jax.views.template import filled

_FILM = 2_000_000  # bytes of all sample grids of a page; as text they take a third more
_LEVELS = ("far", "on the way", "close", "good")  # kinds of a verdict
_SHEET = 700  # pixels: the width of the widest picture


class Run(NamedTuple):
    """What a page shows of one run. Images are uint8 (N, H, W, 1 to 4); what is empty is left out.

    Attributes:
      name: a short title.
      summary: a line below it.
      verdict: sentences, each with its kind and a few words before it. Kinds: ``far``, ``on the way``, ``close`` and
        ``good`` say how good the images are, ``alarm`` and ``note`` what else there is to know.
      numbers: the few that matter most, by name, with what to compare them with.
      source: a sentence about where these numbers come from.
      lines: the metrics, oldest first, each with its ``step``.
      grids: samples after some steps, from the same noise.
      reals, fakes: as many of the data set and of the run.
      pairs: (N, 2, H, W, C), samples, each beside the training image most like it.
      best: as many images that were chosen and that were not, of ``drawn`` for each 64 that were chosen.
      walk: (rows, columns, H, W, C); each row goes from one sample to another.
      missing: why pairs or walk are not there.
      figures, classes: tables, each with a line above it; their rows map the heads of columns to text or numbers.
      settings: each value by its name.
      machine: hardware, versions and time, by name.
    """

    name: str
    summary: str
    verdict: Sequence[tuple[str, str, str]]
    numbers: Mapping[str, tuple[str, str]]
    source: str
    lines: Sequence[Mapping[str, float]]
    grids: Mapping[int, np.ndarray]
    reals: np.ndarray | None
    fakes: np.ndarray | None
    pairs: np.ndarray | None
    best: Sequence[np.ndarray] | None
    drawn: int
    walk: np.ndarray | None
    missing: Mapping[str, str]
    figures: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
    classes: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
    settings: Mapping[str, Any]
    machine: Mapping[str, str]


def page(runs: Sequence[Run], defaults: Mapping[str, Any], *, comparison: str = "") -> str:
    """Make the page of one run, or of several with their curves over each other.

    Args:
      runs: with names that differ.
      defaults: the settings that need not be shown.
      comparison: a sentence that says which run is better.

    Returns:
      HTML with its style, its script and its pictures in it: less than 5 MB. Pictures come before curves.
    """
    title = " and ".join(run.name for run in runs)
    names = [run.name if len(runs) > 1 else "" for run in runs]
    pictures = [
        _section("Samples through training, from the same noise", names, _films(runs)),
        _section("Real images beside samples", names, [_beside(run) for run in runs]),
        _section("Verdict", names, [_verdict(run) for run in runs]),
        _section("Chosen samples beside random ones", names, [_best(run) for run in runs]),
        _section("Between two samples", names, [_walk(run) for run in runs]),
        _section("Samples and the training images most like them", names, [_pairs(run) for run in runs]),
    ]
    numbers = [
        _section("Curves", [""], [plots([run.lines for run in runs], names)]),
        _section("Figures", names, [_tables(run.figures) for run in runs]),
        _section("Classes", names, [_tables(run.classes) for run in runs]),
    ]
    facts = [
        _section("Settings that differ from the defaults", [""], [_settings(runs, defaults)]),
        _section("Machine and time", names, [_machine(run) for run in runs]),
    ]
    beside = "<div>" if len(runs) > 1 else '<div class="columns">'
    body = [*_head(title, runs, comparison), beside, *pictures, "</div>", *numbers, beside, *facts, "</div>"]
    page = importlib.resources.files("dcgan_jax.views").joinpath("report.html").read_text(encoding="utf-8")
    return filled(page, {"title": escape(title), "body": "\n".join(filter(None, body))})


def _head(title: str, runs: Sequence[Run], comparison: str) -> list[str]:
    """Title, a line on each run, and how good it is, or which of them is better, in one line."""
    summaries = [f"{run.name}: {run.summary}" if len(runs) > 1 else run.summary for run in runs]
    lines = [f"<h1>{escape(title)}</h1>", *(f'<p class="soft">{escape(line)}</p>' for line in summaries)]
    levels = [(kind, label) for kind, label, _ in runs[0].verdict if kind in _LEVELS] if len(runs) == 1 else []
    if any(_has_alpha(run) for run in runs):
        grounds = "".join(f"<option>{name}</option>" for name in ("checked", "white", "black"))
        lines.append(
            f'<p class="soft"><label>Ground of transparent pictures <select id="ground">{grounds}</select></label></p>'
        )
    for kind, text in [*levels, *([("close", comparison)] if comparison else [])]:
        lines.append(f'<p class="headline {kind.replace(" ", "-")}">{escape(text)}</p>')
    return lines


def _section(head, names, parts) -> str:
    if not any(parts):
        return ""
    cells = "".join(
        f"<div>{f'<h3>{escape(name)}</h3>' if name else ''}{part or '<p class=soft>nothing to show</p>'}</div>"
        for name, part in zip(names, parts)
    )
    return f'<div class="card"><section><h2>{escape(head)}</h2><div class="runs">{cells}</div></section></div>'


def _with_code(text: str) -> str:
    """A sentence with its commands and flags as code, within which no line is broken."""
    return re.sub(r"python -m dcgan_jax\.\w+|--[a-z][a-z-]*", r"<code>\g<0></code>", escape(text))


def _verdict(run) -> str:
    items = "".join(
        f'<li class="{kind.replace(" ", "-")}"><b>{escape(label)}:</b> {_with_code(text)}</li>'
        for kind, label, text in run.verdict
    )
    tiles = "".join(
        f'<div>{escape(name)}<b>{escape(value)}</b><span class="soft">{escape(other)}</span></div>'
        for name, (value, other) in run.numbers.items()
    )
    source = f'<p class="soft">{escape(run.source)}</p>' if run.source else ""
    return f'<ul class="verdict">{items}</ul>' + (f'<div class="tiles">{tiles}</div>{source}' if tiles else "")


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


def _kind(images) -> str:
    """Classes of the element around pictures of these images."""
    return " ".join(["small"] * (images.shape[-2] <= 32) + ["alpha"] * has_alpha(images.shape[-1]))


def _has_alpha(run) -> bool:
    images = [*run.grids.values(), run.reals, run.pairs, run.walk]
    return any(some is not None and has_alpha(some.shape[-1]) for some in images)


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
        f'<div class="film {_kind(run.grids[last])}"><div class="slider"><output>step {last:,}</output>'
        f'<input type="range" min="0" max="{len(film) - 1}" value="{len(film) - 1}" aria-label="step of the samples" '
        f'aria-valuetext="step {last:,}"><button type="button">Play</button></div>{pictures}</div>'
    )


def _beside(run) -> str:
    if run.reals is None or run.fakes is None:
        return ""
    figures = "".join(
        f"<figure>{_img(_webp(grid(images, columns=5), 90), alt)}<figcaption>{alt}</figcaption></figure>"
        for images, alt in ((run.reals, "real images"), (run.fakes, f"samples of step {max(run.grids):,}"))
    )
    return f'<div class="pair {_kind(run.reals)}">{figures}</div>'


def _best(run) -> str:
    if run.best is None:
        return ""
    figures = []
    for images, alt in zip(run.best, (f"the best 64 of {run.drawn}", "64 at random"), strict=True):
        alt = alt if len(images) == 64 else f"{len(images)} of {alt}"
        figures.append(f"<figure>{_img(_webp(_square(images)), alt)}<figcaption>{alt}</figcaption></figure>")
    text = (
        f"The best: of {run.drawn} samples one for each of 64 real images, the one that suits it, by what a classifier "
        "of pictures sees in them, and where the run has a discriminator that sees features, by its opinion. "
        "At random: nothing is chosen. All figures of this page are of samples at random. For more of the best: "
        "python -m dcgan_jax.generate --best 10%."
    )
    return f'<div class="pair {_kind(run.best[0])}">{"".join(figures)}</div><p class="soft">{_with_code(text)}</p>'


def _pairs(run) -> str:
    if run.pairs is None:
        return _missing(run, "pairs")
    sheet = grid(run.pairs.reshape(-1, *run.pairs.shape[2:]), columns=8)
    alt = f"{len(run.pairs)} pairs: a sample, and right of it the training image most like it"
    return (
        f'<div class="{_kind(run.pairs)}">{_img(_webp(sheet, 90), alt, "class=sheet")}</div>'
        '<p class="soft">Four pairs in a row: a sample, and right of it the training image most like it. Pairs that '
        "are the same say that the generator copies.</p>"
    )


def _walk(run) -> str:
    if run.walk is None:
        return _missing(run, "walk")
    rows, columns = run.walk.shape[:2]
    sheet = _webp(grid(run.walk.reshape(-1, *run.walk.shape[2:]), columns), 90)
    alt = f"{rows} rows of {columns} images that change from one sample to another in small steps"
    return (
        f'<div class="{_kind(run.walk)}">{_img(sheet, alt, "class=sheet")}</div><p class="soft">Each row goes from '
        "one sample to another. Good images all along, without jumps, are a good sign.</p>"
    )


def _missing(run, what) -> str:
    return f'<p class="soft">{_with_code(run.missing[what])}</p>' if what in run.missing else ""


def _tables(tables: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> str:
    cells = "".join(f'<div><p class="soft">{escape(line)}</p>{_table(rows)}</div>' for line, rows in tables)
    return f'<div class="runs">{cells}</div>' if cells else ""


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
