"""Networks and losses of the user's own, as ``package.module:Name`` and as objects, in all that takes a run."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from helpers import python
from PIL import Image

from dcgan_jax import (
    Config,
    InputError,
    create_state,
    evaluate,
    export,
    fit,
    restore,
    restore_state,
    sample,
    to_uint8,
    train_step,
)

MODULE = """
import flax.linen as nn
import jax
import jax.numpy as jnp
from dcgan_jax import Objective


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, *, train):
        y = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(self.features, (3, 3))(x)))
        return x + nn.Conv(self.features, (3, 3))(y)


class Residual(nn.Module):
    width: int  # from the settings of the run
    image_size: int
    channels: int
    sharpness: float = 1.0

    @nn.compact
    def __call__(self, z, *, train):
        x = nn.Dense(8 * 8 * self.width)(z).reshape(-1, 8, 8, self.width)
        x = Block(self.width)(x, train=train)
        x = jax.image.resize(x, (len(x), self.image_size, self.image_size, self.width), "nearest")
        return jnp.tanh(self.sharpness * nn.Conv(self.channels, (3, 3))(x))


class Critic(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.leaky_relu(nn.Conv(self.width, (3, 3), (2, 2))(x))
        return nn.Dense(1)(nn.LayerNorm()(x).reshape(len(x), -1))


critic = Critic(width=3)
wasserstein = Objective(
    discriminator=lambda real, fake: fake.mean() - real.mean(), generator=lambda fake: -fake.mean()
)


class Demanding(nn.Module):
    heads: int


class Oblong(nn.Module):
    @nn.compact
    def __call__(self, z, *, train):
        return nn.Dense(16 * 8 * 3)(z).reshape(-1, 16, 8, 3)


class Several(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Conv(1, (3, 3))(x)


a_number = 3
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "own_nets.py").write_text(MODULE)
    return folder


@pytest.fixture
def own(code, monkeypatch):
    """The module, importable in this test alone."""
    monkeypatch.syspath_prepend(code)
    yield __import__("own_nets")
    sys.modules.pop("own_nets", None)


def train(workdir, path, *flags):
    """``python -m dcgan_jax.train``, with ``path`` as PYTHONPATH."""
    return python("-m", "dcgan_jax.train", "--workdir", workdir, *flags, variables={"PYTHONPATH": str(path)})


COMMANDS = """
import importlib, sys
run, out, photo = sys.argv[1:]
for name, flags in (
    ("evaluate", ["--num", "6"]),
    ("generate", ["--num", "3", "--out", f"{out}/pictures"]),
    ("animate", ["--seconds", "0.2", "--out", f"{out}/walk.gif"]),
    ("project", ["--image", photo, "--iterations", "1", "--out", f"{out}/projected"]),
    ("report", []),
    ("export", ["--out", f"{out}/shared"]),
):
    sys.argv = [name, "--workdir", run, *flags]
    importlib.import_module(f"dcgan_jax.{name}").main()
"""


@pytest.mark.slow
def test_named_networks_are_found_by_every_command(code, own, photos, tmp_path):
    """A ResNet and a critic without BatchNorm that is penalised: trained, resumed and used, each in a new process."""
    run, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    size = [
        "--recipe",
        "classic",
        "--image-size",
        16,
        "--width",
        4,
        "--latent-dim",
        8,
        "--batch-size",
        4,
        "--log-every",
        2,
    ]
    names = ["--generator", "own_nets:Residual", "--discriminator", "own_nets:critic"]
    names += ["--objective", "own_nets:wasserstein", "--penalty", "r1"]  # no flag of the built-in discriminator
    started = train(run, code, "--data", photos, "--steps", 2, *size, *names)
    assert started.returncode == 0, started.stderr
    assert json.loads((run / "config.json").read_text())["generator"] == "own_nets:Residual"
    resumed = train(run, code, "--steps", 4)
    assert resumed.returncode == 0 and "resuming from step 2" in resumed.stdout, resumed.stderr
    used = python("-c", COMMANDS, run, out, next(photos.rglob("*.png")), variables={"PYTHONPATH": str(code)})
    assert used.returncode == 0, used.stderr
    assert "left out: html, onnx (they hold the built-in Generator only)" in used.stdout
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    pictures = {f"pictures/{name}.png" for name in ("00000", "00001", "00002", "grid")}
    assert files == pictures | {
        "walk.gif",
        "projected/projection.png",
        "projected/z.json",
        "projected/z.npy",
        "shared/generator.safetensors",
    }
    assert json.loads((run / "evaluation.json").read_text())[-1]["step"] == 4
    assert "No generator to draw with" not in (run / "report.html").read_text()

    state, G = restore_state(run), own.Residual(width=4, image_size=16, channels=3)
    assert state.generator.module == G
    assert state.discriminator.module == own.critic and state.objective is own.wasserstein
    images = np.zeros((4, 16, 16, 3), np.uint8)
    assert train_step(state, images, jax.random.key(0))[0].step == 5
    drawn = to_uint8(sample(restore(out / "shared" / "generator.safetensors", generator=G), jax.random.key(0), 3))
    np.testing.assert_array_equal(drawn[2], np.asarray(Image.open(out / "pictures" / "00002.png")))
    with pytest.raises(
        InputError, match=r"holds the weights of Residual\(width=4, image_size=16, channels=3, sharpness"
    ):
        restore(out / "shared" / "generator.safetensors")
    with pytest.raises(InputError, match="holds the weights of another network"):
        restore(out / "shared" / "generator.safetensors", generator=G.copy(width=5))
    for kind in ("html", "onnx"):
        with pytest.raises(InputError, match="html and onnx hold the built-in Generator only, not Residual"):
            export(run, out / "none", formats=(kind,))
    assert not (out / "none").exists()


@pytest.mark.slow
def test_a_network_that_is_not_found(code, own, photos, tiny, tmp_path):
    config = dataclasses.replace(tiny, data=str(photos), steps=2, discriminator="own_nets:Critic", penalty="both")
    fit(config, tmp_path, generator="own_nets:Residual")
    drawn = sample(restore(tmp_path), jax.random.key(0), 2)
    elsewhere = train(tmp_path, tmp_path)
    assert elsewhere.returncode == 2 and elsewhere.stderr.split("\n", 1)[1] == (  # after "starting: ..."
        "error: generator own_nets:Residual cannot be imported (No module named 'own_nets'): add the folder of "
        "own_nets to PYTHONPATH, or in a script give generator= the object itself\n"
    )
    (settings := tmp_path / "config.json").write_text(settings.read_text().replace("own_nets:", "gone:"))
    with pytest.raises(InputError, match="generator gone:Residual cannot be imported"):
        restore(tmp_path)
    params = restore(tmp_path, generator=own.Residual(width=4, image_size=16, channels=3))  # the discriminator is gone
    np.testing.assert_array_equal(sample(params, jax.random.key(0), 2), drawn)
    np.testing.assert_array_equal(sample(restore(tmp_path, generator="own_nets:Residual"), jax.random.key(0), 2), drawn)


FACE = """
import json, sys
from pathlib import Path
import numpy as np
import own_nets
from dcgan_jax import Config, animate, evaluate, export, fit, generate, project, report, restore, restore_state
run, out, photo = map(Path, sys.argv[1:])
G, D = own_nets.Residual(width=2, image_size=16, channels=3, sharpness=2.0), own_nets.Critic()
config = Config(**{**json.loads((run / "config.json").read_text()), "steps": 4})
state = fit(config, run, generator=G, discriminator=D, objective=own_nets.wasserstein)
again = restore_state(run, generator=G, discriminator=D, objective=own_nets.wasserstein)
assert state.step == again.step == 4
np.testing.assert_array_equal(state.ema["Dense_0"]["kernel"], again.ema["Dense_0"]["kernel"])
assert evaluate(run, num=6, generator=G).step == 4
first = generate(run, out / "pictures", num=2, generator=G)
same = generate(restore(run, generator=G), out / "again", num=2)
assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in same.files]
assert animate(run, out / "walk.gif", seconds=0.2, generator=G).exists()
assert project(run, [photo], out / "projected", iterations=1, generator=G).z.shape == (1, 8)
assert [path.name for path in export(run, out / "shared", generator=G)] == ["generator.safetensors"]
restore(out / "shared" / "generator.safetensors", generator=G)
assert "No generator to draw with" not in report(run, generator=G).read_text()
"""


@pytest.mark.slow
def test_networks_as_objects(code, own, photos, tiny, tmp_path):
    """Trained here, resumed and used by the face in a new process."""
    G, D = own.Residual(width=2, image_size=16, channels=3, sharpness=2.0), own.Critic()
    config = dataclasses.replace(tiny, data=str(photos), steps=2, penalty="r2")
    fit(config, tmp_path / "run", generator=G, discriminator=D, objective=own.wasserstein)
    (tmp_path / "out").mkdir()
    done = python(
        "-c", FACE, tmp_path / "run", tmp_path / "out", next(photos.rglob("*.png")), variables={"PYTHONPATH": str(code)}
    )
    assert done.returncode == 0, done.stderr
    for take in (restore, evaluate):
        with pytest.raises(InputError, match=r"holds other networks: .* Give the generator="):
            take(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "own_nets.Residual"}, "must be of the form package.module:Name"),
        ({"generator": "own_nets:Missing"}, "has no attribute 'Missing'"),
        ({"generator": "own_nets:a_number"}, "must be a Flax module or its class, not 3"),
        ({"objective": "own_nets:critic"}, "must be an Objective"),
        ({"generator": "own_nets:Demanding"}, "Demanding cannot be made from the settings of a run"),
        ({"generator": "own_nets:Oblong"}, r"of the shape \(1, 16, 8, 3\), not \(1, 16, 16, 3\)"),
        ({"discriminator": "own_nets:Several"}, r"of the shape \(1, 16, 16, 1\): it must give one"),
        ({"penalty": "r1"}, "penalty r1 needs a discriminator without BatchNorm"),
    ],
)
def test_refused_before_the_images_are_read(own, tiny, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        fit(dataclasses.replace(tiny, data="no/such/folder", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_own_discriminator_with_batchnorm_cannot_be_penalised(own, tiny):
    class Normed(own.nn.Module):
        @own.nn.compact
        def __call__(self, x, *, train):
            x = own.nn.BatchNorm(use_running_average=not train)(x)
            return own.nn.Dense(1)(x.reshape(len(x), -1))

    config = dataclasses.replace(tiny, penalty="both", discriminator_norm="none")
    with pytest.raises(InputError, match="penalty both needs a discriminator without BatchNorm"):
        create_state(config, discriminator=Normed())
    assert create_state(Config(image_size=16, width=4), discriminator=Normed()).step == 0
