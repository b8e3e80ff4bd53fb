"""What a start says and shows, and in which order."""

import dataclasses
import threading

import jax
import pytest
from helpers import python

from dcgan_jax.config import Config
from dcgan_jax.run import fit as fitting
from dcgan_jax.run import loop

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **about: (
        compiled.append((about["fun_name"], threading.current_thread().name))
        if event.endswith("/backend_compile_duration")
        else None
    )
)


@pytest.mark.parametrize("resumed", [False, True])
def test_the_first_line_comes_before_jax_is_imported(resumed, tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError('too early')")
    (run := tmp_path / "run").mkdir()
    if resumed:
        (run / "config.json").write_text(Config().to_json())
    done = python("-m", "dcgan_jax.train", "--workdir", run, variables={"PYTHONPATH": str(tmp_path)})
    assert "too early" in done.stderr and done.stderr.startswith("starting: "), done.stderr


def test_the_images_are_shown_before_the_weights_are_made_and_noise_before_the_first_step(
    photos, tiny, tmp_path, monkeypatch
):
    seen = []

    def watch(module, name):
        real = getattr(module, name)

        def watched(*arguments, **named):
            seen.append((name, sorted(path.name for path in tmp_path.rglob("*.png"))))
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, watched)

    watch(fitting, "create_state")  # the first call asks for shapes only
    watch(loop, "train_step")
    fitting.fit(dataclasses.replace(tiny, data=str(photos), steps=1), tmp_path)
    assert seen == [
        ("create_state", []),
        ("create_state", ["reals.png"]),
        ("train_step", ["reals.png", "step_000000.png"]),
    ]


@pytest.mark.parametrize("changes", [{"latent_dim": 9}, {"latent_dim": 10, "dispatch": "several"}])
def test_the_step_is_compiled_once_while_the_images_are_decoded(changes, photos, tiny, tmp_path):
    compiled.clear()
    fitting.fit(dataclasses.replace(tiny, data=str(photos), steps=2, **changes), tmp_path)
    name = "jit(_steps)" if "dispatch" in changes else "jit(step)"
    assert [where for what, where in compiled if what == name] == ["compile_0"]
