"""Curves with their values under the pointer, as HTML and inline SVG."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

Lines = Sequence[Mapping[str, float]]

_POINTS = 200  # of a curve at most
NAMES = {
    "loss_D": "D",
    "loss_G": "G",
    "loss_D_heads": "D",
    "loss_G_heads": "G",
    "D_x": "real images",
    "D_G_z1": "generated, before D's step",
    "D_G_z2": "generated, after D's step",
    "grad_norm_D": "D",
    "grad_norm_G": "G",
    "grad_norm_D_heads": "D of features",
    "kid": "KID",
    "fd": "FD",
}
_PLOTS = {
    "Losses": ("loss_D", "loss_G"),
    "Losses, by features": ("loss_D_heads", "loss_G_heads"),
    "Probability of being real, as D says": ("D_x", "D_G_z1", "D_G_z2"),
    "Gradient norms (logarithmic)": ("grad_norm_D", "grad_norm_G", "grad_norm_D_heads"),
}
_LOGARITHMIC = ("kid", "fd", "grad_norm_D")
_STRETCH = 1e4  # what is smaller than the largest value by more than this lies on the lower edge of a logarithmic plot


def plots(runs: Sequence[Lines], names: Sequence[str] = ("",)) -> str:
    """Draw the metrics of one run, or of several over each other, as HTML; the script of ``report.html`` shows values.

    Args:
      runs: the lines of each run, oldest first, each with its ``step``.
      names: of the runs. With several, a colour stands for a run, else for a metric.
    """
    seen = list(dict.fromkeys(name for lines in runs for line in lines for name in line))
    plots = {head: [name for name in metrics if name in seen] for head, metrics in _PLOTS.items()}
    if len(runs) > 1:  # two curves of each run are enough to read
        plots = {head: metrics[:1] + metrics[1:][-1:] for head, metrics in plots.items()}
    for name in seen:  # a metric that has a floor has a plot of its own
        if f"{name}_floor" in seen:
            note = ", logarithmic" if name in _LOGARITHMIC else ""
            plots[f"{NAMES.get(name, name)} (CIFAR features{note})"] = [name, f"{name}_floor"]
    html = "".join(_plot(head, metrics, runs, names) for head, metrics in plots.items() if metrics)
    return f'<div class="plots">{html}</div>' if html else ""


class _Axes(NamedTuple):
    """The steps at both ends, a function from values to heights in [0, 1], and the values to mark."""

    low: float
    high: float
    height: Callable[[Any], Any]
    marks: list[float]

    def across(self, steps):
        return (steps - self.low) / max(self.high - self.low, 1)


class _Drawn(NamedTuple):
    """A curve as SVG, its line in the key as HTML, its label, its steps and its values."""

    path: str
    key: str
    label: str
    steps: list[float]
    values: list[float | None]


def _plot(head: str, metrics: Sequence[str], runs: Sequence[Lines], names: Sequence[str]) -> str:
    curves = [_curve(lines, metrics) for lines in runs]
    if not any(len(steps) for steps, _ in curves):
        return ""
    axes = _axes(metrics[0], curves)
    drawn: dict[str, _Drawn] = {}
    for number, (name, (steps, values)) in enumerate(zip(names, curves)):
        for i, metric in enumerate(metrics):
            colour = number if len(runs) > 1 else i
            if len(steps):
                curve = _draw(metric, steps, values[:, i], axes, run=name, colour=colour, dashed=i == 1)
                drawn.setdefault(curve.label, curve)  # the floor of two runs on the same images is one
    every = sorted({step for curve in drawn.values() for step in curve.steps})
    series = [{"name": one.label, "steps": one.steps, "values": one.values} for one in drawn.values()]
    data = {"steps": every, "low": float(axes.low), "high": float(axes.high), "series": series}
    last = ", ".join(f"{label} {value:g}" for label, value in _last_values(drawn.values()))
    rules, marks = _marks(axes)
    return (
        f'<figure class="plot" tabindex="0" role="img" data-points="{escape(json.dumps(data))}" aria-label="'
        f'{escape(f"{head}, a curve up to step {int(every[-1])}; at its end: {last}. Arrow keys read it.")}">'
        f'<figcaption><b>{escape(head)}</b>{"".join(one.key for one in drawn.values())}</figcaption><div class="area">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{rules}'
        f"{''.join(one.path for one in drawn.values())}</svg>"
        f'{marks}<i class="cursor" hidden></i><output class="tip" hidden></output></div></figure>'
    )


def _axes(name, curves) -> _Axes:
    """The axes of the plot of ``name``, the same for all runs."""
    low, high = min(steps[0] for steps, _ in curves if len(steps)), max(steps[-1] for steps, _ in curves if len(steps))
    values = np.concatenate([values.ravel() for _, values in curves])
    values = values[np.isfinite(values)]
    return _Axes(low, high, *_scale(values, logarithmic=name in _LOGARITHMIC, probability=name.startswith("D_")))


def _draw(name: str, steps, column, axes: _Axes, *, run: str, colour: int, dashed: bool) -> _Drawn:
    """A metric of a run, which has a name if there are several."""
    floor, finite = name.endswith("_floor"), np.isfinite(column)
    stroke = "var(--floor)" if floor else f"var(--c{colour % 3})"
    style = " dashed" if floor or dashed else ""
    logarithmic = name.removesuffix("_floor") in _LOGARITHMIC
    below = floor and logarithmic and not (column > 0).any()  # such as the KID of real images
    points = zip(1000 * axes.across(steps)[finite], 1000 * (1 - axes.height(column[finite])))
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    label: str = f"floor {column[finite][-1]:.3g}" if floor and finite.any() else NAMES.get(name, name)
    label += ", below the axis" if below else ""
    label = f"{run}: {label}" if run and not floor else label
    return _Drawn(
        f'<path class="{style}" style="stroke:{stroke}" d="M{line}"/>' if line and not below else "",
        f'<span class="key{style}" style="--colour:{stroke}">{escape(label)}</span>',
        label,
        steps.tolist(),
        [float(f"{x:.4g}") if math.isfinite(x) else None for x in column],
    )


def _marks(axes) -> tuple[str, str]:
    """Lines across a plot as SVG, and the numbers along both axes as HTML."""
    heights = axes.height(np.array(axes.marks)).tolist()
    rules = "".join(f'<path class="ruled" d="M0 {1000 * (1 - y):.1f}H1000"/>' for y in heights)
    numbers = "".join(
        f'<span class="y" style="bottom:{100 * y:.1f}%">{mark:g}</span>' for mark, y in zip(axes.marks, heights)
    )
    for mark in _ticks(axes.low, axes.high, 4):
        if mark == int(mark):
            numbers += f'<span class="x" style="left:{100 * axes.across(mark):.1f}%">{int(mark):,}</span>'
    return rules, numbers


def _last_values(drawn):
    for curve in drawn:
        if numbers := [value for value in curve.values if value is not None]:
            yield curve.label, numbers[-1]


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


def _ticks(low, high, count):
    """Round numbers from ``low`` to ``high``, some ``count`` of them."""
    span = (high - low) or 1
    power = 10 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= count + 0.5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * i, 10) for i in range(first, last + 1)] or [low]
