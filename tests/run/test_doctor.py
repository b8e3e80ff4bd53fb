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
    """Three seeds of a recipe with penalties (RESULTS.md): ImageNet features and the eye see shapes get better."""
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
    """KID and FD of a run of 128,000 images (RESULTS.md, "The best checkpoint"), which lost its variety from step 2,500."""
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
