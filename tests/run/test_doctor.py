"""The doctor finds each illness in the metrics of a real run that has it, and nothing in a healthy one."""

import json
import re
from pathlib import Path

import pytest

from dcgan_jax.run.doctor import best, findings

GOLDEN = Path(__file__).parent / "golden"


def recorded(name):
    if name == "worse":  # the run with a plateau, before that: its KID rises from step 900 to 2,500
        return [line for line in recorded("plateau") if line["step"] <= 1700]
    return [json.loads(line) for line in (GOLDEN / f"{name}.jsonl").read_text().splitlines()]


def names(lines, images):
    return [finding.name for finding in findings(lines, images=images)]


def test_a_healthy_run_gets_no_finding():
    lines = recorded("healthy")
    for end in range(1, len(lines) + 1):  # nor while it trains
        assert names(lines[:end], 20_000) == []
    assert findings([], images=20_000) == []


ILL = {
    "collapse": (20_000, "their diversity is 0"),
    "worse": (60, "the images get worse: KID .* the best was step"),
    "memory": (660, "knows its images by heart"),
    "won": (20_000, "the discriminator has won: its loss is 0.0"),
    "gradients": (20_000, "the gradients are large: grad_norm_"),
    "few": (300, "300 images are few"),
    "plateau": (60, "nothing has improved since step"),
}


@pytest.mark.parametrize("name", ILL)
def test_each_illness_is_found_and_says_what_to_try(name):
    images, text = ILL[name]
    found = {finding.name: finding for finding in findings(recorded(name), images=images)}
    assert name in found
    assert re.search(text, found[name].text) and ("." in found[name].text or ":" in found[name].text)
    assert found[name].step == recorded(name)[-1]["step"]


@pytest.mark.parametrize("name", ["memory", "won", "gradients"])
def test_a_discriminator_of_features_falls_ill_too(name):
    """As the pixels' did, while that is healthy."""
    healthy = {"loss_D": 0.5, "grad_norm_D": 1.0, "grad_norm_G": 1.0, "memory": 0.0}
    ill = {"won": {"loss_D": 0.01}, "gradients": {"grad_norm_D": 400.0}, "memory": {"memory": 0.5}}[name]
    lines = [line | {key: value for key, value in healthy.items() if key in line} for line in recorded("won")]
    assert name not in names(lines, 20_000)
    heads = {f"{key}_heads": value for key, value in ({**healthy, **ill}).items()}
    lines = [line | {key: x for key, x in heads.items() if key.removesuffix("_heads") in line} for line in lines]
    assert name in names(lines, 20_000)


def evaluations(kid, fd, coverage):
    return [
        {
            "step": 500 * i,
            "kid": k,
            "fd": f,
            "coverage": c,
            "kid_floor": -0.008,
            "fd_floor": 0.34,
            "coverage_floor": 0.86,
        }
        for i, (k, f, c) in enumerate(zip(kid, fd, coverage, strict=True), 1)
    ]


def test_a_shift_of_colours_is_not_worse_while_coverage_holds():
    """Three seeds of a recipe with penalties (docs/results/robust.md): ImageNet features and the eye see shapes get better."""
    kid = [0.69, 0.47, 0.40, 0.24, 0.21, 0.231, 0.317, 0.404]
    fd = [11.6, 8.47, 7.14, 6.43, 6.04, 6.05, 6.3, 6.88]
    coverage = [0.183, 0.321, 0.392, 0.482, 0.529, 0.562, 0.570, 0.569]
    assert names(evaluations(kid, fd, coverage), 5127) == []
    (found,) = findings(evaluations(kid, fd, [*coverage[:-1], 0.5]), images=5127)
    assert found.text.startswith("the images get worse: KID 0.404 at step 4000, the best was step 3500 with 0.317.")


@pytest.mark.parametrize(
    ("coverage", "best_step"),
    [([0.1, 0.4, 0.3], 1000), ([0.4, 0.4, 0.3], 1000), ([0.86, 0.9, 0.95], 1500), ([0.0, 0.0, 0.0], 1500)],
)
def test_the_best_has_the_highest_coverage_and_among_equals_the_lowest_kid(coverage, best_step):
    lines = evaluations([3.0, 2.0, 1.0], [30, 20, 10], coverage)
    assert best(lines)["step"] == best_step


def test_worse_looks_at_fd_too():
    """KID and FD of a run of 128,000 images (docs/results/best-checkpoint.md), which lost its variety from step 2,500."""
    kid = [6.93, 1.58, 0.72, 0.81, 0.68, 0.83, 0.82, 0.82]
    fd = [47.4, 17.9, 9.66, 10.6, 9.73, 11.5, 11.6, 12.4]
    coverage = [0.00, 0.08, 0.24, 0.23, 0.23, 0.17, 0.18, 0.13]
    lines = evaluations(kid, fd, coverage)
    for end in range(1, len(lines)):
        assert "worse" not in names(lines[:end], 5127)
    (found,) = [finding for finding in findings(lines, images=5127) if finding.name == "worse"]
    assert found.text.startswith("the images get worse: FD 12.4 at step 4000, the best was step 1500 with 9.66.")


def test_alarms_come_first():
    found = findings(recorded("won"), images=60)
    assert [finding.alarm for finding in found] == sorted((finding.alarm for finding in found), reverse=True)


def test_a_low_loss_alone_is_no_alarm():
    """As long as KID falls, the generator learns."""
    lines = recorded("won")
    for i, line in enumerate(line for line in lines if "kid" in line):
        line["kid"] = 0.5**i
    assert "won" not in names(lines, 20_000)


def healthy(count, **values):
    """Evaluations of a run in which nothing is wrong, each better than the one before."""
    base = [
        {"step": 500 * i, "kid": 0.9**i, "kid_floor": -0.01, "fd": 9 * 0.9**i, "fd_floor": 0.3, "coverage": 0.02 * i,
         "coverage_floor": 0.9, "diversity": 0.9, "loss_D": 0.6, "grad_norm_D": 1.0, "grad_norm_G": 1.0, "memory": 0.1}
        for i in range(1, count + 1)
    ]  # fmt: skip
    for name, series in values.items():
        for line, value in zip(base[-len(series) :], series, strict=True):
            line[name] = value
    return base


@pytest.mark.parametrize(
    ("values", "alarm"), [((0.6, 0.5, 0.4), False), ((0.5, 0.3, 0.1), True), ((0.5, 0.3, 0.2), False)]
)
def test_falling_diversity_is_a_note_and_below_a_fifth_an_alarm(values, alarm):
    (found,) = findings(healthy(4, diversity=values), images=5000)
    assert (found.name, found.alarm) == ("collapse", alarm) and f"diversity is {values[-1]:.2f}" in found.text


@pytest.mark.parametrize("values", [(0.4, 0.3), (0.05, 0.1, 0.2, 0.3), (0.9, 0.7, 0.6)])
def test_low_diversity_at_the_start_or_above_a_half_is_no_collapse(values):
    count = 2 if len(values) == 2 else 4  # two evaluations say nothing yet
    assert names(healthy(count, diversity=values), 5000) == []


@pytest.mark.parametrize("network", "DG")
def test_large_gradients_of_either_network_are_named(network):
    lines = healthy(5, **{f"grad_norm_{network}": [101.0] * 5})
    (found,) = findings(lines, images=5000)
    assert found.name == "gradients" and f"grad_norm_{network} is 101" in found.text and not found.alarm
    assert names(healthy(5, **{f"grad_norm_{network}": [100.0] * 5}), 5000) == []
    assert names(healthy(5, **{f"grad_norm_{network}": [1.0, 1.0, 1.0, 900.0, 900.0]}), 5000) == []  # the median


def test_memory_is_the_mean_of_three_and_needs_them():
    (found,) = findings(healthy(4, memory=[0.2, 0.5, 0.6]), images=5000)
    assert found.name == "memory" and "43% of the way" in found.text
    assert names(healthy(4, memory=[0.1, 0.4, 0.4]), 5000) == []
    assert names(healthy(2, memory=[0.9, 0.9]), 5000) == []


def test_winning_needs_many_lines_three_evaluations_and_a_kid_that_does_not_fall():
    lines = [{"step": i, "loss_D": 0.01} for i in range(100)]
    evaluated = evaluations([0.5, 0.5, 0.5], [9, 9, 9], [0.1, 0.2, 0.3])

    def wins(lines, evaluated):
        return "won" in names([*evaluated, *lines], 5000)

    assert wins(lines, evaluated)
    assert not wins(lines[:40], evaluated) and not wins(lines, evaluated[1:])
    assert not wins([{**line, "loss_D": 0.06} for line in lines], evaluated)
    assert not wins(lines, evaluations([0.5, 0.45, 0.4], [9, 9, 9], [0.1, 0.2, 0.3]))


def test_a_plateau_needs_ten_evaluations_without_gain_in_coverage_or_kid():
    assert names(evaluations([0.5] * 10, [9] * 10, [0.4] * 10), 5000) == ["plateau"]
    assert names(evaluations([0.5] * 9, [9] * 9, [0.4] * 9), 5000) == []
    assert names(evaluations([0.5] * 10, [9] * 10, [0.4] * 9 + [0.43]), 5000) == []
    assert names(evaluations([0.5] * 9 + [0.47], [9] * 10, [0.4] * 10), 5000) == []
    worse = evaluations([0.5] * 7 + [0.6, 0.7, 0.8], [9] * 10, [0.4] * 7 + [0.3, 0.2, 0.1])
    assert names(worse, 5000) == ["worse"]  # which says more


def test_worse_needs_four_evaluations_in_a_row_and_more_than_noise():
    falling = [0.4, 0.3, 0.2, 0.1]
    assert names(evaluations([0.5, 0.6, 0.7, 0.8], [9] * 4, falling), 5000) == ["worse"]
    assert names(evaluations([0.5, 0.6, 0.7], [9] * 3, falling[1:]), 5000) == []
    assert names(evaluations([0.5, 0.7, 0.6, 0.8], [9] * 4, falling), 5000) == []
    assert names(evaluations([0.5, 0.51, 0.52, 0.53], [9] * 4, falling), 5000) == []


def test_few_images_are_named_once_there_is_an_evaluation():
    assert names(healthy(2), 999) == ["few"] and names(healthy(2), 1000) == []
    assert names([{"step": 1, "loss_D": 1.0}], 10) == []


@pytest.mark.parametrize(("now", "found"), [(0.16, []), (0.18, ["worse"])])
def test_worse_is_a_fifth_and_a_floor_above_the_best(now, found):
    """1.2 times 0.1 and the floor of 0.05, which is the noise, are 0.17."""
    lines = evaluations([0.1, 0.11, 0.12, now], [1, 1, 1, 1], [0.5, 0.4, 0.3, 0.2])
    assert names([{**line, "kid_floor": 0.05} for line in lines], 5000) == found
