"""``python -m dcgan_jax.evaluate --classes``: what it writes and prints, and what it refuses."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from helpers import python
from pictures import SHAPES, write_shapes
from PIL import Image

from dcgan_jax import Config, InputError, evaluate, evaluate_classes, fit
from dcgan_jax.evaluate import Arguments
from dcgan_jax.evaluate import run as command
from dcgan_jax.metrics.classes import ClassFigures
from dcgan_jax.metrics.evaluate import Figures
from dcgan_jax.run import classes
from dcgan_jax.run.classes import class_names, load_classes, sentence
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.measure import pieces
from dcgan_jax.run.tables import class_lines

FIGURES = ("share", "junk", "kid", "fd", "precision", "coverage")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two steps on shapes in folders 0, 1 and 2, which has learned nothing."""
    root = tmp_path_factory.mktemp("classes")
    write_shapes(root / "shapes", 60)
    for number, kind in enumerate(SHAPES):
        (root / "shapes" / kind).rename(root / "shapes" / str(number))
    config = Config(data=str(root / "shapes"), image_size=16, width=4, batch_size=4, steps=2)
    fit(config, root / "run")
    return root / "run"


@pytest.mark.slow
def test_the_command_answers_which_class_works_best(run):
    classes = "--classes", "--num", 300, "--class-names", *SHAPES
    done = python("-m", "dcgan_jax.evaluate", "--workdir", run, *classes)
    assert done.returncode == 0, done.stderr
    found = json.loads((run / "classes.json").read_text())
    assert (found["step"], found["n"]) == (2, 300)
    assert sorted(of["name"] for of in found["classes"]) == sorted(SHAPES) == sorted(found["classifier"]["labels"])
    assert np.sum(found["classifier"]["confusion"]) == found["classifier"]["held_out"] == 36
    right = np.trace(found["classifier"]["confusion"]) / 36
    assert found["classifier"]["accuracy"] == pytest.approx(right) and right > 0.9
    assert sum(of["share"]["value"] for of in found["classes"]) == pytest.approx(1)
    assert found["junk"]["low"] <= found["junk"]["value"] <= found["junk"]["high"]
    known = [of for of in found["classes"] if "kid" in of]
    assert known and known == found["classes"][: len(known)]
    for of in known:
        assert set(of) == {"name", *FIGURES} and all(math.isfinite(x) for name in FIGURES for x in of[name].values())
    excess = [of["kid"]["value"] - of["kid"]["floor"] for of in known]
    assert excess == sorted(excess) and excess[0] > 0
    title, accuracy, junk, heads, *lines = done.stdout.splitlines()
    assert title == "step 2: 3 sets of 300 samples, compared in CIFAR features" and found["features"] == "CIFAR"
    assert heads.split()[:3] == ["share", "%", "reals"] and accuracy.endswith("36 held-out images rightly")
    assert [line.split()[0] for line in lines[:3]] == [of["name"] for of in found["classes"]]
    assert lines[3] == found["finding"] and lines[4].startswith("classes.json and classes.png in")
    if len(known) > 1:
        assert f"{known[0]['name']} (KID" in found["finding"] and f"{known[-1]['name']} (KID" in found["finding"]
    with Image.open(run / "classes.png") as picture:
        assert picture.height == 230 and picture.width > 1000
        assert len(np.unique(np.asarray(picture))) > 100
    assert not (run / "evaluation.json").exists()


def test_the_finding_names_the_best_the_worst_and_what_is_hardly_drawn():
    def figures(label, kid, share):
        values = {"share": (share, 0.3), "kid": (kid, 0.05), "fd": (8, 4)}
        return ClassFigures(label, {name: Figures(*pair, pair[0], pair[0], 90) for name, pair in values.items()})

    ranked = [figures(2, 0.1, 0.6), figures(0, 0.5, 0.3), figures(1, 0.9, 0.1)]
    assert sentence(("a", "b", "c"), ranked, "CIFAR") == (
        "In CIFAR features c (KID 0.05 over its floor, FD 2 times its floor) works best, b (KID 0.85 over its floor, FD 2 times its floor) "
        "works worst. Drawn less than half as often as among the images: b."
    )
    assert sentence(("a", "b", "c"), ranked[:1], "CIFAR").startswith("Too few samples of each class")


def test_classes_are_compared_in_the_features_that_were_asked_for(run, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    ours, theirs = (evaluate_classes(workdir, num=24, features=name) for name in ("cifar", "imagenet"))
    assert (ours.features, theirs.features) == ("CIFAR", "EfficientNet-Lite2") and ours.n == theirs.n == 24
    ours, theirs = ({one.name: one.figures for one in result.classes} for result in (ours, theirs))
    known = [name for name in ours if "fd" in ours[name]]
    assert known
    for name in known:  # the same samples, sorted alike, at other distances
        assert ours[name]["share"] == theirs[name]["share"] and ours[name]["junk"] == theirs[name]["junk"]
        assert theirs[name]["fd"].floor != pytest.approx(ours[name]["fd"].floor, rel=0.1)
        assert theirs[name]["fd"].value != pytest.approx(ours[name]["fd"].value, rel=0.1)
    stored = load_classes(workdir / "classes.json")
    assert stored.features == "EfficientNet-Lite2" and {one.name: one.figures for one in stored.classes} == theirs


def test_names_follow_the_numbers_not_the_order_in_which_the_labels_were_found():
    assert class_names(("9", "0", "10", *"12345678"), tuple("abcdefghijk")) == tuple("jakbcdefghi")


def test_what_makes_no_sense_is_refused(run):
    with pytest.raises(InputError, match="class_names: 2 names for the labels 0, 1, 2: give one name for each"):
        command(Arguments(run, classes=True, class_names=("a", "b")))
    with pytest.raises(InputError, match="class_names must come with --classes"):
        Arguments(run, class_names=("a",))
    with pytest.raises(InputError, match="step 1 2 must be one step with --classes"):
        Arguments(run, classes=True, step=(1, 2))


def test_samples_are_sorted_in_pieces_which_change_nothing(run, monkeypatch):
    """No more than a piece of the samples is in memory, however many are asked for."""
    whole, sizes = evaluate_classes(run, num=80), []
    shown = (run / "classes.png").read_bytes()

    def small(*args, **kwargs):
        images = np.concatenate(list(pieces(*args, **kwargs)))
        for part in np.array_split(images, 7):
            sizes.append(len(part))
            yield part

    monkeypatch.setattr(classes, "pieces", small)
    again = evaluate_classes(run, num=80)
    assert max(sizes) == 12 and sum(sizes) == 3 * 80
    assert again.junk == whole.junk and (run / "classes.png").read_bytes() == shown
    for one, other in zip(again.classes, whole.classes, strict=True):
        assert one.name == other.name and set(one.figures) == set(other.figures)
        for name, figure in one.figures.items():
            np.testing.assert_allclose(figure, other.figures[name], rtol=1e-4, atol=1e-5)


def test_more_samples_than_have_room_are_refused(run):
    for measure in (evaluate_classes, evaluate):
        with pytest.raises(InputError, match="num 200001 is more than 200,000, whose features"):
            measure(run, num=200_001)


@pytest.fixture(scope="module")
def conditional(run, tmp_path_factory):
    """The same as ``run``, but conditional: it has learned nothing either."""
    place = tmp_path_factory.mktemp("conditional") / "run"
    fit(dataclasses.replace(RunFolder(run).config(), conditional=True), place)
    return place


def test_a_conditional_run_is_judged_by_what_it_was_asked_for(conditional):
    result = evaluate_classes(conditional, num=120)
    stored = load_classes(conditional / "classes.json")
    assert (stored.accuracy, stored.learned) == (result.accuracy, result.learned)
    assert result.accuracy.n == 360 and result.accuracy.floor == result.classifier["accuracy"] == result.learned.floor
    assert result.learned.n == 36 and 0 <= result.learned.low <= result.learned.value <= result.learned.high <= 1
    right = [one.figures["accuracy"] for one in result.classes]
    assert sum(one.n for one in right) == 360
    assert sum(one.value * one.n for one in right) / 360 == pytest.approx(result.accuracy.value)
    assert all(one.figures["fd"].n <= 60 for one in result.classes)  # by the label, each has enough
    lines = list(class_lines(result))
    assert lines[3].startswith("the classifier names ") and lines[3].endswith("of the samples as they were asked for")
    assert lines[4].startswith("a classifier that learned from samples names ")
    assert "right %" in lines[5]
