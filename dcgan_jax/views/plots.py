"""Curves with their values under the pointer, as HTML and inline SVG."""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

Lines = Sequence[Mapping[str, float]]

_POINTS = 200  # of a curve at most
NAMES = {
    "loss_D": "D",
    "loss_G": "G",
    "D_x": "real images",
    "D_G_z1": "generated, before D's step",
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


def plots(lines: Lines, runs: Sequence[Lines]) -> str:
    """Draw the metrics of a run as HTML; the script of ``report.html`` shows the values at the pointer.

    Args:
      lines: of the run, oldest first, each with its ``step``.
      runs: the lines of all runs on the page, this one too: they share their axes.
    """
    seen = list(dict.fromkeys(name for other in runs for line in other for name in line))
    plots = {head: [name for name in names if name in seen] for head, names in _PLOTS.items()}
    for name in seen:  # a metric that has a floor has a plot of its own
        if f"{name}_floor" in seen:
            note = ", logarithmic" if name in _LOGARITHMIC else ""
            plots[f"{NAMES.get(name, name)} (CIFAR features{note})"] = [name, f"{name}_floor"]
    html = "".join(_plot(head, names, lines, runs) for head, names in plots.items() if names)
    return f'<div class="plots">{html}</div>' if html else ""


def _plot(head: str, names: Sequence[str], lines: Lines, runs: Sequence[Lines]) -> str:
    curves = [_curve(other, names) for other in runs]
    everything = np.concatenate([values.ravel() for _, values in curves])
    everything = everything[np.isfinite(everything)]
    steps, values = _curve(lines, names)
    if not len(steps):
        return ""
    low, high = min(steps[0] for steps, _ in curves if len(steps)), max(steps[-1] for steps, _ in curves if len(steps))
    logarithmic = names[0] in _LOGARITHMIC
    height, marks = _scale(everything, logarithmic=logarithmic, probability=names[0].startswith("D_"))
    across = (steps - low) / max(high - low, 1)
    paths, keys, series = [], [], []
    for i, (name, column) in enumerate(zip(names, values.T)):
        floor = name.endswith("_floor")
        colour = "var(--floor)" if floor else f"var(--c{i % 3})"
        dashed = " dashed" if floor or i == 1 else ""
        there = np.isfinite(column)
        below = floor and logarithmic and not (column > 0).any()  # such as the KID of real images
        points = zip(1000 * across[there], 1000 * (1 - height(column[there])))
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        paths.append(f'<path class="{dashed}" style="stroke:{colour}" d="M{path}"/>' if path and not below else "")
        label = f"floor {column[there][-1]:.3g}" if floor and there.any() else NAMES.get(name, name)
        label += ", below the axis" if below else ""
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
