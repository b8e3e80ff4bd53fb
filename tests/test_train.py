"""The commands, by subprocess and in this process."""

import dataclasses
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from helpers import metrics_of, python
from PIL import Image

from dcgan_jax import restore, sample
from dcgan_jax.config import Config
from dcgan_jax.run.fit import fit
from dcgan_jax.system.errors import InputError

TINY = "--recipe classic --image-size 16 --width 4 --latent-dim 8 --batch-size 4 --log-every 2 --input numpy --sample-every 3 --checkpoint-every 3".split()


def command(module, *arguments):
    return python("-m", f"dcgan_jax.{module}", *arguments)


def refused(done, message):
    """One line on stderr after the first, the remedy in it, and exit code 2."""
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if line and "img/s" not in line]
    assert done.stdout == "" and len([line for line in said if not line.startswith("starting: ")]) == 1
    assert re.search(message, done.stderr), done.stderr
    return True


def test_train_resume_generate(photos, tmp_path):
    workdir = tmp_path / "deep" / "run"
    first = command("train", "--workdir", workdir, "--data", photos, "--steps", 6, *TINY)
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(
        r"loss_D \d+\.\d{3}, loss_G \d+\.\d{3}, \d+\.\d examples/sec on cpu:0", first.stdout.splitlines()[-3]
    )
    plain = (
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d step 6 of 6: loss_D \d+\.\d{3}, loss_G \d+\.\d{3}, \d+\.\d img/s, 00:00 left\n"
    )
    assert "\r" not in first.stderr and re.search(plain + "$", first.stderr), first.stderr
    names = {str(path.relative_to(workdir)) for path in workdir.rglob("*") if path.parts[-2] != "tensorboard"}
    wanted = {"config.json", "metrics.jsonl", "progress.png", "samples/reals.png", "checkpoints/6", "tensorboard"}
    assert wanted | {f"samples/step_{step:06d}.png" for step in (0, 3, 6)} <= names
    with Image.open(workdir / "samples" / "reals.png") as reals:
        assert reals.size == (5 * 18 + 2, 3 * 18 + 2)  # 12 images, in rows of five

    second = command("train", "--workdir", workdir, "--data", photos, "--steps", 8, *TINY)
    assert second.returncode == 0, second.stderr
    assert f"resuming from step 6 of {workdir}" in second.stdout
    assert [line["step"] for line in metrics_of(workdir)] == [2, 4, 6, 8]
    assert Config.load(workdir / "config.json").steps == 8

    third = command("train", "--workdir", workdir, "--data", photos, "--steps", 5, *TINY)
    assert third.returncode == 0 and "nothing left to do" in third.stdout
    assert Config.load(workdir / "config.json").steps == 8

    other = command("train", "--workdir", workdir, "--data", photos, "--steps", 8, *TINY, "--width", 8, "--seed", 1)
    assert refused(other, r"another configuration: width \(8, was 4\), seed \(1, was 0\); leave these flags out")

    out = tmp_path / "pictures"
    done = command("generate", "--workdir", workdir, "--num", 5, "--seed", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == [*(f"0000{i}.png" for i in range(5)), "grid.png"]
    images = sample(restore(workdir), jax.random.key(1), num=5)
    with Image.open(out / "00003.png") as picture:
        np.testing.assert_allclose(np.asarray(picture) / 127.5 - 1, images[3], atol=0.5 / 127.5 + 1e-5)


def test_epochs_become_steps(photos, tiny, tmp_path, capsys):
    """12 images in batches of 5: two epochs are 24 images, which is less than five batches; four extend it to 48."""
    config = dataclasses.replace(tiny, data=str(photos), batch_size=5, steps=1)
    assert fit(config, tmp_path / "run", epochs=2).step == 5
    assert "epochs 2: 5 steps of 5 of the 12 images to train on\n" in capsys.readouterr().out
    assert Config.load(tmp_path / "run" / "config.json") == dataclasses.replace(config, steps=5)
    done = command("train", "--workdir", tmp_path / "run", "--epochs", 4)
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "run")[-1]["step"] == Config.load(tmp_path / "run" / "config.json").steps == 10


def test_epochs_are_of_the_images_to_train_on(tiny, tmp_path):
    """A twentieth of 640 images is held out: the others are 608."""
    images = tmp_path / "images"
    images.mkdir()
    for i, picture in enumerate(np.random.default_rng(0).integers(0, 256, (640, 16, 16, 3), np.uint8)):
        Image.fromarray(picture).save(images / f"{i}.png")
    config = dataclasses.replace(tiny, data=str(images), batch_size=160, held_out=200, evaluate_every=0)
    assert fit(config, tmp_path / "run", epochs=1).step == 4
    assert fit(config, tmp_path / "run", epochs=5).step == 19  # 3,040 images, where all would be 3,200 and 20 steps


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", 2, "--steps", 3), "--steps and --epochs both say when to end: give one of them"),
        (("--steps=3", "--epochs=2"), "--steps and --epochs both say when to end: give one of them"),
        (("--epochs", 0), "epochs 0 must be at least 1"),
    ],
)
def test_epochs_that_cannot_be_are_refused(photos, tmp_path, flags, message):
    assert refused(command("train", "--workdir", tmp_path / "run", "--data", photos, *flags), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nonesuch"], "no such folder or file, and not sprites"),
        (["--data", "~nobody_here/cats"], "'~nobody_here/cats' cannot be used: "),
        (["--data", "x" * 300], "'xxx.*xxx' cannot be used: File name too long"),
        (["--data", "PHOTOS", "--workdir", "x" * 300], "'xxx.*xxx' cannot be used: File name too long"),
        (["--data", "EMPTY"], "EMPTY holds no images: found nothing"),
        (["--data", "PHOTOS", "--image-size", 50], "image_size 50 .* nearest are 48 and 56"),
        (["--data", "PHOTOS", "--image-size", "64x20"], "image_size 64x20 .* nearest are 56x24 and 64x24"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "PHOTOS").symlink_to(photos)
    assert refused(command("train", "--workdir", "run", *arguments), message)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["EMPTY", "PHOTOS"]


def test_a_folder_that_is_no_run_is_refused_and_left_alone(photos, tiny, tmp_path):
    strange = tmp_path / "strange"
    (strange / "checkpoints").mkdir(parents=True)
    (strange / "checkpoints" / "thesis.doc").write_text("precious")
    (tmp_path / "file").write_text("precious")
    config = dataclasses.replace(tiny, data=str(photos))
    for workdir, message in (
        (strange, "is not a checkpoint folder: it holds 'thesis.doc'"),
        (tmp_path / "file", "is a file, not the folder of a run"),
    ):
        for use in (lambda: fit(config, workdir), lambda: restore(workdir)):
            with pytest.raises(InputError, match=message):
                use()
    assert {p.name for p in tmp_path.rglob("*")} == {"strange", "file", "checkpoints", "thesis.doc"}
    assert (strange / "checkpoints" / "thesis.doc").read_text() == (tmp_path / "file").read_text() == "precious"
    assert refused(
        command("generate", "--workdir", tmp_path / "nothing", "--out", tmp_path / "out"), "is not the folder of a run"
    )
    assert not (tmp_path / "out").exists()


def test_restore_says_what_is_missing(photos, tiny, tmp_path):
    (tmp_path / "config.json").write_text(tiny.to_json())
    with pytest.raises(InputError, match="has no checkpoint yet"):
        restore(tmp_path)
    fit(dataclasses.replace(tiny, data=str(photos)), tmp_path / "run")
    with pytest.raises(InputError, match="no checkpoint of step 5, only 3, 6"):
        restore(tmp_path / "run", step=5)


@pytest.mark.slow
def test_grayscale_from_end_to_end(photos, tiny, tmp_path):
    fit(dataclasses.replace(tiny, data=str(photos), channels=1, steps=2), tmp_path)
    assert sample(restore(tmp_path), jax.random.key(0), num=2).shape == (2, 16, 16, 1)
    with Image.open(tmp_path / "samples" / "step_000002.png") as grid:
        assert grid.mode == "L"


def test_importing_and_generating_need_no_tensorflow(photos, tiny, tmp_path):
    fit(dataclasses.replace(tiny, data=str(photos), steps=2), tmp_path)
    code = f"""
import sys, dcgan_jax
assert not {{"tensorflow", "matplotlib", "jax"}} & set(sys.modules)
sys.argv = ["generate", "--workdir", {str(tmp_path)!r}, "--num", "2", "--out", {str(tmp_path / "out")!r}]
from dcgan_jax.generate import main
main()
assert not {{"tensorflow", "matplotlib"}} & set(sys.modules)
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_precision_the_device_lacks_is_refused_by_name(photos, tiny, tmp_path, monkeypatch):
    old = SimpleNamespace(platform="gpu", compute_capability="7.5", device_kind="Tesla T4", id=0)
    monkeypatch.setattr(jax, "devices", lambda: [old])
    with pytest.raises(
        InputError, match="precision bf16 is not supported by Tesla T4: start a new run with --precision float32"
    ):
        fit(dataclasses.replace(tiny, data=str(photos), precision="bf16"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_compiled_programs_are_kept_in_the_cache_folder_or_where_the_user_says(tmp_path):
    code = "import jax; from dcgan_jax.system import cache; cache.cache_compilations(); print(jax.config.jax_compilation_cache_dir)"
    ours = {**os.environ, "DCGAN_JAX_CACHE": str(tmp_path)}
    del ours["JAX_COMPILATION_CACHE_DIR"]
    for environment, folder in ((ours, tmp_path / "xla"), ({**ours, "JAX_COMPILATION_CACHE_DIR": "mine"}, "mine")):
        done = python("-c", code, env=environment)
        assert done.stdout.strip().startswith(str(folder)), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["chapter", "paper"])
def test_a_recipe_runs_and_its_knobs_can_be_overridden(photos, tmp_path, recipe):
    script = Path(__file__).parents[1] / "experiments" / "recipes" / f"{recipe}.py"
    arguments = ["--workdir", tmp_path / "run", "--data", photos, "--steps", 2, *TINY[2:]]
    done = python(script, *arguments)
    assert done.returncode == 0, done.stderr
    config = Config.load(tmp_path / "run" / "config.json")
    assert (config.steps, config.width) == (2, 4)
    assert (config.learning_rate, config.latent) == {"chapter": (0.005, "normal"), "paper": (2e-4, "uniform")}[recipe]


def test_help_names_every_field():
    done = command("train", "--help")
    assert done.returncode == 0
    for field in dataclasses.fields(Config):
        assert f"--{field.name.replace('_', '-')}" in done.stdout
    config = json.loads(Config().to_json())
    assert set(config) == {field.name for field in dataclasses.fields(Config)}
