"""Recipes: what their names give, and what flags change of them."""

import dataclasses
import json
import sys
import typing

import numpy as np
import pytest
from helpers import equal, metrics_of

from dcgan_jax import Config, InputError, cli, fit, recipe, restore_state, train
from dcgan_jax.recipes import RECIPES, described

SLIGHT = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4, "log_every": 2, "checkpoint_every": 3}


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """The configuration that the command trains with."""

    def parse(*flags, workdir=tmp_path, recipe=None):
        found = []
        monkeypatch.setenv("GLIBC_TUNABLES", "")  # the tests keep their allocator
        monkeypatch.setattr(cli, "run", lambda command, arguments: found.append(arguments.config))
        monkeypatch.setattr(sys, "argv", ["train", "--workdir", str(workdir), *flags])
        train.main(recipe)
        return found[0]

    return parse


def test_the_names_are_those_of_the_setting():
    assert set(RECIPES) == set(typing.get_args({f.name: f.type for f in dataclasses.fields(Config)}["recipe"]))
    assert all(one.config.recipe == name and one.use in described() for name, one in RECIPES.items())
    assert RECIPES["classic"].config == Config()


PUBLISHED = {
    # d2l, section DCGAN, the tab of PyTorch: one rate, one batch for 20 epochs of its images, N(0, 0.02) for all
    "chapter": {
        "data": "pokemon", "resize": "squash", "batch_size": 256, "steps": 3172, "learning_rate": 0.005, "beta1": 0.5,
        "beta2": 0.999, "latent_dim": 100, "latent": "normal", "width": 64, "batchnorm_scale_mean": 0.0, "first_batchnorm": True,
        "leaky_slope": 0.2, "loss": "bce", "penalty": "none", "augment": "off", "discriminator_norm": "batch", "held_out": 0,
    },
    # the tab of TensorFlow: twice the epochs at a tenth of the rate
    "chapter-tf": {
        "data": "pokemon", "resize": "squash", "batch_size": 256, "steps": 6344, "learning_rate": 0.0005, "beta1": 0.5,
        "beta2": 0.999, "latent_dim": 100, "latent": "normal", "width": 64, "batchnorm_scale_mean": 0.0, "first_batchnorm": True,
        "leaky_slope": 0.2, "loss": "bce", "penalty": "none", "augment": "off", "discriminator_norm": "batch", "held_out": 0,
    },
    # Radford et al. 2015, section 4
    "paper": {
        "latent": "uniform", "latent_dim": 100, "batch_size": 128, "learning_rate": 2e-4, "beta1": 0.5, "leaky_slope": 0.2, "augment": "off",
        "loss": "bce", "batchnorm_scale_mean": 1.0, "first_batchnorm": False,
    },
    # Miyato et al. 2018, table 1, setting C, one step of D; Lim & Ye 2017
    "sn": {"loss": "hinge", "discriminator_norm": "spectral", "learning_rate": 2e-4, "beta1": 0.0, "beta2": 0.9, "penalty": "none"},
    # Huang et al. 2024 and docs/results/recipes.md
    "robust": {
        "loss": "relativistic", "penalty": "both", "penalty_every": 1, "gamma": 0.0, "gamma_final": 0.4, "augment": "off", "clip_norm": 10.0,
        "discriminator_norm": "none", "learning_rate": 2e-3, "discriminator_rate": 0.5, "beta1": 0.5, "beta2": 0.99,
    },
    # README and docs/results/default-recipe.md: the default
    "classic": {
        "loss": "bce", "penalty": "none", "batch_size": 32, "learning_rate": 4e-4, "discriminator_rate": 1.0, "beta1": 0.5, "beta2": 0.999,
        "ema_half_life": 8192.0, "augment": "auto", "discriminator_norm": "batch", "steps": 5000, "image_size": 64, "width": 64, "flip": False,
    },
}  # fmt: skip


def test_recipes_have_the_settings_that_were_published_or_measured():
    for name, settings in PUBLISHED.items():
        config = dataclasses.asdict(RECIPES[name].config)
        assert {setting: config[setting] for setting in settings} == settings, name


def test_the_epochs_of_the_chapter_end_when_each_image_was_seen_so_often():
    """20 and 40 times 40,597 images in batches of 256."""
    for name, images in (("chapter", 811_940), ("chapter-tf", 1_623_880)):
        steps = RECIPES[name].config.steps
        assert steps * 256 >= images > (steps - 1) * 256, name


def test_a_recipe_sets_what_no_flag_does(parsed):
    assert parsed() == Config()
    assert parsed("--recipe", "robust") == parsed("--recipe=robust") == RECIPES["robust"].config
    # On its own a penalty is refused with BatchNorm, which the recipe has not.
    config = parsed("--penalty", "r1", "--recipe", "robust", "--width", "8")
    assert config == dataclasses.replace(RECIPES["robust"].config, penalty="r1", width=8)
    assert parsed(recipe="paper").latent == "uniform"


def test_pictures_of_ones_own_get_another_recipe_than_the_chapter_s(parsed, photos, tmp_path):
    for data in (str(photos), "tfds:mnist", "pokemon.zip"):
        assert (
            parsed("--data", data).recipe == parsed(f"--data={data}").recipe == recipe(data=data).recipe == "projected"
        )
    for data in ("sprites", "pokemon"):
        assert (
            parsed("--data", data).recipe == recipe(data=data).recipe == parsed().recipe == recipe().recipe == "classic"
        )
    assert parsed("--data", str(photos), "--recipe", "classic") == Config(data=str(photos))
    (tmp_path / "config.json").write_text(Config(data=str(photos)).to_json())
    assert parsed("--data", str(photos)).recipe == "classic"  # that of the run in the folder


def test_a_script_gets_a_recipe_and_never_its_name_alone(tiny, photos, tmp_path):
    assert recipe("robust") == RECIPES["robust"].config and recipe("classic", width=8) == Config(width=8)
    changed = recipe("robust", gamma=2.0)
    assert (changed.recipe, changed.loss, changed.gamma) == ("robust", "relativistic", 2.0)

    for bad in (
        lambda: Config(recipe="robust"),
        lambda: Config("sn"),
        lambda: Config(recipe="robust", loss="relativistic"),
    ):
        with pytest.raises(InputError, match=r"has the settings of classic: use dcgan_jax\.recipe\("):
            bad()
    with pytest.raises(InputError, match="there is no recipe 'best': choose classic or robust"):
        recipe("best")
    for name in ("widht", "recipe"):
        with pytest.raises(InputError, match=f"there is no setting {name}"):
            recipe("robust", **{name: 8})
    # Every field given, as json and dataclasses.replace do: such a run cannot begin, one that is there goes on.
    named = dataclasses.replace(tiny, recipe="robust", data=str(photos))
    with pytest.raises(InputError, match=r"recipe robust has none of its settings here, such as loss relativistic"):
        fit(named, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    fit(dataclasses.replace(tiny, data=str(photos), steps=1), tmp_path / "old")
    (tmp_path / "old" / "config.json").write_text(dataclasses.replace(named, steps=1).to_json())
    assert fit(dataclasses.replace(named, steps=2), tmp_path / "old").step == 2


@pytest.mark.parametrize(("setting", "value"), [("gamma", 2.0), ("penalty_every", 4), ("features_size", 64)])
def test_a_setting_that_does_nothing_is_refused(tiny, photos, tmp_path, setting, value):
    with pytest.raises(InputError, match=f"{setting} {value:g} does nothing without --(penalty|features)"):
        fit(dataclasses.replace(tiny, data=str(photos), **{setting: value}), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_features_without_a_penalty_are_refused(tiny, photos, tmp_path):
    features = dataclasses.replace(tiny, data=str(photos), features="efficientnet-lite0")
    with pytest.raises(InputError, match="need a penalty, .*: give --recipe projected, or --penalty both"):
        fit(features, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_recipe(parsed, tmp_path):
    config = dataclasses.replace(RECIPES["sn"].config, width=8)
    (tmp_path / "config.json").write_text(config.to_json())
    assert json.loads(config.to_json())["recipe"] == "sn"
    assert parsed() == parsed("--recipe", "sn") == config
    assert parsed("--seed", "1") == dataclasses.replace(config, seed=1)
    assert config.differences(parsed("--recipe", "robust")) == ["recipe ('sn', was 'robust')"]


def test_an_unknown_recipe_is_refused(parsed, capsys):
    with pytest.raises(SystemExit) as end:
        parsed("--recipe", "best")
    assert end.value.code == 2 and "robust" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["robust", "sn"])
def test_a_run_that_stops_goes_on_as_if_it_had_not(photos, tmp_path, recipe):
    """Annealing, augmentation, flips, the penalty of every other step and spectral norm's vector included."""
    config = dataclasses.replace(
        RECIPES[recipe].config, **SLIGHT, data=str(photos), steps=6, flip=True, anneal_images=20, penalty_every=2,
        penalty="both", learning_rate_final=0.5, extra_convs=1, augment="full",
    )  # fmt: skip
    whole = fit(config, tmp_path / "whole")
    fit(dataclasses.replace(config, steps=3), tmp_path / "parts")
    parts = fit(config, tmp_path / "parts")
    assert equal(whole, parts) and equal(restore_state(tmp_path / "parts"), whole)
    assert whole.augments and whole.annealing.start.augment == whole.annealing.end.augment == 1
    lines = [line for line in metrics_of(tmp_path / "parts") if line["step"] != 3]  # the last of the shorter run
    assert metrics_of(tmp_path / "whole") == lines
    penalties = [line["penalty"] for line in metrics_of(tmp_path / "whole")]  # of steps 2, 4, 6, counted from 1
    assert penalties == [0, 0, 0] and np.isfinite(whole.discriminator.params["kernel"]).all()
