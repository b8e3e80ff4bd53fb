"""Arguments of the public functions that make no sense: a sentence each, and none is ignored."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import equal, some_generator

from dcgan_jax import (
    Config,
    Generator,
    InputError,
    animate,
    create_state,
    fit,
    generate,
    restore,
    restore_state,
)
from dcgan_jax.share.portable import to_safetensors


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run of 6 steps with checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("door") / "run"
    tiny = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4, "checkpoint_every": 3}
    fit(Config(data=str(photos), steps=6, **tiny), folder)
    return folder


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    path = tmp_path_factory.mktemp("door") / "generator.safetensors"
    path.write_bytes(to_safetensors(some_generator(width=4, image_size=16), {}))
    return path


@pytest.mark.parametrize("step", [3.0, "3", True, np.bool_(1), -1, None, (3,), "Best", np.zeros(2)])
def test_a_step_of_another_kind_is_refused(run, step):
    for read in (restore, restore_state):
        with pytest.raises(InputError, match=r'^step .* must be "best", "newest", or a whole number of steps'):
            read(run, step)


@pytest.mark.parametrize("step", [3, np.int64(3), jnp.int32(3)])
def test_a_step_may_be_any_whole_number(run, step):
    assert restore_state(run, step).step == 3 and equal(restore(run, step), restore(run, 3))


def test_a_step_that_is_not_there_is_named_with_those_that_are(run):
    with pytest.raises(InputError, match="has no checkpoint of step 4, only 3, 6"):
        restore(run, np.int64(4))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ema": False}, r"averaged weights alone: leave out ema=False \(--no-ema\)"),
        ({"generator": Generator(width=4, image_size=16)}, "its own network: leave out generator="),
        ({"step": "newest"}, "one step alone: leave out the step"),
        ({"step": 8}, "is of step 7, not 8: leave the step out"),
        ({"step": 7.0}, "step 7.0 must be"),
        ({"ema": "no"}, "ema 'no' must be True or False"),
    ],
)
def test_what_an_exported_file_cannot_give_is_refused(portable, given, message):
    with pytest.raises(InputError, match=message):
        restore(portable, **given)


def test_an_exported_file_gives_its_only_step(portable):
    assert equal(restore(portable), restore(portable, np.int64(7)))
    with pytest.raises(InputError, match="holds a generator alone, which restore reads: give the folder of a run"):
        restore_state(portable)


def test_flags_that_would_do_nothing_are_refused(portable, tmp_path):
    for changed in ({"ema": False}, {"step": "newest"}):
        with pytest.raises(InputError, match="leave out"):
            generate(portable, tmp_path / "out", num=1, **changed)
    assert not (tmp_path / "out").exists()
    for changed in ({"step": 3}, {"seed": 1}):
        with pytest.raises(InputError, match="of a walk: leave them out with --what training"):
            animate(tmp_path, tmp_path / "a.gif", what="training", **changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tiny, path: fit(path, tiny), "the configuration must be a Config"),
        (lambda tiny, path: create_state({"width": 4}), "the configuration must be a Config"),
        (lambda tiny, path: fit(tiny, path, generator=Generator), "the generator must be a Flax module, such as"),
        (lambda tiny, path: create_state(tiny, discriminator=len), "the discriminator must be a Flax module"),
        (
            lambda tiny, path: create_state(tiny, objective="hinge"),
            "objective 'hinge' must be of the form package.module:Name",
        ),
        (lambda tiny, path: create_state(tiny, images=1e4), "images 10000.0 must be how many"),
        (lambda tiny, path: fit(tiny, 3), "'3' cannot be used"),
        (lambda tiny, path: restore(None), "'None' cannot be used"),
    ],
)
def test_arguments_of_another_kind_are_refused(tiny, tmp_path, call, message):
    with pytest.raises(InputError, match=message):
        call(tiny, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
