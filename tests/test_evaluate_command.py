"""``python -m dcgan_jax.evaluate``: what it writes, what it refuses, and that better samples get better numbers."""

import dataclasses
import json
import math
import shutil

import jax
import numpy as np
import pytest
from helpers import python
from PIL import Image

from dcgan_jax import Config, InputError, best, evaluate, fit, restore, sample, to_uint8
from dcgan_jax.data import sprites
from dcgan_jax.evaluate import Arguments
from dcgan_jax.evaluate import run as command
from dcgan_jax.metrics.evaluate import LABELS
from dcgan_jax.run import measure
from dcgan_jax.run.evaluation import load_evaluations
from dcgan_jax.views.grid import grid


@pytest.fixture(scope="module")
def creatures(tmp_path_factory):
    """A folder of 240 creatures of ten kinds, 16x16."""
    root = tmp_path_factory.mktemp("creatures")
    for i in range(240):
        (root / str(i % 10)).mkdir(exist_ok=True)
        Image.fromarray(sprites.draw(0, i)[0]).resize((16, 16)).save(root / str(i % 10) / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(creatures, tmp_path_factory):
    """A run of two steps and two checkpoints, which has learned next to nothing."""
    workdir = tmp_path_factory.mktemp("evaluated") / "run"
    fit(Config(data=str(creatures), image_size=16, width=4, batch_size=4, steps=2, checkpoint_every=1), workdir)
    return workdir


@pytest.fixture(scope="module")
def found(run):
    """evaluation.json of both checkpoints."""
    command(Arguments(run, step=(2, 1)))
    return json.loads((run / "evaluation.json").read_text())


def badness(name, value):
    good = LABELS[name][1]
    return {"lower": value, "higher": -value, "near 1": abs(value - 1), "near 0": abs(value)}[good]


def test_every_figure_is_there_beside_its_floor(run, found):
    assert [(of["step"], of["n"]) for of in found] == [(1, 120), (2, 120)]
    for checkpoint in found:
        assert list(checkpoint["metrics"]) == list(LABELS)
        for name, figure in checkpoint["metrics"].items():
            assert set(figure) == {"value", "floor", "low", "high", "n"} and figure["n"] == 120
            assert all(map(math.isfinite, figure.values()))
            assert figure["low"] <= figure["value"] <= figure["high"]
            assert figure["floor"] == found[0]["metrics"][name]["floor"]
        varying = [name for name, figure in checkpoint["metrics"].items() if figure["low"] < figure["high"]]
        assert {"fd", "kid", "diversity"} <= set(varying)  # the sets of samples are not the same
    with Image.open(run / "evaluation.png") as picture:
        assert picture.width > picture.height > 400
        assert len(np.unique(np.asarray(picture))) > 100


def test_the_best_beside_random_ones_are_those_that_best_and_sample_draw(run, found):
    key = jax.random.key(0)
    for name, images in (("best", best(run, key, 64, step=2)), ("random", sample(restore(run, 2), key, 64))):
        with Image.open(run / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), grid(to_uint8(images), columns=8), err_msg=name)


def test_the_floor_is_that_of_real_images(found):
    floor = {name: figure["floor"] for name, figure in found[0]["metrics"].items()}
    assert min(floor[name] for name in ("precision", "recall", "density", "coverage")) > 0.85
    assert all(abs(floor[name] - 1) < 0.2 for name in ("diversity", "mean", "deviation", "nearest"))
    assert abs(floor["c_t"]) < 3


@pytest.mark.slow
def test_a_generator_that_has_learned_nothing_is_worse_than_one_that_has(creatures, tmp_path):
    config = Config(data=str(creatures), image_size=16, width=16, batch_size=16, steps=300, augment="off")
    for steps in (1, 300):
        fit(dataclasses.replace(config, steps=steps), tmp_path)
    command(Arguments(tmp_path, step=(1, 300)))
    untrained, trained = (of["metrics"] for of in json.loads((tmp_path / "evaluation.json").read_text()))
    for name in ("fd", "kid", "diversity", "swd", "mean", "deviation", "nearest"):
        values = untrained[name]["low"], trained[name]["high"], trained[name]["floor"]
        none, some, floor = (badness(name, value) for value in values)
        assert none > some > floor, name


def test_the_command_prints_a_table_and_needs_no_tensorflow(run, found, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").unlink()
    code = f"""
import sys
sys.argv = ["evaluate", "--workdir", {str(tmp_path / "run")!r}, "--step", "2", "--num", "30"]
from dcgan_jax.evaluate import main
assert not {{"jax", "matplotlib"}} & set(sys.modules)
main()
assert "tensorflow" not in sys.modules
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    title, head, *rows = done.stdout.splitlines()
    assert title == "step 2: 3 sets of 30 samples against 30 real images"
    assert head.split() == ["value", "low", "high", "floor", "n", "better"]
    for (label, better), row in zip(LABELS.values(), rows):
        assert row.startswith(label) and row.endswith(better)
    verdict = rows[len(LABELS)]
    assert verdict.startswith("Far from the real images: ") and "CIFAR features are lenient" in verdict
    assert any(row.startswith("unusual: C_T ") for row in rows) and any("--recipe projected" in row for row in rows)
    assert "FID" not in done.stdout
    (checkpoint,) = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert (checkpoint["step"], checkpoint["n"]) == (2, 30)


def test_features_of_the_images_are_kept_and_damaged_ones_made_again(run, found, cache, monkeypatch):
    from dcgan_jax.metrics import features

    looked_at = []
    apply = features.network_outputs
    monkeypatch.setattr(features, "network_outputs", lambda *args: looked_at.append(len(args[1])) or apply(*args))

    def again():
        looked_at.clear()
        command(Arguments(run, num=20))
        return sum(looked_at), (run / "evaluation.json").read_text()

    (kept,) = [path for path in (cache / "features").iterdir() if path.stat().st_size > 240 * 128 * 4]
    whole = kept.read_bytes()
    count, text = again()
    for damaged in (whole[:-1], b"", whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]):
        kept.write_bytes(damaged)
        more, same = again()
        assert more >= count + 240 and same == text
        assert kept.read_bytes() == whole


@pytest.mark.slow
def test_imagenet_features_are_named_and_kept_apart(run, found, cache, capsys):
    by_step = {of["step"]: of for of in json.loads((run / "evaluation.json").read_text())}
    before = set((cache / "features").iterdir())
    command(Arguments(run, num=20, features="imagenet"))
    after = json.loads((run / "evaluation.json").read_text())
    (checkpoint,) = (of for of in after if of["features"] == "EfficientNet-Lite2")
    assert [of for of in after if of["features"] == "CIFAR"] == list(by_step.values())  # another ruler, another entry
    assert (checkpoint["step"], checkpoint["n"], checkpoint["seed"], checkpoint["ema"]) == (2, 20, 0, True)
    assert list(checkpoint["metrics"]) == list(LABELS)
    ours, theirs = (of["metrics"]["fd"]["floor"] for of in (found[0], checkpoint))
    assert theirs > 2 * ours
    printed = capsys.readouterr().out
    assert "FD (EfficientNet-Lite2 features)" in printed and "CIFAR" not in printed
    (new,) = set((cache / "features").iterdir()) - before
    assert 240 * 1280 * 4 < new.stat().st_size < 241 * 1280 * 4


def test_the_fid_is_that_of_the_samples_against_all_images(run, found, tmp_path, monkeypatch, capsys):
    """With other features in the place of Inception's (tests/metrics/test_inception.py)."""
    from dcgan_jax.metrics import inception
    from dcgan_jax.metrics.features import FeatureSet

    compared = []

    def remember(a, b):
        compared.append((a.shape, b.shape))
        return frechet_distance(a, b)

    frechet_distance = measure.frechet_distance
    monkeypatch.setattr(measure, "frechet_distance", remember)
    stand_in = FeatureSet("Inception", lambda images: images.reshape(len(images), -1)[:, ::64] / np.float32(64), b"1")
    monkeypatch.setattr(inception, "inception", lambda file: stand_in)
    shutil.copytree(run, tmp_path / "run")
    command(Arguments(tmp_path / "run", num=200, inception=tmp_path / "graph.pb"))
    checkpoint = json.loads((tmp_path / "run" / "evaluation.json").read_text())[-1]
    assert checkpoint["features"] == "Inception"
    assert checkpoint["fid"] == {"value": checkpoint["fid"]["value"], "n": 200, "reals": 240}
    assert compared == [((240, 12), (200, 12))]
    assert evaluate(tmp_path / "run", num=200, inception=tmp_path / "graph.pb").fid == (
        checkpoint["fid"]["value"],
        200,
        240,
    )
    assert f"FID of 200 samples against all 240 images: {checkpoint['fid']['value']:.4g}" in capsys.readouterr().out
    with pytest.raises(InputError, match="leave out --features"):
        evaluate(run, features="imagenet", inception=tmp_path / "graph.pb")
    with pytest.raises(InputError, match="cannot be used with --classes: leave one of them out"):
        Arguments(run, classes=True, inception=tmp_path / "graph.pb")


def test_other_images_are_refused(run, found, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    about = json.loads((run / "images.json").read_text())
    (tmp_path / "run" / "images.json").write_text(json.dumps({**about, "count": 7, "sha256": about["sha256"][::-1]}))
    with pytest.raises(InputError, match=r"other images than when .* was started \(240 now, 7 then\)"):
        command(Arguments(tmp_path / "run"))
    assert (tmp_path / "run" / "evaluation.json").read_text() == (run / "evaluation.json").read_text()


def test_what_cannot_be_evaluated_is_refused_with_a_sentence(run, tmp_path):
    with pytest.raises(InputError, match="not the folder of a run"):
        command(Arguments(tmp_path))
    with pytest.raises(InputError, match="no checkpoint of step 7, only 1, 2"):
        command(Arguments(run, step=(7,)))
    for wrong, text in (({"num": 5}, "at least 6"), ({"seed": -1}, "must lie"), ({"features": "dog"}, "choose cifar")):
        with pytest.raises(InputError, match=text):
            evaluate(run, **wrong)


def test_the_function_returns_what_the_file_holds_and_replaces_the_same_step_only(run, found, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    (workdir / "evaluation.json").write_text(json.dumps(found))
    evaluated = evaluate(workdir, 1, num=20, ema=False)
    assert (evaluated.step, evaluated.n, evaluated.features, evaluated.ema) == (1, 20, "CIFAR", False)
    again = evaluate(workdir, 1, num=24)
    first, raw, second = load_evaluations(workdir / "evaluation.json")
    assert (first, raw) == (again, evaluated) and second.figures["fd"]._asdict() == found[1]["metrics"]["fd"]
    assert first.n == 24 and first.figures["fd"].value != raw.figures["fd"].value


def test_a_damaged_evaluation_is_named_before_the_work_and_stays_as_it_is(run, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    (workdir / "evaluation.json").write_text("[3]")
    with pytest.raises(InputError, match=r"evaluation\.json is damaged .*: delete it, and evaluate again"):
        evaluate(workdir)
    assert (workdir / "evaluation.json").read_text() == "[3]"
    (workdir / "evaluation.json").unlink()  # the remedy
    assert evaluate(workdir, num=12).n == 12
