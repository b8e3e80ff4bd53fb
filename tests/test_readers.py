"""A pipe in the place of any file that is read holds no command up: it would wait for ever for a writer."""

import contextlib
import dataclasses
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from dcgan_jax import Config, InputError, evaluate, fit, restore
from dcgan_jax.animate import Arguments as Animate
from dcgan_jax.animate import run as animate
from dcgan_jax.data.store import Store
from dcgan_jax.export import Arguments as Export
from dcgan_jax.export import run as export
from dcgan_jax.project import Arguments as Project
from dcgan_jax.project import run as project
from dcgan_jax.report import Arguments as Report
from dcgan_jax.report import run as report
from dcgan_jax.system.cache import kept

FILES = (
    "config.json",
    "images.json",
    "metrics.jsonl",
    "timing.json",
    "evaluation.json",
    "classes.json",
    "pairs.png",
    "progress.png",
    "report.html",
    "skipped.txt",
    ".lock",
    "samples/reals.png",
    "samples/step_000004.png",
    "checkpoints/4/manifest.json",
    "checkpoints/4/_METADATA",
)
EVALUATED = ("config.json", "images.json", "evaluation.json", "pairs.png", "checkpoints/4/manifest.json")
"""What ``evaluate`` reads and writes."""


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run of four steps, and its settings."""
    workdir = tmp_path_factory.mktemp("read") / "run"
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=4)
    config = dataclasses.replace(config, sample_every=2, checkpoint_every=2)
    fit(config, workdir)
    return workdir, config


@contextlib.contextmanager
def soon():
    """Fail if the block takes longer than anything in this file needs."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pipe(path, *, link):
    path.unlink(missing_ok=True)
    if link:
        target = path.parent.parent / f"pipe-{path.name}"
        if not target.exists():
            os.mkfifo(target)
        path.symlink_to(target)
    else:
        os.mkfifo(path)


@pytest.mark.parametrize("name", FILES)
def test_no_command_waits_for_a_pipe_in_a_run_folder(trained, tmp_path, name):
    workdir, config = trained
    commands = {
        "report": lambda run: report(Report(run, out=tmp_path / "report.html")),
        "animate": lambda run: animate(Animate(run, tmp_path / "a.gif", what="training", seconds=0.2, size=(1, 1))),
        "export": lambda run: export(Export(run, tmp_path / "out", formats=("html",))),
        "train": lambda run: fit(config, run),
    }
    if name in EVALUATED:
        commands["evaluate"] = lambda run: evaluate(run, num=6)
    refused = {}
    for i, (command, call) in enumerate(commands.items()):
        run = shutil.copytree(workdir, tmp_path / command)
        pipe(run / name, link=i % 2 == len(name) % 2)
        with soon():
            try:
                call(run)
            except InputError as error:
                refused[command] = str(error)
    if name in ("config.json", "metrics.jsonl", "samples/step_000004.png"):
        path = tmp_path / "animate" / name
        assert name == "metrics.jsonl" or refused["animate"].startswith(f"{path} is not a regular file")
        assert f"{tmp_path}/report/{name} is not a regular file" in refused["report"]


def test_nor_in_the_cache(photos, trained, cache, tmp_path):
    workdir, config = trained
    kept(tmp_path / "sums", [b"3 + 4"], lambda: {"sum": np.full(1, 7)})
    (entry,) = (tmp_path / "sums").iterdir()
    pipe(entry, link=False)
    with soon():
        assert kept(tmp_path / "sums", [b"3 + 4"], lambda: {"sum": np.zeros(1)})["sum"] == 0  # computed again
    store = next(path for path in (cache / "stores").iterdir() if path.name.startswith("photos0"))
    for name in ("manifest.json", "labels.npy", "images.u8", "SHA256SUMS", "checked"):
        copy = shutil.copytree(store, tmp_path / "store")
        pipe(copy / name, link=True)
        if name in ("manifest.json", "labels.npy", "images.u8"):
            with soon(), pytest.raises(InputError, match="is not a regular file"):
                Store(copy)
        shutil.rmtree(store)
        shutil.copytree(copy, store, symlinks=True)
        with soon():
            fit(config, workdir)  # made again
        shutil.rmtree(copy)
        assert len(Store(store)) == 12


def test_nor_in_the_place_of_what_a_flag_names(photos, trained, tmp_path):
    workdir, config = trained
    pipe(tmp_path / "a.safetensors", link=False)
    pipe(tmp_path / "train-images-idx3-ubyte", link=False)
    with soon():
        with pytest.raises(InputError, match="is not a regular file"):
            restore(tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="is not a file"):
            project(Project(workdir, (tmp_path / "a.safetensors",), tmp_path / "out"))
        with pytest.raises(InputError):
            fit(dataclasses.replace(config, data=str(tmp_path / "a.safetensors")), tmp_path / "run")
        idx = tmp_path / "idx"
        idx.mkdir()
        (idx / "train-images-idx3-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]))
        pipe(idx / "train-labels-idx1-ubyte", link=False)
        with pytest.raises(InputError, match="labels-idx1-ubyte is not a regular file"):
            fit(dataclasses.replace(config, data=str(idx / "train-images-idx3-ubyte")), tmp_path / "run")
    assert not Path(tmp_path / "run").exists()
