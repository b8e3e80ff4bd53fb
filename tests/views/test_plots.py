"""The curves of a report, read back from their HTML."""

import json
import re
from html import unescape

import pytest

from dcgan_jax.views.plots import plots

RUN = [{"step": 10 * i, "loss_D": 2.0 - 0.1 * i, "loss_G": 1.0} for i in range(1, 12)]


def figures(html):
    """Of each plot: its head, the data for the pointer, the points of its curves, and its marks as (text, percent)."""
    found = []
    for part in html.split("<figure")[1:]:
        curves = [
            [tuple(map(float, point.split())) for point in path.split("L")]
            for path in re.findall(r'<path class="(?: dashed)?"[^>]* d="M([^"]*)"', part)
        ]
        marks = re.findall(r'<span class="([xy])" style="(?:bottom|left):([\d.]+)%">([^<]*)<', part)
        data = json.loads(unescape(re.search('data-points="([^"]*)"', part)[1]))
        found.append((re.search("<b>([^<]*)</b>", part)[1], data, curves, marks))
    return found


def test_a_curve_goes_from_the_left_to_the_right_and_larger_values_lie_higher():
    [(head, data, (first, second), marks)] = figures(plots([RUN]))
    assert head == "Losses" and data["steps"] == [line["step"] for line in RUN]
    assert [one["name"] for one in data["series"]] == ["D", "G"]
    assert data["series"][0]["values"] == pytest.approx([line["loss_D"] for line in RUN])
    assert [x for x, _ in first] == pytest.approx([100.0 * i for i in range(11)])
    # y runs downwards; the marks say where values lie, in percent from below
    heights = {float(text): float(place) for axis, place, text in marks if axis == "y"}
    assert heights[0] == 0 and heights[1] == pytest.approx(100 / 1.9, abs=0.1)  # the largest value is at the top
    for (_, y), line in zip(first, RUN):
        assert 1000 - y == pytest.approx(1000 * line["loss_D"] / 1.9, abs=0.1)
    assert {round(1000 - y) for _, y in second} == {round(1000 / 1.9)}
    steps = {int(text): float(place) for axis, place, text in marks if axis == "x"}
    assert steps and all(place == pytest.approx(step - 10, abs=0.1) for step, place in steps.items())  # 10 to 110


def test_two_runs_are_drawn_over_each_other_on_the_same_axes():
    longer = [{"step": 210, "loss_D": 8.0, "loss_G": 1.0}]
    [(_, data, curves, _)] = figures(html := plots([RUN, longer], ["a", "b"]))
    assert (data["low"], data["high"]) == (10, 210) and data["steps"] == [*range(10, 111, 10), 210]
    assert [(one["name"], one["steps"][-1]) for one in data["series"]] == [
        ("a: D", 110), ("a: G", 110), ("b: D", 210), ("b: G", 210)
    ]  # fmt: skip
    assert [points[-1][0] for points in curves] == [500, 500, 1000, 1000]
    assert min(y for _, y in curves[0]) > 700 and curves[2] == [(1000, 0)]  # far below 8
    assert re.findall(r'key( dashed)?" style="--colour:([^"]*)"', html) == [
        ("", "var(--c0)"),
        (" dashed", "var(--c0)"),
        ("", "var(--c1)"),
        (" dashed", "var(--c1)"),
    ]  # fmt: skip - a colour for each run
    with_floor = [{"step": 1, "fd": 3.0, "fd_floor": 1.0}]
    [(_, data, curves, _)] = figures(plots([with_floor, with_floor], ["a", "b"]))
    assert [one["name"] for one in data["series"]] == ["a: FD", "floor 1", "b: FD"]  # the images of both are the same


def test_many_lines_become_means_of_a_few():
    many = [{"step": i, "loss_D": float(i % 2), "loss_G": 1.0} for i in range(1, 1001)]
    [(_, data, (first, _), _)] = figures(plots([many]))
    assert len(first) == 200 and data["steps"][0] == 5 and data["steps"][-1] == 1000
    assert data["series"][0]["values"][:2] == pytest.approx([0.6, 0.4])


def test_a_metric_with_a_floor_has_a_logarithmic_plot_and_a_floor_below_zero_no_curve():
    lines = [{"step": s, "kid": kid, "kid_floor": -0.01, "fd": 10 * kid, "fd_floor": 1.0} for s, kid in ((1, 10), (2, 1), (3, 0.1))]  # fmt: skip
    (kid, data, curves, marks), (fd, _, both, _) = figures(plots([lines]))
    assert (
        (kid, fd) == ("KID (CIFAR features, logarithmic)", "FD (CIFAR features, logarithmic)")
        and len(curves) == 1
        and len(both) == 2
    )
    assert [y for _, y in curves[0]] == pytest.approx([0, 500, 1000])
    assert [one["name"] for one in data["series"]] == ["KID", "floor -0.01, below the axis"]
    assert [float(text) for axis, _, text in marks if axis == "y"] == [0.1, 1, 10]
