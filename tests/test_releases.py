"""What a release has written can be read by this version. ``releases/make.py`` made it, of each release."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import equal, metrics_of
from PIL import Image

from dcgan_jax import Config, evaluate, fit, report, restore, restore_state, sample, to_uint8

RELEASES = [path for path in sorted((Path(__file__).parent / "releases").iterdir()) if path.is_dir()]


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def release(request, tmp_path):
    """A copy of what a release wrote, whose run finds its images."""
    place = shutil.copytree(request.param, tmp_path / "release")
    settings = place / "run" / "config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "data": str(place / "images.zip")}))
    return place


def near(state, other):
    """Compare what other processors and versions of JAX compute with other roundings, in up to three steps of Adam."""
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=6 * 4e-4)


@pytest.mark.slow
def test_a_run_goes_on_as_it_did_then(release, tmp_path):
    run = release / "run"
    config, state, lines = Config.load(run / "config.json"), restore_state(run, 6), metrics_of(run)
    shutil.rmtree(run / "checkpoints" / "6")
    other = shutil.copytree(run, tmp_path / "other")
    near(fit(config, run), state)
    for line, before in zip(metrics_of(run), lines, strict=True):
        assert line == pytest.approx(before, rel=1e-3, abs=1e-3)
    longer = dataclasses.replace(config, steps=8, bits="auto")  # as a script leaves it, that knows no bits
    assert equal(fit(longer, run), fit(longer, other))


def test_its_generator_draws_what_it_drew_then(release):
    best = restore(release / "run")
    assert best.step == 3 and equal(best, restore(release / "run", step=3))
    assert equal(best.params, restore(release / "generator.safetensors").params)
    assert not equal(best.params, restore(release / "run", "newest").params)
    picture = np.asarray(Image.open(release / "sample.png"), np.int16)
    for params in (best, restore(release / "generator.safetensors")):
        drawn = to_uint8(sample(params, jax.random.key(0), 1))[0, ..., 0]
        np.testing.assert_allclose(drawn, picture, atol=2)


def test_its_figures_are_reported(release):
    run = release / "run"
    evaluation = json.loads((run / "evaluation.json").read_text())[0]
    page = re.sub("</?code>", "", report(run).read_text())
    assert f"{evaluation['metrics']['fd']['value']:.3g}" in page
    assert json.loads((run / "classes.json").read_text())["finding"] in page


@pytest.mark.slow
def test_it_is_measured_as_it_was_then(release):
    run = release / "run"
    before = json.loads((run / "evaluation.json").read_text())[0]
    now = evaluate(run, before["step"], num=20)
    for name, figure in before["metrics"].items():
        assert now.figures[name]._asdict() == pytest.approx(figure, rel=0.02, abs=0.02), name
