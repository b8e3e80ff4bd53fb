"""``python -m dcgan_jax.score``: which pictures are unusual for a run."""

import csv
import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import python
from PIL import Image

from dcgan_jax import Config, InputError, fit, score
from dcgan_jax.metrics.distances import nearest_other
from dcgan_jax.metrics.features import features

TINY = Config(image_size=16, width=4, latent_dim=8, batch_size=4, steps=1, held_out=0, evaluate_every=0)


def picture(path, level, seed):
    """Noise around a grey level."""
    pixels = np.random.default_rng(seed).normal(level, 8, (16, 16, 3)).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def dark(tmp_path_factory):
    """A run on 40 dark pictures, and its folder of them."""
    root = tmp_path_factory.mktemp("score")
    for i in range(40):
        picture(root / "data" / f"{i:02d}.png", 40, i)
    fit(dataclasses.replace(TINY, data=str(root / "data")), root / "run")
    return root


def test_the_nearest_other_one_is_of_another_group():
    line = np.array([[0.0], [0.0], [1.0], [3.0], [7.0]])
    rows = np.array([4, 0, 2])
    np.testing.assert_allclose(nearest_other(line, rows, np.arange(5)), [4, 0, 1])
    np.testing.assert_allclose(nearest_other(line, rows, np.array([0, 0, 1, 1, 1])), [7, 1, 1])
    assert np.isinf(nearest_other(line, rows, np.zeros(5, int))).all()


def test_the_one_light_picture_is_first_and_a_copy_is_said_to_be_one(dark, tmp_path):
    for i in range(8):
        picture(tmp_path / "new" / f"{i}.png", 40, 100 + i)
    picture(tmp_path / "new" / "light.png", 220, 1)
    shutil.copy(dark / "data" / "07.png", tmp_path / "new" / "copy.png")
    first, *others = scores = score(dark / "run", [tmp_path / "new"], out=tmp_path / "scores.csv")
    assert first.picture.endswith("light.png") and first.share == 1 / 41 and not first.copy
    assert others[-1].picture.endswith("copy.png") and others[-1].copy and others[-1].distance < 1e-3
    assert not any(one.copy for one in others[:-1]) and sum(one.share <= 0.05 for one in others) <= 2
    lines = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [line["picture"] for line in lines] == [one.picture for one in scores]
    assert [line["copy"] for line in lines] == [str(int(one.copy)) for one in scores]


def test_the_share_is_the_one_of_the_run_s_own_pictures(dark, tmp_path):
    picture(tmp_path / "one.png", 44, 5)
    (one,) = score(dark / "run", str(tmp_path / "one.png"))
    paths = [*sorted((dark / "data").iterdir()), tmp_path / "one.png"]
    vectors = features(np.stack([np.asarray(Image.open(path)) for path in paths])).astype(float)
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    own = (apart[:40, :40] + np.diag(np.full(40, np.inf))).min(1)
    assert one.distance == pytest.approx(apart[40, :40].min(), rel=1e-4)
    assert one.share == (1 + (own >= one.distance).sum()) / 41


def test_arrays_and_archives_give_the_same_as_files(dark, tmp_path):
    for i in range(3):
        picture(tmp_path / "new" / f"{i}.png", 60, i)
    pixels = np.stack([np.asarray(Image.open(tmp_path / "new" / f"{i}.png")) for i in range(3)])
    np.save(tmp_path / "new.npy", pixels)
    shutil.make_archive(str(tmp_path / "new"), "zip", tmp_path / "new")
    each = [score(dark / "run", [tmp_path / name]) for name in ("new", "new.npy", "new.zip")]
    assert len(each[0]) == 3 and {tuple(x[1:] for x in one) for one in each} == {tuple(x[1:] for x in each[0])}


def test_of_a_table_the_column_is_named(dark, tmp_path):
    picture(tmp_path / "a.png", 60, 1)
    content = (tmp_path / "a.png").read_bytes()
    pq.write_table(
        pa.table({"front": [content], "back": [(dark / "data" / "01.png").read_bytes()]}), tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match="several columns of pictures .*: name one with --column"):
        score(dark / "run", tmp_path / "t.parquet")
    (one,) = score(dark / "run", tmp_path / "t.parquet", column="back")
    assert one.copy and not score(dark / "run", tmp_path / "t.parquet", column="front")[0].copy
    with pytest.raises(InputError, match="--column back is for tables, and .*a.png is none: leave it out"):
        score(dark / "run", tmp_path / "a.png", column="back")


def test_what_cannot_be_decoded_is_named_and_the_others_are_scored(dark, tmp_path, capsys):
    picture(tmp_path / "new" / "a.png", 40, 1)
    (tmp_path / "new" / "b.png").write_bytes(b"nothing")
    assert [one.picture for one in score(dark / "run", [tmp_path / "new"])] == [str(tmp_path / "new" / "a.png")]
    assert "1 of 2 files" in (said := capsys.readouterr().err) and "b.png" in said


@pytest.mark.parametrize(
    "name, out, message",
    [
        ("none.png", None, "none.png does not exist"),
        ("bad.png", None, "1 of 1 files in .*bad.png could not be decoded"),
        ("bands.npy", None, "has 5 channels, but this run has images of 3"),
        ("floats.npy", None, "holds values of float32, but this run has learned from uint8"),
        ("good.png", "scores.txt", "is not the name of a .csv file"),
    ],
)
def test_what_is_refused(dark, tmp_path, name, out, message):
    picture(tmp_path / "good.png", 40, 1)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    np.save(tmp_path / "bands.npy", np.zeros((2, 16, 16, 5), np.uint8))
    np.save(tmp_path / "floats.npy", np.zeros((2, 16, 16, 3), np.float32))
    with pytest.raises(InputError, match=message):
        score(dark / "run", [tmp_path / name], out=out and tmp_path / out)
    assert not list(tmp_path.glob("*.csv")) and not (tmp_path / "scores.txt").exists()


def test_the_command_prints_the_most_unusual_first_and_ends_with_2(dark, tmp_path):
    picture(tmp_path / "light.png", 220, 1)
    flags = ("-m", "dcgan_jax.score", "--workdir", dark / "run", "--images")
    done = python(*flags, tmp_path / "light.png", dark / "data" / "01.png")
    assert done.returncode == 0, done.stderr
    head, first, second, *_ = done.stdout.splitlines()
    assert "light.png" in first and "(a copy" in second and "share" in head
    done = python(*flags, tmp_path / "none")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "does not exist" in done.stderr
