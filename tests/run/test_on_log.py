"""``fit(on_log=...)``: all that is logged, for trackers of experiments."""

import json

import numpy as np
import pytest
from helpers import python
from PIL import Image

from dcgan_jax import Config, InputError, fit

SETTINGS = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4, "log_every": 2, "sample_every": 3}


def test_on_log_gets_each_line_and_each_grid(photos, tmp_path):
    config = Config(data=str(photos), steps=6, checkpoint_every=3, evaluate_every=0, **SETTINGS)
    calls = []
    fit(config, tmp_path, on_log=lambda *call: calls.append(call))
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [{"step": step, **metrics} for step, metrics, _ in calls if metrics] == lines
    grids = {step: images for step, _, images in calls if images is not None}
    assert sorted(grids) == [0, 3, 6]
    for step, images in grids.items():
        with Image.open(tmp_path / "samples" / f"step_{step:06d}.png") as picture:
            assert images.dtype == np.uint8 and np.array_equal(images, np.asarray(picture)), step
    assert [step for step, *_ in calls] == [0, 2, 3, 4, 6]  # one call for a line and a grid of one step


def test_what_on_log_raises_ends_the_run_which_resumes(photos, tmp_path):
    config = Config(data=str(photos), steps=6, checkpoint_every=2, evaluate_every=0, **SETTINGS)

    def full(step, metrics, images):
        if step == 4:
            raise ConnectionError("the tracker is full")

    with pytest.raises(ConnectionError, match="the tracker is full"):
        fit(config, tmp_path, on_log=full)
    steps = []
    assert int(fit(config, tmp_path, on_log=lambda step, *_: steps.append(step)).step) == 6
    assert steps[-1] == 6 and steps[0] >= 4


@pytest.mark.slow
def test_what_a_run_says_reaches_a_file_at_once(photos, tmp_path):
    code = """
import os, sys
from dcgan_jax import Config, fit

config = Config(data=sys.argv[1], image_size=16, width=4, latent_dim=8, batch_size=4, steps=2, log_every=1, input="numpy")
fit(config, sys.argv[2], on_log=lambda *_: os._exit(0))  # which loses what is still to be written
"""
    done = python("-c", code, photos, tmp_path, variables={"PYTHONUNBUFFERED": ""})
    assert done.stdout.startswith("12 images of 16x16x3")


def test_on_log_must_be_a_function(photos, tmp_path):
    with pytest.raises(InputError, match="on_log must be a function of step, metrics and images, not 'wandb'"):
        fit(Config(data=str(photos)), tmp_path / "run", on_log="wandb")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
