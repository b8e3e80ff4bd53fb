"""What a script or a notebook imports, as its user would try it."""

import contextlib
import dataclasses
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations, equal, python

import dcgan_jax
from dcgan_jax import (
    Config,
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    InputError,
    Objective,
    Stopped,
    batches,
    create_state,
    decode,
    fit,
    from_uint8,
    generator_params,
    open_store,
    restore,
    restore_state,
    sample,
    show,
    to_uint8,
    train_step,
)

KEY = jax.random.key(0)


@pytest.fixture
def images(tiny):
    return jax.random.uniform(KEY, (tiny.batch_size, 16, 16, 3), minval=-1)


def test_every_name_is_listed_and_there():
    assert set(dcgan_jax.__all__) <= set(dir(dcgan_jax))
    assert all(getattr(dcgan_jax, name) is not None for name in dcgan_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        dcgan_jax.nonesuch  # noqa: B018


def test_the_stub_is_what_an_editor_reads_and_nothing_is_imported_before_it_is_used():
    code = """
import sys, dcgan_jax
assert "jax" not in sys.modules and "numpy" not in sys.modules
from dcgan_jax import Config, InputError
assert "jax" not in sys.modules
dcgan_jax.slerp
assert "orbax" not in sys.modules and "matplotlib" not in sys.modules
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert dcgan_jax.__all__ == sorted(set(dcgan_jax.__all__)) and len(dcgan_jax.__all__) > 25


def test_batches_of_ones_own_images_from_any_step(photos):
    config = Config(data=str(photos), image_size=16, batch_size=5, seed=3)
    with contextlib.closing(open_store(config)) as store:
        stream, resumed = batches(store, config), batches(store, config, start=2)
        first = [next(stream) for _ in range(4)]
        assert all(batch.shape == (5, 16, 16, 3) and batch.dtype == np.uint8 for batch in first)
        np.testing.assert_array_equal(next(resumed), first[2])
        reds = np.concatenate(first)[:12, 0, 0, 0]  # one epoch has each of the twelve colours once
        assert sorted(reds) == [20 * i for i in range(12)]


def test_train_is_the_module_before_and_after_it_is_imported():
    code = "from dcgan_jax import train; import dcgan_jax.train as t; import dcgan_jax; assert dcgan_jax.train is t is train, train"
    assert python("-c", code).returncode == 0
    from dcgan_jax import train

    assert isinstance(train, types.ModuleType)


def test_functions_stay_functions_when_the_command_of_the_same_name_is_imported():
    code = """
import sys
from dcgan_jax.evaluate import Arguments, main
import dcgan_jax, dcgan_jax.report, importlib
from dcgan_jax import evaluate, report
assert importlib.import_module("dcgan_jax.evaluate").main is main and sys.modules["dcgan_jax.report"].main
for name in ("evaluate", "report"):
    function = getattr(dcgan_jax, name)
    assert type(function).__name__ == "function" and function.__module__.startswith("dcgan_jax.run."), function
assert dcgan_jax.evaluate is evaluate and dcgan_jax.report is report
dcgan_jax.evaluate = 3  # as monkeypatch does
assert dcgan_jax.evaluate == 3
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_fit_then_restore_sample_decode_show(tiny, photos, tmp_path):
    state = fit(dataclasses.replace(tiny, data=str(photos)), tmp_path)
    params = restore(tmp_path)
    assert equal(params, generator_params(state)) and equal(restore_state(tmp_path), state)
    images = sample(params, KEY, num=5)
    np.testing.assert_array_equal(sample(generator_params(state), KEY, num=5), images)
    np.testing.assert_allclose(sample(state, KEY, num=5), images, atol=0.02)  # BatchNorm from fewer latents
    z = jax.random.normal(KEY, (3, 8))
    assert decode(params, z).shape == (3, 16, 16, 3)
    assert jax.grad(lambda z: decode(params, z).sum())(z).shape == z.shape
    picture = show(images)
    assert picture.size == (3 * 18 + 2, 2 * 18 + 2)
    np.testing.assert_array_equal(np.asarray(picture)[2:18, 2:18], to_uint8(images[0]))
    np.testing.assert_array_equal(np.asarray(show(to_uint8(images), columns=5))[2:18, 20:36], to_uint8(images[1]))
    assert show(images[..., :1]).mode == "L"


def test_a_loop_of_ones_own_resumes_from_a_run(tiny, photos, images, tmp_path):
    fit(dataclasses.replace(tiny, data=str(photos)), tmp_path)
    state = restore_state(tmp_path, step=3)
    for _ in range(2):
        state, metrics = train_step(state, images, KEY)
    assert state.step == 5 and np.isfinite(metrics["loss_D"])


def test_blocks_and_features(images):
    assert GeneratorBlock(20).init_with_output(KEY, jnp.zeros((2, 16, 16, 3)), train=False)[0].shape == (2, 32, 32, 20)
    assert DiscriminatorBlock(20).init_with_output(KEY, images, train=False)[0].shape == (4, 8, 8, 20)
    D = Discriminator(width=4, image_size=16)
    variables = D.init(KEY, images, train=False)
    _, seen = D.apply(variables, images, train=False, capture_intermediates=True, mutable="intermediates")
    assert seen["intermediates"]["DiscriminatorBlock_1"]["__call__"][0].shape == (4, 4, 4, 8)


class Mine(nn.Module):
    """A generator without BatchNorm and of another architecture."""

    @nn.compact
    def __call__(self, z, *, train):
        return jnp.tanh(nn.Dense(16 * 16 * 3)(z)).reshape(-1, 16, 16, 3)


@pytest.mark.slow
def test_a_generator_and_a_loss_of_ones_own(tiny, photos, tmp_path):
    hinge = Objective(
        discriminator=lambda real, fake: nn.relu(1 - real).mean() + nn.relu(1 + fake).mean(),
        generator=lambda fake: -fake.mean(),
    )
    config = dataclasses.replace(tiny, data=str(photos))
    state = fit(config, tmp_path, generator=Mine(), objective=hinge)
    params = restore(tmp_path, generator=Mine())
    z = jax.random.normal(KEY, (2, 8))
    dense = state.ema["Dense_0"]
    by_hand = np.tanh(np.asarray(z) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])).reshape(2, 16, 16, 3)
    np.testing.assert_allclose(decode(params, z), by_hand, atol=1e-6)
    # At the start the logits of D are near 0, where the hinge loss is 2 and the cross-entropy log 2.
    _, metrics = train_step(create_state(config, objective=hinge), jnp.zeros((4, 16, 16, 3)), KEY)
    assert abs(metrics["loss_D"] - 2) < 0.1


def test_seeds_and_rates_compile_once(tiny, images):
    config = dataclasses.replace(tiny, width=6)  # which no other test has compiled
    losses, compiled = set(), [compilations()]
    for i in range(10):
        state = create_state(dataclasses.replace(config, seed=i, learning_rate=1e-4 * (i + 1)))
        for _ in range(3):
            state, metrics = train_step(state, images, KEY)
        losses.add(float(metrics["loss_D"]))
        compiled.append(compilations())
    assert len(losses) == 10
    assert compiled[1] >= compiled[0] + 2 and compiled[1:] == [compiled[1]] * 10


def test_the_learning_rate_of_the_configuration_is_used(tiny, images):
    moved = []
    for rate in (1e-4, 2e-4):
        state = create_state(dataclasses.replace(tiny, learning_rate=rate))
        before = np.array(state.generator.params["ConvTranspose_0"]["kernel"])
        state, _ = train_step(state, images, KEY)
        moved.append(np.abs(np.asarray(state.generator.params["ConvTranspose_0"]["kernel"]) - before).max())
    np.testing.assert_allclose(moved, [1e-4, 2e-4], rtol=1e-2)  # Adam's first step is its rate


def test_a_script_can_keep_what_it_compiles(tmp_path):
    code = """
import jax
from dcgan_jax import Config, cache_compilations, create_state
create_state(Config(image_size=16, width=4))
assert jax.config.jax_compilation_cache_dir is None  # the mathematics write no files
cache_compilations()
print(jax.config.jax_compilation_cache_dir)
"""
    environment = {"DCGAN_JAX_CACHE": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = python("-c", code, env=environment)
    assert done.stdout.startswith(str(tmp_path / "xla")), done.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda state, x: train_step(state, to_uint8(x).astype("int32"), KEY), r"floats in \[-1, 1\].*int32"),
        (lambda state, x: train_step(state, 127.5 * (x[:3] + 1.01), KEY), r"floats in \[-1, 1\]"),
        (lambda state, x: train_step(state, x.transpose(0, 3, 1, 2), KEY), r"shape \(batch, \*\(16, 16, 3\)\), not \(4, 3, 16, 16\)"),
        (lambda state, x: train_step(state, x[:, :8, :8], KEY), r"\(16, 16, 3\)\), not \(4, 8, 8, 3\)"),
        (lambda state, x: train_step(state, x, 0), r"jax.random.key\(0\), not 0"),
        (lambda state, x: sample(state, 0), r"jax.random.key\(0\), not 0"),
        (lambda state, x: sample(state.generator.params, KEY), "restore.workdir. or generator_params.state. returns, not dict"),
        (lambda state, x: sample(state, KEY, num=0), "num 0 must be at least 1"),
        (lambda state, x: decode(state, jnp.zeros((2, 9))), r"shape \(N, 8\), not \(2, 9\)"),
        (lambda state, x: Generator(image_size=52), "image_size 52.* 48 .*56"),
        (lambda state, x: Discriminator(image_size=52), "image_size 52.* 48 .*56"),
        (lambda state, x: show(x[0]), r"shape \(N, H, W, .*, not \(16, 16, 3\)"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_refused_with_a_sentence(tiny, images, wrong, message):
    with pytest.raises(InputError, match=message):
        wrong(create_state(tiny), images)


def test_a_sweep_that_survives_errors_stops_when_it_is_told_to():
    assert not issubclass(Stopped, Exception)


def test_states_are_shown_in_a_line(tiny):
    state = create_state(tiny)
    for thing in (state, state.generator, generator_params(state)):
        assert len(repr(thing)) < 250 and "parameters" in repr(thing)


def test_pixels_go_there_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    np.testing.assert_array_equal(to_uint8(from_uint8(pixels)), pixels)
    assert Config().width == 64
