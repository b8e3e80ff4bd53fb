"""The doctor finds each illness in the metrics of a real run that has it, and nothing in a healthy one."""

import json
import re
from pathlib import Path

import pytest

from dcgan_jax.run.doctor import findings

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


def test_alarms_come_first():
    found = findings(recorded("won"), images=60)
    assert [finding.alarm for finding in found] == sorted((finding.alarm for finding in found), reverse=True)


def test_a_low_loss_alone_is_no_alarm():
    """As long as KID falls, the generator learns."""
    lines = recorded("won")
    for i, line in enumerate(line for line in lines if "kid" in line):
        line["kid"] = 0.5**i
    assert "won" not in names(lines, 20_000)
