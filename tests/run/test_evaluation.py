"""evaluation.json and classes.json: what is read is checked, whatever is in them."""

import json
import os
import re

import pytest

from dcgan_jax.metrics.evaluate import Figures
from dcgan_jax.run.classes import load_classes
from dcgan_jax.run.evaluation import FID, Evaluation, load_evaluations, save_evaluations
from dcgan_jax.run.figures import figures_of_step
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.errors import InputError

FIGURE = {"value": 0.25, "floor": 0.5, "low": 0.125, "high": 0.75, "n": 6}
ONE = {"step": 6, "n": 6, "features": "EfficientNet-Lite2", "ema": True, "seed": 3, "metrics": {"fd": FIGURE}}
CLASSES = {
    "step": 2,
    "n": 9,
    "features": "CIFAR",
    "junk": FIGURE,
    "classes": [{"name": "odd", "share": FIGURE, "kid": FIGURE}],
    "finding": "Odd works best.",
}
LOADERS = {"evaluation.json": load_evaluations, "classes.json": load_classes}
WRONG = [None, True, -1, 0.5, "x", [], {}, float("nan"), float("inf"), 10**400, "9" * 2000, [3], {"a": 3}]


def places(value, path=()):
    """Every place in a tree of dictionaries and lists."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in pairs:
        yield from places(part, (*path, key))


def changed(value, path, change):
    """A copy of the tree in which ``change`` was done to the owner of a place and its key."""
    copy = json.loads(json.dumps(value))
    box = {"all": copy}
    owner, (*way, last) = box, ("all", *path)
    for key in way:
        owner = owner[key]
    change(owner, last)
    return box.get("all")


@pytest.mark.parametrize(("name", "whole"), [("evaluation.json", [ONE]), ("classes.json", CLASSES)])
def test_whatever_stands_in_a_place_it_is_loaded_or_refused_with_the_remedy(tmp_path, name, whole):
    path, refused = tmp_path / name, 0
    changes = [lambda owner, key, wrong=wrong: owner.__setitem__(key, wrong) for wrong in WRONG]
    changes.append(lambda owner, key: owner.pop(key))
    for place in places(whole):
        for change in changes:
            path.write_text(json.dumps(changed(whole, place, change)))
            try:
                LOADERS[name](path)
            except InputError as error:
                refused += 1
                assert re.fullmatch(
                    rf"{re.escape(str(path))} is damaged \(.+\): delete it, and evaluate again", str(error)
                )
    assert refused > 100
    for content in (b"", b"\xff", b"{", b"3", b"[" * 100_000, b"\x00" * 9):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged .*: delete it"):
            LOADERS[name](path)


@pytest.mark.parametrize("name", LOADERS)
def test_a_pipe_a_folder_and_a_huge_file_are_refused_at_once(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    with pytest.raises(InputError, match="not a regular file"):
        LOADERS[name](path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="not a regular file"):
        LOADERS[name](path)
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(20 << 30)  # sparse
    with pytest.raises(InputError, match="more than the 16.0 MiB"):
        LOADERS[name](path)


def evaluation(features, step, value, **more):
    return Evaluation(features, step, 6, {"fd": Figures(value, 0.5, value, value, 6)}, **more)


def test_evaluations_stand_beside_each_other_by_step_features_and_weights(tmp_path):
    path = tmp_path / "evaluation.json"
    assert load_evaluations(path) == []
    first = evaluation("CIFAR", 4, 1.0, seed=0, ema=True)
    fid = evaluation("Inception", 4, 2.0, fid=FID(3.0, 10, 20), seed=0, ema=True)
    others = [evaluation("EfficientNet-Lite2", 4, 9.0, ema=True), fid, evaluation("CIFAR", 4, 5.0, ema=False)]
    save_evaluations(path, [first])
    save_evaluations(path, [evaluation("CIFAR", 2, 8.0), *others])
    assert load_evaluations(path)[1:] == [first, others[2], others[0], fid]
    better = evaluation("CIFAR", 4, 0.7, seed=1, ema=True)
    save_evaluations(path, [better])
    assert load_evaluations(path)[1:] == [better, others[2], others[0], fid]


def test_a_file_of_the_first_version_has_cifar_features_and_does_not_say_which_weights(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps([{"step": 6, "n": 6, "metrics": {"kid": FIGURE}}]))
    (old,) = load_evaluations(tmp_path / "evaluation.json")
    assert (old.features, old.seed, old.ema) == ("CIFAR", None, None) and old.figures["kid"] == (
        0.25,
        0.5,
        0.125,
        0.75,
        6,
    )


def test_imagenet_features_of_an_older_file_are_those_of_another_network(tmp_path):
    """Never shown as, nor replaced by, what the option gives now."""
    folder = RunFolder(tmp_path)
    folder.evaluation.write_text(json.dumps([{**ONE, "features": "ImageNet"}]))
    folder.classes.write_text(json.dumps({**CLASSES, "features": "ImageNet"}))
    assert load_classes(folder.classes).features == "EfficientNet-Lite0"
    new = evaluation("EfficientNet-Lite2", 6, 80.0, seed=3, ema=True)
    save_evaluations(folder.evaluation, [new])
    old, same = load_evaluations(folder.evaluation)
    assert same == new and (old.features, old.figures["fd"].value) == ("EfficientNet-Lite0", 0.25)
    assert [figure.name for figure in figures_of_step(folder, 6)] == [
        "FD (EfficientNet-Lite0 features), 6 samples",
        "FD (EfficientNet-Lite2 features), 6 samples",
    ]


def test_a_figure_keeps_the_name_of_its_features_and_its_own_place(tmp_path):
    """FD in features of ImageNet is larger by an order: under the name of another it would be wrong."""
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 4, "loss_G": 2.0, "fd": 3.0, "fd_floor": 0.3, "coverage": 0.5}\n')
    save_evaluations(
        folder.evaluation, [evaluation("EfficientNet-Lite2", 4, 80.0), evaluation("CIFAR", 4, 7.0, ema=False)]
    )
    rows = [figure.row() for figure in figures_of_step(folder, 4)]
    assert rows == [
        ("loss_G", "2", ""),
        ("FD (CIFAR features), while training", "3", "0.3"),
        ("coverage (CIFAR features), while training", "0.5", ""),
        ("FD (EfficientNet-Lite2 features), 6 samples", "80", "0.5"),
    ]
    assert {figure.key: figure.value for figure in figures_of_step(folder, 4)} == {
        "loss_G": 2.0,
        "fd": 3.0,
        "coverage": 0.5,
        "EfficientNet-Lite2/fd": 80.0,
    }
    save_evaluations(folder.evaluation, [evaluation("CIFAR", 4, 3.5, ema=True)])  # more samples: it replaces the log's
    names = [name for name, *_ in (figure.row() for figure in figures_of_step(folder, 4))]
    assert names == ["loss_G", "FD (CIFAR features), 6 samples", "FD (EfficientNet-Lite2 features), 6 samples"]
    assert figures_of_step(folder, 5) == []
