"""All but ``tfds:`` and ``--inception`` works where TensorFlow, its data sets and TensorBoard are not installed."""

import numpy as np
import pytest
from helpers import equal, metrics_of, python
from PIL import Image

from dcgan_jax import fit, restore_state
from dcgan_jax.config import Config
from dcgan_jax.data import sprites

BARE = """
import importlib, os, signal, sys
from importlib.machinery import PathFinder

class Rest(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.split(".")[0] in ("tensorflow", "tensorflow_datasets", "tensorboard")
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Rest
for module, name in (signal, "SIGHUP"), (os, "fchmod"), (os, "posix_fallocate"), (os, "set_blocking"):  # Windows has none
    if hasattr(module, name):
        delattr(module, name)

def call(command, *arguments):
    print("+", command, flush=True)
    sys.argv = [command, *map(str, arguments)]
    try:
        importlib.import_module(f"dcgan_jax.{command}").main()
    except SystemExit as error:
        print("exit", error.code, file=sys.stderr)
"""


def bare(code):
    """stdout and the lines of stderr of a Python that has no TensorFlow, nor what Windows has not."""
    done = python("-c", BARE + code)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, [line for line in done.stderr.splitlines() if not line.startswith("starting: ")]


@pytest.fixture(scope="module")
def creatures(tmp_path_factory):
    """A folder of 80 creatures, 16x16."""
    root = tmp_path_factory.mktemp("creatures")
    for i in range(80):
        Image.fromarray(sprites.draw(0, i)[0]).resize((16, 16)).save(root / f"{i}.png")
    return root


@pytest.mark.slow
def test_a_run_is_trained_resumed_measured_shown_and_drawn_from(creatures, tmp_path):
    config = Config(data=str(creatures), image_size=16, width=4, latent_dim=8, batch_size=4, steps=3, log_every=1)
    whole = fit(config, tmp_path / "whole")
    run, out = tmp_path / "run", tmp_path / "out"
    small = "--recipe classic --image-size 16 --width 4 --latent-dim 8 --batch-size 4 --log-every 1".split()
    train = ["--workdir", str(run), "--data", str(creatures), *small]
    said, errors = bare(f"""
call("train", *{train!r}, "--steps", 2)
call("train", *{train!r}, "--steps", 3)
call("evaluate", "--workdir", {str(run)!r}, "--num", 20)
call("report", "--workdir", {str(run)!r})
call("generate", "--workdir", {str(run)!r}, "--num", 2, "--out", {str(out)!r})
assert not {{"tensorflow", "tensorflow_datasets", "tensorboard"}} & set(sys.modules)
""")
    assert not [line for line in errors if "exit" in line or "error" in line], errors
    assert "resuming from step 2" in "\n".join([said, *errors])
    assert equal(restore_state(run, 3), whole) and metrics_of(run) == metrics_of(tmp_path / "whole")
    assert list((run / "tensorboard").iterdir())
    assert {path.name for path in run.iterdir()} >= {"evaluation.json", "report.html", "progress.png"}
    assert np.asarray(Image.open(next(out.glob("*.png")))).ndim == 3


def test_what_needs_tensorflow_says_how_to_get_it_and_writes_nothing(creatures, tmp_path):
    (tmp_path / "graph.pb").write_bytes(b"")
    _, errors = bare(f"""
call("train", "--workdir", {str(tmp_path / "new")!r}, "--data", {str(creatures)!r}, "--input", "tf")
call("train", "--workdir", {str(tmp_path / "new")!r}, "--data", "tfds:mnist")
from dcgan_jax import InputError
from dcgan_jax.metrics.inception import inception
try:
    inception({str(tmp_path / "graph.pb")!r})
except InputError as error:
    print(error, file=sys.stderr)
""")
    assert errors == [
        "error: --input tf needs TensorFlow: python -m pip install tensorflow, or --input auto",
        "exit 2",
        "error: --data tfds:mnist needs tensorflow and tensorflow_datasets: python -m pip install tensorflow tensorflow-datasets",
        "exit 2",
        "--inception needs TensorFlow: python -m pip install tensorflow, or leave it out",
    ]
    assert not (tmp_path / "new").exists()
