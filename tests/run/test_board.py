"""TensorBoard shows what metrics.jsonl holds, as TensorBoard's own reader says."""

import dataclasses
import signal
import time

import numpy as np
import pytest
from helpers import metrics_of
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan_jax.config import Config
from dcgan_jax.run import loop
from dcgan_jax.run.board import Board
from dcgan_jax.run.fit import fit
from dcgan_jax.system.errors import Stopped


def shown(folder):
    """All scalars as {name: [(step, value)]}, and the steps of the pictures; nothing is purged, as for other readers."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}, purge_orphaned_data=False)
    names = events.Reload().Tags()
    scalars = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names["scalars"]}
    pictures = events.Images("samples") if names["images"] else []
    assert all(picture.encoded_image_string.startswith(b"\x89PNG") and picture.width > 8 for picture in pictures)
    return scalars, [picture.step for picture in pictures]


def assert_the_same(workdir):
    scalars, pictures = shown(workdir / "tensorboard")
    scalars.pop("images_per_second", None)
    lines = metrics_of(workdir)
    assert set(scalars) == {name for line in lines for name in line} - {"step"}
    for name, values in scalars.items():
        wanted = [(line["step"], line[name]) for line in lines if name in line]
        assert [step for step, _ in values] == [step for step, _ in wanted]
        assert [value for _, value in values] == [np.float32(value) for _, value in wanted]
    steps = sorted(int(path.stem.removeprefix("step_")) for path in (workdir / "samples").glob("step_*"))
    assert pictures == steps and len(list((workdir / "tensorboard").iterdir())) == 1


@pytest.fixture
def long(photos):
    return Config(
        data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=9, log_every=1, sample_every=2,
        checkpoint_every=3, evaluate_every=12,
    )  # fmt: skip


@pytest.mark.parametrize("end", ["killed", "stopped", "diverged"])
def test_no_abandoned_step_stays_in_tensorboard(long, tmp_path, monkeypatch, end):
    real, pending = loop.train_step, [True]

    def train_step(state, images, key, **options):
        state, metrics = real(state, images, key, **options)
        if int(state.step) == 6 and pending:
            pending.clear()
            if end == "killed":  # after the line of step 5, before the checkpoint of step 6
                raise SystemError
            if end == "stopped":
                signal.raise_signal(signal.SIGTERM)
                time.sleep(0.2)  # for the thread that takes it
            if end == "diverged":
                metrics = {**metrics, "loss_D": metrics["loss_D"] * np.nan}
        return state, metrics

    monkeypatch.setattr(loop, "train_step", train_step)
    if end == "diverged":
        fit(long, tmp_path)
    else:
        with pytest.raises(SystemError if end == "killed" else Stopped):
            fit(long, tmp_path)
        steps = [step for step, _ in shown(tmp_path / "tensorboard")[0]["loss_D"]]
        assert steps == [1, 2, 3, 4, 5]  # step 6 is measured, and logged, at the next start
        fit(long, tmp_path)
    assert [line["step"] for line in metrics_of(tmp_path)] == list(range(1, 10))
    assert_the_same(tmp_path)
    fit(dataclasses.replace(long, steps=10), tmp_path)
    assert_the_same(tmp_path)


def test_files_of_others_stay_and_damaged_grids_are_left_out(tmp_path):
    other, torn = tmp_path / "events.out.tfevents.1.host.7.0.v2", tmp_path / "torn.png"
    other.write_bytes(b"")
    torn.write_bytes(b"\x89PNG")
    Image.new("L", (32, 16)).save(tmp_path / "good.png")
    board = Board(tmp_path, [{"step": 2, "loss_D": 0.5}], {})
    board.scalars(4, {"loss_D": 0.25})
    board.close()
    board = Board(tmp_path, [{"step": 2, "loss_D": 0.5}], {1: torn, 2: tmp_path / "good.png"})
    board.scalars(3, {"loss_D": 0.75})
    board.close()
    assert other.exists() and len(list(tmp_path.glob("events*"))) == 2
    assert shown(tmp_path) == ({"loss_D": [(2, 0.5), (3, 0.75)]}, [2])
    board = Board(tmp_path, [], dict.fromkeys(range(1000), tmp_path / "good.png"))
    board.close()
    assert len(shown(tmp_path)[1]) == 10
