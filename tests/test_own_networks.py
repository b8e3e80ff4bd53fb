"""Networks and losses of the user's own, as ``package.module:Name`` and as objects, in all that takes a run."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from dcgan_jax import (
    Config,
    InputError,
    create_state,
    evaluate,
    fit,
    report,
    restore,
    restore_state,
    sample,
    train_step,
)
from dcgan_jax.animate import Arguments as Animation
from dcgan_jax.animate import run as animate
from dcgan_jax.export import Arguments as Export
from dcgan_jax.export import run as export
from dcgan_jax.generate import Arguments as Pictures
from dcgan_jax.generate import run as generate

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
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, "-m", "dcgan_jax.train", "--workdir", str(workdir), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_named_networks_are_found_by_every_command(code, own, photos, tmp_path):
    run, out = tmp_path / "run", tmp_path / "out"
    out.mkdir()
    size = ["--image-size", 16, "--width", 4, "--latent-dim", 8, "--batch-size", 4, "--log-every", 2]
    names = ["--generator", "own_nets:Residual", "--discriminator", "own_nets:critic"]
    names += ["--objective", "own_nets:wasserstein", "--penalty", "r1"]  # no flag of the built-in discriminator
    started = train(run, code, "--data", photos, "--steps", 2, *size, *names)
    assert started.returncode == 0, started.stderr
    assert json.loads((run / "config.json").read_text())["generator"] == "own_nets:Residual"
    resumed = train(run, code, "--steps", 4)
    assert resumed.returncode == 0 and "resuming from step 2" in resumed.stdout, resumed.stderr

    state = restore_state(run)
    assert state.generator.module == own.Residual(width=4, image_size=16, channels=3)
    assert state.discriminator.module == own.critic and state.objective is own.wasserstein
    images = np.zeros((4, 16, 16, 3), np.uint8)
    assert train_step(state, images, jax.random.key(0))[0].step == 5
    assert evaluate(run, "newest", num=6).step == 4
    assert "No generator to draw with" not in report(run).read_text()
    generate(Pictures(run, out / "pictures", num=3))
    assert len(list((out / "pictures").glob("0*.png"))) == 3
    animate(Animation(run, out / "walk.gif", seconds=0.2))
    assert (out / "walk.gif").stat().st_size
    for kind in ("html", "onnx"):
        with pytest.raises(InputError, match="html and onnx hold the built-in Generator only, not Residual"):
            export(Export(run, out / "shared", formats=(kind,)))


@pytest.mark.slow
def test_a_network_that_is_not_found(code, own, photos, tiny, tmp_path):
    config = dataclasses.replace(tiny, data=str(photos), steps=2, discriminator="own_nets:Critic", penalty="both")
    fit(config, tmp_path, generator="own_nets:Residual")
    drawn = sample(restore(tmp_path), jax.random.key(0), 2)
    elsewhere = train(tmp_path, tmp_path)
    assert elsewhere.returncode == 2 and elsewhere.stderr == (
        "error: generator own_nets:Residual cannot be imported (No module named 'own_nets'): add the folder of "
        "own_nets to PYTHONPATH, or in a script give generator= the object itself\n"
    )
    (settings := tmp_path / "config.json").write_text(settings.read_text().replace("own_nets:", "gone:"))
    with pytest.raises(InputError, match="generator gone:Residual cannot be imported"):
        restore(tmp_path)
    params = restore(tmp_path, generator=own.Residual(width=4, image_size=16, channels=3))  # the discriminator is gone
    np.testing.assert_array_equal(sample(params, jax.random.key(0), 2), drawn)
    np.testing.assert_array_equal(sample(restore(tmp_path, generator="own_nets:Residual"), jax.random.key(0), 2), drawn)


def test_networks_as_objects(own, photos, tiny, tmp_path):
    G, D = own.Residual(width=2, image_size=16, channels=3, sharpness=2.0), own.Critic()
    config = dataclasses.replace(tiny, data=str(photos), steps=2, penalty="r2")
    fit(config, tmp_path, generator=G, discriminator=D, objective=own.wasserstein)
    config = dataclasses.replace(config, steps=4)
    state = fit(config, tmp_path, generator=G, discriminator=D, objective=own.wasserstein)
    again = restore_state(tmp_path, generator=G, discriminator=D, objective=own.wasserstein)
    assert jax.tree.all(jax.tree.map(np.array_equal, state, again))
    assert evaluate(tmp_path, num=6, generator=G).step == 4
    assert "No generator to draw with" not in report(tmp_path, generator=G).read_text()
    with pytest.raises(InputError, match=r"holds other networks: .* Give the generator="):
        restore(tmp_path)


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
