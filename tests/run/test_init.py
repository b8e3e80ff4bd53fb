"""Starting from a model: what is taken, what is refused, and that nothing of it is needed later."""

import contextlib
import dataclasses
import hashlib
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
from helpers import Even, Sum, equal, metrics_of

from dcgan_jax import (
    Config,
    InputError,
    create_state,
    export,
    fit,
    open_store,
    recipe,
    report,
    restore,
    restore_state,
    sample,
    save,
)
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.classes import Classes
from dcgan_jax.run.init import start_from
from dcgan_jax.run.init_classes import class_rows
from dcgan_jax.share.portable import to_safetensors

KEY = jax.random.key(0)
FIGURES = ("kid", "fd", "precision", "recall", "coverage", "diversity")


@pytest.fixture(scope="module")
def config(photos):
    return Config(
        data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4,
        steps=4, log_every=2, sample_every=4, checkpoint_every=2, evaluate_every=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(config, tmp_path_factory):
    """A run of four steps, evaluated after two and four."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    fit(config, workdir)
    return workdir


@pytest.fixture(scope="module")
def begun(config, source, tmp_path_factory):
    """Three steps from it."""
    workdir = tmp_path_factory.mktemp("begun") / "run"
    return fit(dataclasses.replace(config, init=str(source), steps=3, seed=1), workdir), workdir


def started(config, source):
    """What is read of a model, and a run's first state before and after."""
    config = dataclasses.replace(config, init=str(source))
    start, state = start_from(config, jax.eval_shape(lambda: create_state(config))), create_state(config)
    return start.record, state, start.state(state)


def test_it_starts_with_the_averaged_weights_of_the_best_step_and_all_else_anew(source, begun):
    best, state = restore(source), restore_state(begun[1], 0)
    saved = restore_state(source, int(best.step))
    assert equal(state.ema, best.params) and equal(state.generator.params, best.params)
    assert not equal(best.params, saved.generator.params)  # which are not the averaged ones
    assert equal(state.discriminator.params, saved.discriminator.params)
    assert equal(state.discriminator.batch_stats, saved.discriminator.batch_stats)
    assert equal(state.generator.batch_stats, generator_params(saved, num=1024).batch_stats)
    moments = [*jax.tree.leaves(state.generator.opt_state), *jax.tree.leaves(state.discriminator.opt_state)]
    assert state.step == 0 and not any(np.any(leaf) for leaf in moments)
    assert equal(sample(restore(begun[1], 0), KEY, 4), sample(best, KEY, 4))
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(begun[0].ema["ConvTranspose_0"]["kernel"], state.ema["ConvTranspose_0"]["kernel"])


def test_its_first_evaluation_is_that_of_the_source(source, begun):
    best = int(restore(source).step)
    (theirs,) = [line for line in metrics_of(source) if line["step"] == best]
    first = metrics_of(begun[1])[0]
    assert first["step"] == 0 and "loss_D" not in first
    assert [first[name] for name in FIGURES] == [theirs[name] for name in FIGURES]
    other = metrics_of(begun[1])[-1]
    assert other["step"] == 3 and other["kid"] != first["kid"]


def test_the_run_says_what_it_started_from(source, begun):
    record = json.loads((begun[1] / "init.json").read_text())
    step = int(restore(source).step)
    assert (record["source"], record["step"], record["anew"]) == (str(source), step, [])
    assert record["taken"] == ["generator", "discriminator"]
    assert hashlib.sha256((source / record["file"]).read_bytes()).hexdigest() == record["sha256"]
    assert record["file"] == f"checkpoints/{step}/manifest.json"


def test_the_average_soon_forgets_the_model(begun):
    """As it forgets random weights: with a half-life of ema_half_life images it would draw the model's pictures still."""
    start, average = (restore_state(begun[1], step).ema["ConvTranspose_0"]["kernel"] for step in (0, 2))
    weights = restore_state(begun[1], 2).generator.params["ConvTranspose_0"]["kernel"]
    assert np.abs(average - weights).max() < 0.01 * np.abs(weights - start).max()


@pytest.mark.parametrize("cut", [0, 2])
def test_a_run_that_ended_early_goes_on_to_the_same_end_without_the_source(cut, config, source, begun, tmp_path):
    moved = shutil.copytree(source, tmp_path / "source")

    def fail(step, metrics, _):
        if step == cut and metrics:
            raise OSError("the end")

    config = dataclasses.replace(config, init=str(moved), steps=3, seed=1)
    with pytest.raises(OSError, match="the end"):
        fit(config, tmp_path / "run", on_log=fail)
    shutil.rmtree(moved)
    if cut == 0:  # as if it had been killed before the model was measured
        (tmp_path / "run" / "metrics.jsonl").unlink()
    assert equal(fit(config, tmp_path / "run"), begun[0])
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (begun[1] / "metrics.jsonl").read_bytes()


def test_another_source_is_refused_when_it_goes_on(config, begun):
    with pytest.raises(InputError, match=r"another configuration: init \(.*other"):
        fit(dataclasses.replace(config, init="other", seed=1), begun[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 8}, r"its generator and discriminator have width 4: give --width 4, or --init-partly"),
        ({"image_size": 32, "width": 2}, r"have image_size 16, width 4: give --image-size 16 --width 4, or"),
        ({"channels": 1}, r"have channels 3: give --channels 3, or"),
        ({"latent_dim": 9}, r"its generator has latent_dim 8: give --latent-dim 8, or"),
        ({"latent": "uniform"}, r"its generator has latent normal: give --latent normal, or"),
        ({"discriminator_norm": "spectral"}, r"its discriminator has discriminator_norm batch: give --disc"),
        ({"extra_convs": 1}, r"its discriminator has extra_convs 0: give --extra-convs 0, or"),
        ({"first_batchnorm": True}, r"discriminator has first_batchnorm False: give --no-first-batchnorm, or"),
        ({"leaky_slope": 0.1}, r"its discriminator has leaky_slope 0.2: give --leaky-slope 0.2, or"),
        ({"freeze_layers": 3}, r"freeze_layers 3 is more than the discriminator's 2 blocks"),
        ({"init": "nowhere"}, r"nowhere/config.json does not exist"),
        ({"init": "nowhere.safetensors"}, r"nowhere.safetensors does not exist"),
        ({"init": "", "freeze_layers": 1}, r"freeze_layers 1 does nothing without --init"),
        ({"init": "", "init_partly": True}, r"init_partly does nothing without --init"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(config, source, tmp_path, changes, message):
    changes = {"init": str(source), **changes}
    with pytest.raises(InputError, match=message) as refused:
        fit(dataclasses.replace(config, **changes), tmp_path / "run")
    assert len(str(refused.value).splitlines()) == 1 and not (tmp_path / "run").exists()


def test_another_recipe_is_named_by_its_flag(config, source, tmp_path):
    changes = {name: getattr(config, name) for name in ("data", "image_size", "width", "latent_dim", "batch_size")}
    with pytest.raises(InputError, match="has discriminator_norm batch: give --recipe classic, or --init-partly"):
        fit(recipe("robust", init=str(source), **changes), tmp_path / "run")


def test_layers_that_fit_are_taken_if_asked_for(config, source):
    """Twice the size with half the width: the generator has the same layers from 4x4 on, and one more behind them."""
    trained = restore_state(source, int(restore(source).step))
    config = dataclasses.replace(config, image_size=32, width=2, init_partly=True)
    record, before, state = started(config, source)
    assert "generator/GeneratorBlock_1/ConvTranspose_0" not in record.anew and record.taken[0] == "generator"
    assert {"generator/GeneratorBlock_2/ConvTranspose_0", "discriminator/DiscriminatorBlock_0/Conv_0"} <= {*record.anew}
    for block in ("GeneratorBlock_0", "GeneratorBlock_1"):
        assert equal(state.generator.params[block], trained.ema[block]) and equal(state.ema[block], trained.ema[block])
    for part in ("GeneratorBlock_2", "ConvTranspose_0"):
        assert equal(state.generator.params[part], before.generator.params[part])
        assert equal(
            state.discriminator.params["DiscriminatorBlock_1"], before.discriminator.params["DiscriminatorBlock_1"]
        )


def test_no_layer_at_all_is_refused(config, source):
    with pytest.raises(InputError, match="has no layer that fits the networks of this run"):
        started(dataclasses.replace(config, channels=1, width=8, init_partly=True), source)


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    """The generator of the source as a file."""
    pytest.importorskip("safetensors")
    return export(source, tmp_path_factory.mktemp("file"), formats=("safetensors",))[0]


def test_a_file_has_the_generator_and_the_discriminator_starts_anew(config, source, file):
    record, before, state = started(config, file)
    best = restore(source)
    assert (record.taken, record.step, record.file) == (["generator"], int(best.step), "generator.safetensors")
    assert record.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert {layer.split("/")[0] for layer in record.anew} == {"discriminator"}
    assert equal(state.ema, best.params) and equal(state.discriminator, before.discriminator)
    with pytest.raises(InputError, match="its generator has width 4: give --width 4, or --init-partly"):
        started(dataclasses.replace(config, width=8), file)
    with pytest.raises(InputError, match="is no run, but what export wrote: give .*generator.safetensors"):
        started(config, file.parent)
    with pytest.raises(InputError, match="freeze_layers 1 would freeze random weights: .*generator.safetensors has no"):
        started(dataclasses.replace(config, freeze_layers=1), file)


@pytest.mark.parametrize("of_file", [False, True])
def test_models_from_before_self_modulation_are_refused_with_flags_that_fit(of_file, config, tmp_path):
    pytest.importorskip("safetensors")
    names = ("data", "image_size", "width", "latent_dim", "batch_size")
    now = recipe("projected", **{name: getattr(config, name) for name in names}, features_size=32)
    then, model = dataclasses.replace(now, self_modulation=False), tmp_path / "run"
    with contextlib.closing(open_store(then)) as store:
        save(
            create_state(then).replace(step=1), model, config=then, store=store, metrics={"loss_D": 0.5, "loss_G": 0.5}
        )
    if of_file:
        model = export(model, tmp_path / "file", formats=("safetensors",), discriminator=True)[0]
    with pytest.raises(InputError, match="its generator has self_modulation False: give --no-self-modulation, or"):
        started(now, model)
    assert not started(then, model)[0].anew
    with pytest.raises(InputError, match="give --recipe projected --no-self-modulation.*, or --init-partly"):
        started(dataclasses.replace(config, data=then.data), model)


def test_frozen_blocks_stay_and_the_others_move(config, source, begun, tmp_path):
    config = dataclasses.replace(config, init=str(source), steps=3, seed=1, freeze_layers=1, evaluate_every=0)
    before, after = (begun[1], 0), fit(config, tmp_path).discriminator.params
    before = restore_state(*before).discriminator.params
    assert equal(after["DiscriminatorBlock_0"], before["DiscriminatorBlock_0"])
    others = {name: leaves for name, leaves in after.items() if name != "DiscriminatorBlock_0"}
    moved = jax.tree.map(lambda new, old: np.any(new != old), others, {name: before[name] for name in others})
    assert len(others) == 2 and all(jax.tree.leaves(moved))
    assert not equal(begun[0].discriminator.params["DiscriminatorBlock_0"], before["DiscriminatorBlock_0"])


def test_a_file_with_the_discriminator_starts_as_the_run_does(config, source, file, tmp_path):
    (both,) = export(source, tmp_path, formats=("safetensors",), discriminator=True)
    record, _, state = started(config, both)
    _, _, ours = started(config, source)
    assert record.taken == ["generator", "discriminator"] and not record.anew and equal(state, ours)
    assert equal(sample(restore(both), KEY, 2), sample(restore(file), KEY, 2))
    with pytest.raises(InputError, match="discriminator has discriminator_norm batch: give --recipe classic, or"):
        changes = {name: getattr(config, name) for name in ("data", "image_size", "width", "latent_dim")}
        started(recipe("robust", **changes), both)


def test_float16_is_half_as_large_and_statistics_stay_float32(source, file, tmp_path):
    (half,) = export(source, tmp_path, formats=("safetensors",), precision="float16")
    weights, rounded = restore(file), restore(half)
    for ours, theirs in zip(jax.tree.leaves(rounded.params), jax.tree.leaves(weights.params), strict=True):
        assert np.array_equal(ours, np.asarray(theirs, np.float16).astype(np.float32)) and ours.dtype == np.float32
    assert equal(rounded.batch_stats, weights.batch_stats)
    assert not equal(rounded.params, weights.params) and half.stat().st_size < 0.8 * file.stat().st_size
    np.testing.assert_allclose(sample(rounded, KEY, 2), sample(weights, KEY, 2), atol=0.02)


def test_what_only_a_safetensors_file_holds_is_refused_for_others(source, tmp_path):
    for wrong, message in (
        ({"discriminator": True}, "--discriminator is for generator.safetensors"),
        ({"precision": "float16"}, "--precision float16 is for generator.safetensors"),
        ({"precision": "float8"}, "precision 'float8' is unknown: choose float32 or float16"),
    ):
        with pytest.raises(InputError, match=message):
            export(source, tmp_path / "out", formats=("html",), **wrong)
    assert not (tmp_path / "out").exists()


def test_the_report_and_the_file_say_where_it_started(source, begun, tmp_path):
    record = json.loads((begun[1] / "init.json").read_text())
    page = report(begun[1], out=tmp_path / "report.html").read_text()
    assert f"run (step {record['step']}, SHA-256 {record['sha256']} of {record['file']})" in page
    assert str(source.parent) not in page  # no path of this machine
    (file,) = export(begun[1], tmp_path, formats=("safetensors",))
    with safetensors.safe_open(file, "np") as opened:
        assert record["sha256"] in json.loads(opened.metadata()["dcgan_jax"])["init"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("projected", {"precision": "bf16"}),
        pytest.param("sn", {}, marks=pytest.mark.slow),
        ("classic", {"conditional": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_networks_of_all_recipes_are_taken(name, changes, config, tmp_path):
    sizes = {field: getattr(config, field) for field in ("data", "image_size", "width", "latent_dim", "batch_size")}
    ours = recipe(name, **sizes, **changes)
    with contextlib.closing(open_store(ours)) as store:
        trained, classes = create_state(ours, classes=store.classes).replace(step=1), store.classes
        save(trained, tmp_path / "run", config=ours, store=store, metrics={"loss_D": 0.5, "loss_G": 0.5})
    new = dataclasses.replace(ours, seed=1, init=str(tmp_path / "run"))
    start = start_from(new, jax.eval_shape(lambda: create_state(new, classes=classes)))
    assert (start.record.taken, start.record.anew) == ([*trained.networks], [])
    state = start.state(create_state(new, classes=classes))
    for network, mine in state.networks.items():
        assert equal(mine.params, trained.networks[network].params), network
        assert network == "generator" or equal(mine.batch_stats, trained.networks[network].batch_stats)
    if name == "classic":
        with pytest.raises(InputError, match="have conditional True: give --conditional, or --init-partly"):
            other = dataclasses.replace(new, conditional=False)
            start_from(other, jax.eval_shape(lambda: create_state(other)))


@pytest.mark.parametrize("of_file", [False, True])
def test_features_are_seen_at_the_size_of_the_model(of_file, config, tmp_path):
    small = {field: getattr(config, field) for field in ("data", "image_size", "width", "latent_dim", "batch_size")}
    ours = recipe("projected", **small, steps=1, evaluate_every=0)
    model = tmp_path / "run"
    fit(dataclasses.replace(ours, features_size=64), model)
    if of_file:
        (model,) = export(model, tmp_path, formats=("safetensors",), discriminator=True)
    fit(dataclasses.replace(ours, init=str(model)), tmp_path / "new")
    assert json.loads((tmp_path / "new" / "config.json").read_text())["features_size"] == 64
    taken = json.loads((tmp_path / "new" / "init.json").read_text())["taken"]
    assert taken == ["generator", "discriminator", "heads"]


class Deep(nn.Module):
    """A discriminator of more blocks than the built-in one has at 16x16."""

    blocks = ("one", "two", "three")

    @nn.compact
    def __call__(self, x, *, train):
        x = x.reshape(len(x), -1)
        for name in self.blocks:
            x = nn.Dense(2, name=name)(x)
        return x.sum(1)


@pytest.mark.slow
def test_a_run_whose_own_blocks_are_frozen_is_read_without_them(config, tmp_path):
    plain, own = dataclasses.replace(config, steps=2, evaluate_every=0), {"generator": Even(), "discriminator": Deep()}
    fit(plain, tmp_path / "own", **own)
    frozen = dataclasses.replace(plain, init=str(tmp_path / "own"), freeze_layers=3)
    state = fit(frozen, tmp_path / "run", **own)
    assert equal(restore(tmp_path / "run", "newest", generator=Even()).params, state.ema)


@pytest.fixture(scope="module")
def conditional(config, tmp_path_factory):
    """A state of the classes even and odd, its settings, its run, and a file with its generator."""
    sizes = {field: getattr(config, field) for field in ("data", "image_size", "width", "latent_dim", "batch_size")}
    ours, folder = recipe("classic", **sizes, conditional=True), tmp_path_factory.mktemp("conditional")
    with contextlib.closing(open_store(ours)) as store:
        state = create_state(ours, classes=store.classes).replace(step=1)
        save(state, folder / "run", config=ours, store=store, metrics={"loss_D": 0.5, "loss_G": 0.5})
    file = folder / "generator.safetensors"
    file.write_bytes(to_safetensors(generator_params(state, ema=False), {}))
    return state, dataclasses.replace(ours, seed=1), (folder / "run", file)


def started_with(names, config, source, **changes):
    """What is read of a model for a run with these classes, and the run's first state before and after."""
    new, classes = dataclasses.replace(config, init=str(source), **changes), Classes(names, (6,) * len(names))
    start = start_from(new, jax.eval_shape(lambda: create_state(new, classes=classes)))
    state = create_state(new, classes=classes)
    return start.record, state, start.state(state)


def of_class(state, name):
    """The weights of a class: its row of the generator's first matrix, and what it adds to the logit of all."""
    label, kernel = state.classes.label(name), state.ema["GeneratorBlock_0"]["ConvTranspose_0"]["kernel"]
    both = kernel, state.discriminator.params["kernel"]
    return tuple(array[..., -len(state.classes) :][..., label] for array in both)


def test_classes_are_matched_by_their_names(conditional):
    trained, config, (run, _) = conditional
    _, _, state = started_with(("odd", "even"), config, run)
    z, images = jax.random.normal(KEY, (2, 8)), jax.random.uniform(KEY, (2, 16, 16, 3))
    drawn, logits = {}, {}
    for one in (trained, state):
        for name in one.classes.names:
            labels = jnp.full(2, one.classes.label(name))
            drawn[one is state, name] = one.generator(one.classes.beside(z, labels), params=one.ema)[0]
            logits[one is state, name] = one.classes.chosen(one.discriminator(images, train=False)[0], labels)
    for made in (drawn, logits):
        for name in ("odd", "even"):
            np.testing.assert_allclose(made[True, name], made[False, name], rtol=1e-4, atol=1e-5)
        assert not np.allclose(made[True, "odd"], made[False, "even"], rtol=1e-3)


def test_classes_that_the_model_lacks_start_anew_if_asked_for(conditional):
    trained, config, sources = conditional
    names = ("new", "odd", "other", "even")
    for source in sources:
        with pytest.raises(
            InputError, match="has the classes even, odd, not new, other: call .* or give --init-partly"
        ):
            started_with(names, config, source)
        record, before, state = started_with(names, config, source, init_partly=True)
        assert (
            record.classes_anew == ["new", "other"] and "generator/GeneratorBlock_0/ConvTranspose_0" not in record.anew
        )
        networks = slice(0, 1 + ("discriminator" in record.taken))
        for name in names:
            then = trained if name in ("odd", "even") else before
            assert equal(of_class(state, name)[networks], of_class(then, name)[networks]), name
    record, _, state = started_with(("odd", "even"), config, sources[1])  # the file
    assert record.classes_anew == [] and equal(of_class(state, "odd")[0], of_class(trained, "odd")[0])


def test_a_model_may_have_more_classes_than_a_run(conditional, tmp_path):
    _, config, _ = conditional
    source = create_state(config, classes=Classes(("c", "b", "a"), (1, 2, 3)))
    (tmp_path / "generator.safetensors").write_bytes(to_safetensors(generator_params(source, ema=False), {}))
    record, _, state = started_with(("a", "b"), config, tmp_path / "generator.safetensors")
    assert "generator" in record.taken and record.classes_anew == []
    for name in "ab":
        assert equal(of_class(state, name)[0], of_class(source, name)[0])


def test_latent_numbers_are_not_taken_for_classes(conditional, tmp_path):
    """10 latent numbers make a first matrix of the same shape as 8 and two classes."""
    _, config, (_, file) = conditional
    plain = dataclasses.replace(config, conditional=False, latent_dim=config.latent_dim + 2)
    other = tmp_path / "generator.safetensors"
    other.write_bytes(to_safetensors(generator_params(create_state(plain), ema=False), {}))
    for names, new, source, what in (
        (("even", "odd"), config, other, "latent_dim 10, conditional False: give --latent-dim 10 --no-conditional"),
        ((), plain, file, "latent_dim 8, conditional True: give --latent-dim 8 --conditional"),
    ):
        with pytest.raises(InputError, match=f"its generator has {what}, or --init-partly"):
            started_with(names, new, source)
        record, before, state = started_with(names, new, source, init_partly=True)
        assert "generator/GeneratorBlock_0/ConvTranspose_0" in record.anew and record.classes_anew == []
        assert equal(
            state.ema["GeneratorBlock_0"]["ConvTranspose_0"], before.ema["GeneratorBlock_0"]["ConvTranspose_0"]
        )


def test_all_arrays_of_all_networks_that_have_numbers_for_each_class_are_told(config):
    changes = {"discriminator_norm": "spectral", "init": "other", "image_size": 16, "conditional": True}
    ours, classes = recipe("projected", **changes), Classes(("a", "b"), (1, 1))
    state = jax.eval_shape(lambda: create_state(ours, classes=classes))
    rows = class_rows(ours, state, ("b", "a"), set(state.networks))
    dense = {f"heads/params/Dense_{i}/{leaf}" for i in (1, 3, 5, 7) for leaf in ("kernel", "bias")}
    own = {f"discriminator/{leaf}" for leaf in ("params/kernel", "params/bias", "batch_stats/u")}
    generator = {"ema/GeneratorBlock_0/ConvTranspose_0/kernel", "ema/Hidden_0/kernel"}
    assert rows.arrays == generator | own | dense


def test_classes_in_another_order_are_refused_where_networks_are_your_own(conditional):
    _, config, (run, _) = conditional
    shapes = jax.eval_shape(lambda: create_state(config, classes=Classes(("odd", "even"), (6, 6))))
    shapes = shapes.replace(discriminator=shapes.discriminator.replace(module=Sum()))
    with pytest.raises(InputError, match="which weights of a discriminator of your own belong to which is not known"):
        start_from(dataclasses.replace(config, init=str(run)), shapes)


@pytest.mark.slow
def test_networks_of_your_own_are_taken_by_their_names_alone(config, tmp_path):
    plain = dataclasses.replace(config, steps=2, evaluate_every=0)
    own = {"generator": Even(), "discriminator": Sum()}
    trained = fit(plain, tmp_path / "own", **own)
    new = dataclasses.replace(plain, init=str(tmp_path / "own"), seed=1)
    fit(new, tmp_path / "run", **own)
    assert equal(restore_state(tmp_path / "run", 0, **own).ema, trained.ema)
    with pytest.raises(
        InputError, match="its generator and discriminator have no ema/ConvTranspose_0/kernel: give --in"
    ):
        fit(new, tmp_path / "other")
