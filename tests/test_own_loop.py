"""Training loops of one's own: that of the docs, and what ``save`` and ``resume`` take and refuse."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import equal, metrics_of

from dcgan_jax import (
    InputError,
    NonFiniteError,
    animate,
    create_state,
    export,
    fit,
    generate,
    open_store,
    report,
    restore,
    restore_state,
    resume,
    save,
)

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "own-loop.md"
LOSSES = {"loss_D": 0.5, "loss_G": 1.5}


def blocks():
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)


def lines(code):
    return [line for line in code.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def script(photos, workdir, *, steps):
    """The code of the docs with tiny settings."""
    settings = (
        f'data="{photos}", image_size=16, width=4, latent_dim=8, batch_size=4, checkpoint_every=2, augment="off", '
    )
    code = "".join(blocks()).replace('data="sprites", steps=20_000, ', f"{settings}steps={steps}, ")
    code = code.replace('evaluate("runs/wgan")', 'evaluate("runs/wgan", num=6)')
    assert "steps=20_000" not in code and code.count('"runs/wgan"') == 3
    return code.replace('"runs/wgan"', repr(str(workdir)))


@pytest.fixture(scope="module")
def wgan(photos, tmp_path_factory):
    """A run by the code of the docs, stopped after 2 of 4 steps, and the names that its script has at its end."""
    workdir, names = tmp_path_factory.mktemp("wgan") / "run", {}
    exec(script(photos, workdir, steps=2), {})
    exec(script(photos, workdir, steps=4), names)
    return workdir, names


def test_the_loop_of_the_docs_is_short_and_its_critic_takes_five_steps(photos, wgan):
    assert len(lines(blocks()[1])) < 25
    workdir, names = wgan
    state = restore_state(workdir)
    assert state.step == 4 and state.discriminator.opt_state[0].count == 20 and state.generator.opt_state[0].count == 4
    assert [line["step"] for line in metrics_of(workdir)] == [2, 4]


def test_a_loop_that_is_resumed_ends_as_one_that_never_stopped(photos, wgan, tmp_path):
    exec(script(photos, tmp_path / "run", steps=4), {})
    assert equal(restore_state(tmp_path / "run"), restore_state(wgan[0]))
    assert metrics_of(tmp_path / "run") == metrics_of(wgan[0])


def test_the_penalty_is_that_of_the_paper_by_finite_differences(wgan):
    """The loss is linear in 10 times (|slope| - 1)^2; the slope of an image by its change along its own gradient."""
    names = wgan[1]
    state, key = create_state(names["config"]), jax.random.key(3)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    loss = names["critic_step"](state, pixels, key)[1]
    D, real = state.discriminator, pixels / np.float32(127.5) - 1
    fake = np.asarray(state.generator(state.latent.draw(key, 4))[0])
    share = np.asarray(jax.random.uniform(jax.random.fold_in(key, 1), (4, 1, 1, 1)))
    mixed, judge = real + share * (fake - real), lambda x: np.asarray(D(x)[0]).ravel()
    gradient = np.asarray(jax.vmap(jax.grad(lambda x: D(x[None])[0].sum()))(mixed))
    unit = gradient / np.sqrt(np.square(gradient).sum((1, 2, 3), keepdims=True))
    slopes = (judge(mixed + 0.01 * unit) - judge(mixed - 0.01 * unit)) / 0.02
    wanted = judge(fake).mean() - judge(real).mean() + 10 * np.square(slopes - 1).mean()
    np.testing.assert_allclose(loss, wanted, rtol=2e-2)


def test_all_that_takes_a_run_takes_its_folder(wgan, tmp_path):
    workdir = wgan[0]
    assert restore(workdir).step == 4
    assert json.loads((workdir / "evaluation.json").read_text())[-1]["step"] == 4  # the last line of the docs
    assert len(generate(workdir, tmp_path / "pictures", num=2).files) == 2
    assert animate(workdir, tmp_path / "training.gif", what="training", seconds=0.2).stat().st_size
    assert export(workdir, tmp_path / "shared", formats=["html"])[0].exists()
    page = report(workdir).read_text()
    assert "No generator to draw with" not in page and "4 of 4 steps" in page
    assert {"reals.png", "step_000002.png", "step_000004.png"} <= {
        path.name for path in (workdir / "samples").iterdir()
    }
    config = wgan[1]["config"]
    assert fit(dataclasses.replace(config, steps=5), workdir).step == 5


@pytest.fixture
def own(tiny, photos):
    config = dataclasses.replace(tiny, data=str(photos), augment="off")
    with contextlib.closing(open_store(config)) as store:
        yield config, store, create_state(config)


def test_what_cannot_be_resumed_is_not_saved(own, tmp_path):
    config, store, state = own
    to = {"config": config, "store": store, "metrics": LOSSES}
    for changed, error, message in (
        ({"metrics": {"loss_D": 1.0}}, InputError, "metrics hold no loss_G"),
        ({"metrics": {**LOSSES, "slope": float("nan")}}, NonFiniteError, "step 0: slope not finite"),
        ({"config": dataclasses.replace(config, width=8)}, InputError, "the configuration that it was made of"),
        ({"config": dataclasses.replace(config, init="model")}, InputError, "init and freeze_layers are for fit"),
        ({"config": dataclasses.replace(config, discriminator_norm="none")}, InputError, "the configuration that it"),
    ):
        with pytest.raises(error, match=message):
            save(state, tmp_path / "run", **{**to, **changed})
    bad = state.replace(ema=jax.tree.map(lambda x: x * np.nan, state.ema))
    with pytest.raises(NonFiniteError, match="the state of the ema"):
        save(bad, tmp_path / "run", **to)
    assert not (tmp_path / "run").exists()
    assert resume(tmp_path / "run", state) is state


def test_a_saved_step_is_not_written_over(own, tmp_path):
    config, store, state = own
    to = {"config": config, "store": store, "metrics": LOSSES}
    first = state.replace(step=state.step + 2)
    save(first, tmp_path / "run", **to)
    again = resume(tmp_path / "run", state)
    assert equal(again, first)
    for late in (state.replace(step=state.step + 1), first):
        with pytest.raises(InputError, match=r"has a checkpoint of step 2 already, and this is step .: continue"):
            save(late, tmp_path / "run", **to)
    with pytest.raises(InputError, match="another configuration: seed"):
        save(
            again.replace(step=again.step + 1),
            tmp_path / "run",
            **{**to, "config": dataclasses.replace(config, seed=1)},
        )
    (tmp_path / "run" / "metrics.jsonl").write_text("")  # as of a process that was killed before its line
    save(again.replace(step=again.step + 1), tmp_path / "run", **to)
    assert metrics_of(tmp_path / "run") == [{"step": 2, **LOSSES}, {"step": 3, **LOSSES}]
    assert restore_state(tmp_path / "run", 2).step == 2


def test_fit_goes_on_from_a_loop_that_was_killed_before_it_logged_its_last_save(own, tmp_path):
    config, store, state = own
    to = {"config": dataclasses.replace(config, steps=24), "store": store, "metrics": LOSSES}
    for step in (0, 20, 23):  # a count of Python's; lines are further apart than log_every
        save(state.replace(step=step), tmp_path / "run", **to)
    with pytest.raises(InputError, match="has a checkpoint of step 0 already, and this is step 0"):
        save(state, tmp_path / "other", **to)
        save(state, tmp_path / "other", **to)  # a loop that forgets to count
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert int(fit(to["config"], tmp_path / "run").step) == 24
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == [0, 20, 24]  # fit logs every other step
    assert not (tmp_path / "run" / "damaged").exists()
