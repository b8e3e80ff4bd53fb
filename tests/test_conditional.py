"""Conditional runs through the public face: a small set of dark and of light pictures."""

import contextlib
import csv
import io
import json
import shutil
import tarfile

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import equal, on_devices, python
from PIL import Image, ImageSequence

from dcgan_jax import (
    InputError,
    animate,
    batches,
    export,
    fit,
    generate,
    open_store,
    project,
    recipe,
    restore,
    restore_state,
    sample,
)
from dcgan_jax.data.split import check_classes, held_out
from dcgan_jax.data.store import Store
from dcgan_jax.generate import Arguments as Generate
from dcgan_jax.generate import run as generate_command

KEY, EACH, STEPS = jax.random.key(0), 40, 180
NAMES = ("dark", "light")


def write(root, names=NAMES, *, shuffled=False):
    """Folders of pictures of about 55 and 200 of 255; with ``shuffled`` each has half of both."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(EACH):
            level = (55, 200)[i % 2 if shuffled else label] + rng.integers(-30, 30)
            pixels = np.full((16, 16, 3), level, np.uint8) + rng.integers(0, 10, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def settings(data, **changes):
    small = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 16, "steps": STEPS, "input": "numpy"}
    small |= {"evaluate_every": 0, "log_every": 10, "sample_every": 60, "checkpoint_every": 60, "augment": "off"}
    return recipe("robust", **{**small, "data": str(data), "conditional": True, **changes})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    fit(settings(pictures), folder)
    return folder


def levels(workdir):
    """The mean of 64 samples of each class, in [-1, 1]: -0.55 and 0.6 of the pictures themselves."""
    params = restore(workdir)
    return [float(sample(params, KEY, 64, labels=name).mean()) for name in ("dark", "light")]


def test_it_learns_which_class_is_dark_and_which_light(run):
    dark, light = levels(run)
    assert dark < -0.3 and light > 0.3


def test_with_shuffled_labels_it_does_not(tmp_path):
    fit(settings(write(tmp_path / "pictures", shuffled=True)), tmp_path / "run")
    dark, light = levels(tmp_path / "run")
    assert abs(dark - light) < 0.3


def test_a_run_that_was_stopped_ends_with_the_same_bits(run, pictures, tmp_path):
    fit(settings(pictures, steps=STEPS // 2), tmp_path / "run")
    state = fit(settings(pictures), tmp_path / "run")
    assert equal(state, restore_state(run))
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    grid = f"step_{STEPS:06d}.png"
    assert (tmp_path / "run" / "samples" / grid).read_bytes() == (run / "samples" / grid).read_bytes()


def test_the_run_knows_its_classes_without_the_pictures(run):
    params = restore(run)
    assert params.classes.names == ("dark", "light") and params.classes.counts == (EACH, EACH)
    with Image.open(run / "samples" / f"step_{STEPS:06d}.png") as sheet:
        assert sheet.size == (8 * 18 + 2, 2 * 18 + 2)  # a row for each class
        above, below = np.asarray(sheet.convert("L"), float)[[10, 28]]
    assert above.mean() < below.mean()


def test_labels_come_in_step_with_the_images(pictures, cache):
    """Dark pictures are called dark, whatever feeds them, in all orders."""
    config = settings(pictures, held_out=0)
    store = open_store(config)
    dark = store.classes.label("dark")
    kinds = {"numpy": {}, "tf": {"input": "tf"}, "device": {"device_data": True}}
    for sampling in ("natural", "balanced"):
        seen = {}
        for kind, changes in kinds.items():
            config = settings(pictures, class_sampling=sampling, **changes)
            whole = [jax.device_get(batch) for _, batch in zip(range(7), batches(store, config))]
            for images, labels in whole:
                assert labels.dtype == np.int32
                np.testing.assert_array_equal(images.mean((1, 2, 3)) < 128, labels == dark)
            again = jax.device_get(next(batches(store, config, start=6)))
            assert equal(again, whole[6])
            seen[kind] = whole
        assert equal(seen["numpy"], seen["tf"]) and equal(seen["numpy"], seen["device"])
    store.close()


def test_balanced_classes_come_equally_often_and_each_image_of_a_class_once_before_it_comes_again(tmp_path):
    for name, count in (("many", 30), ("few", 3), ("one", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (16, 16), (i, count, 0)).save(tmp_path / name / f"{i}.png")
    config = settings(tmp_path, class_sampling="balanced", batch_size=6, held_out=0)
    store = open_store(config)
    parts = [jax.device_get(batch) for _, batch in zip(range(15), batches(store, config))]  # 90 images
    images, labels = (np.concatenate(part) for part in zip(*parts))
    assert np.bincount(labels).tolist() == [30, 30, 30]
    for rounds in labels.reshape(-1, 3):
        assert set(rounds.tolist()) == {0, 1, 2}
    many, few = (images[labels == store.classes.label(name)][:, 0, 0, 0] for name in ("many", "few"))
    assert sorted(many) == list(range(30)) and list(many) != list(range(30))
    assert all(sorted(three) == [0, 1, 2] for three in few.reshape(-1, 3))
    store.close()


def test_no_class_is_held_out_whole(tmp_path, cache):
    class Many(Store):
        def __init__(self):
            self.shape, self.labels = (1000, 16, 16, 3), np.repeat(np.arange(200, dtype=np.int32), 5)

    train, others = held_out(Many(), 200, conditional=True)
    assert len(others) == 50 and not set(train) & set(others) and len(train) == 950
    counts = np.bincount(Many().labels[train], minlength=200)
    assert counts.min() >= 3


def test_pictures_without_classes_are_refused_and_nothing_is_written(tmp_path):
    write(tmp_path / "one", ("dark",))
    with pytest.raises(
        InputError, match="--conditional learns classes, but the images of .*one have no labels, or one"
    ):
        fit(settings(tmp_path / "one"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="class_sampling balanced does nothing without --conditional"):
        fit(settings(tmp_path / "one", conditional=False, class_sampling="balanced"), tmp_path / "run")


def test_pictures_without_a_class_beside_those_with_one_are_counted_and_refused(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "some")
    for i in range(3):
        (tmp_path / "some" / "dark" / f"{i}.png").rename(tmp_path / "some" / f"{i}.png")
    content = (pictures / "dark" / "0.png").read_bytes()
    rows = {"image": [content] * 6, "label": [0, None, 1, -1, 1, 0]}
    pq.write_table(pa.table(rows), tmp_path / "table.parquet")
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for i, label in enumerate((b"a", b"b", None)):
            for name, part in ((f"{i}.png", content), (f"{i}.cls", label)):
                info = tarfile.TarInfo(name)
                info.size = len(part or b"")
                if part:
                    archive.addfile(info, io.BytesIO(part))
    for name, message in (("some", "3 of the 80"), ("table.parquet", "2 of the 6"), ("some.tar", "1 of the 3")):
        config = settings(tmp_path / name)
        with contextlib.closing(open_store(config)) as store, pytest.raises(InputError, match=message) as refused:
            check_classes(config, store)
        assert "have no label: put" in str(refused.value) and len(str(refused.value).splitlines()) == 1
    with pytest.raises(InputError, match=r"3 of the 80 images of .*some have no label: put each into the folder"):
        fit(settings(tmp_path / "some"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_labels_than_before_are_refused(run, pictures, tmp_path):
    swapped = write(tmp_path / "pictures", ("light", "dark"))
    for name in ("dark", "light"):  # the same pictures in the same order of labels
        (swapped / name).rename(swapped / f"{name}.")
    (swapped / "light.").rename(swapped / "a")
    (swapped / "dark.").rename(swapped / "b")
    before = json.loads((run / "images.json").read_text())
    with pytest.raises(InputError, match="has other labels than when"):
        fit(settings(swapped, steps=STEPS + 1), run)
    assert json.loads((run / "images.json").read_text()) == before


def test_without_the_file_of_its_classes_a_run_says_so(run, tmp_path):
    kept = (run / "images.json").read_text()
    (run / "images.json").unlink()
    try:
        with pytest.raises(InputError, match="images.json does not say which classes this conditional run learns"):
            restore(run)
    finally:
        (run / "images.json").write_text(kept)


def mean_levels(folder):
    return [np.asarray(Image.open(path), float).mean() for path in sorted(folder.glob("0*.png"))]


def test_the_commands_draw_a_class_by_its_name(run, tmp_path, capsys):
    for name, fits in (("dark", np.less), ("light", np.greater)):
        generate_command(Generate(run, tmp_path / name, num=9, label=(name,)))
        assert capsys.readouterr().out == f"9 images and grid.png in {tmp_path / name} (step {STEPS})\n"
        levels = mean_levels(tmp_path / name)
        assert len(levels) == 9 and fits(np.mean(levels), 128)
    done = python("-m", "dcgan_jax.generate", "--workdir", run, "--out", tmp_path / "no", "--class", "drak")
    assert done.returncode == 2 and "there is no class 'drak': choose dark" in done.stderr
    with pytest.raises(InputError, match="--class dark and --class light: draw each class by itself"):
        generate_command(Generate(run, tmp_path / "no", label=("dark", "light")))
    with pytest.raises(InputError, match="label must be one class"):
        generate(run, tmp_path / "no", num=2, label=["dark", "light"])  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "no").exists()
    assert generate(run, tmp_path / "number", num=2, label=np.int64(1)).shown == 2


def test_without_a_name_all_classes_are_drawn_and_a_file_says_which_picture_is_which(run, tmp_path, capsys):
    generate_command(Generate(run, tmp_path / "all", num=40))
    assert "40 images and grid.png, a row for each class, and labels.csv in" in capsys.readouterr().out
    with open(tmp_path / "all" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{i:05d}.png" for i in range(40)]
    levels, light = np.array(mean_levels(tmp_path / "all")), np.array([row["class"] == "light" for row in rows])
    assert 10 < light.sum() < 30 and levels[light].mean() > 150 and levels[~light].mean() < 100
    with Image.open(tmp_path / "all" / "grid.png") as sheet:
        assert sheet.size == (8 * 18 + 2, 2 * 18 + 2)


def test_of_an_array_the_file_says_which_index_is_of_which_class(run, tmp_path):
    generate_command(Generate(run, tmp_path / "all", num=40, format="npy"))
    with open(tmp_path / "all" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["index", "class"]] * 40
    images = np.load(tmp_path / "all" / "images.npy")
    levels = {name: images[[int(row["index"]) for row in rows if row["class"] == name]].mean() for name in NAMES}
    assert levels["light"] > 150 and levels["dark"] < 100 and [row["index"] for row in rows] == [*map(str, range(40))]


def test_the_samples_of_a_pushed_run_show_what_it_shows(run, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("safetensors")
    sent = {}

    class Api:
        def create_repo(self, repository, **_):
            return f"hub/{repository}"

        def create_commit(self, repository, operations, **_):
            sent.update((one.path_in_repo, one.path_or_fileobj) for one in operations)

    monkeypatch.setattr(hub, "HfApi", Api)
    other = shutil.copytree(run, tmp_path / "run")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "show": [2]}))
    export(other, tmp_path / "out", formats=["safetensors"], push="me/things")
    with Image.open(io.BytesIO(sent["samples.png"])) as picture:
        assert picture.mode == "L" and picture.size == (8 * 18 + 2, 2 * 18 + 2)


def test_a_walk_goes_from_class_to_class(run, tmp_path):
    animate(run, tmp_path / "walk.webp", seconds=3, fps=4, size=(2, 2), scale=1, labels=["dark", "light"])
    with Image.open(tmp_path / "walk.webp") as film:
        frames = [np.asarray(frame.convert("L"), float).mean() for frame in ImageSequence.Iterator(film)]
    assert len(frames) == 12 and frames[6] - frames[0] > 50  # dark, light, and back
    animate(run, tmp_path / "any.webp", seconds=1, fps=2, size=(1, 1), scale=1)
    animate(run, tmp_path / "training.webp", what="training", seconds=1, fps=2)  # which has two rows
    with Image.open(tmp_path / "training.webp") as film:
        assert film.size[1] == 4 * (2 * 18 + 2)
    animate(run, tmp_path / "one.webp", seconds=1, fps=2, size=(1, 1), scale=1, labels="dark", direction=np.int64(1))
    with Image.open(tmp_path / "one.webp") as film:
        assert np.asarray(film.convert("L"), float)[2:-2, 2:-2].mean() < 100
    with pytest.raises(InputError, match="along a direction images stay in their class: give --class once"):
        animate(run, tmp_path / "no.webp", labels=["dark", "light"], direction=1)
    with pytest.raises(InputError, match="there is no class 'lihgt': choose light"):
        animate(run, tmp_path / "no.webp", labels=["lihgt"])
    with pytest.raises(InputError, match="3 classes are more than 2 frames show: give --seconds 2 at least"):
        animate(run, tmp_path / "no.webp", seconds=1, fps=2, labels=["dark", "light", "dark"])


def test_a_picture_is_looked_for_in_its_class(run, pictures, tmp_path):
    two = [pictures / "dark" / "0.png", pictures / "light" / "0.png"]
    done = project(run, two, tmp_path / "out", iterations=30, labels=["dark", "light"])
    assert max(done.errors) < 60
    with Image.open(tmp_path / "out" / "interpolation.png") as way:
        pixels = np.asarray(way.convert("L"), float)
    assert pixels[:, -200:].mean() - pixels[:, :200].mean() > 50
    with pytest.raises(InputError, match="the run is conditional: say which class"):
        project(run, two[0], tmp_path / "no", iterations=1)
    assert len(project(run, two[0], tmp_path / "one", iterations=1, labels="dark").errors) == 1


@pytest.mark.slow
def test_it_learns_on_several_devices_with_several_steps_at_once_in_bfloat16(pictures, tmp_path):
    config = settings(pictures)
    flags = "--image-size 16 --width 4 --latent-dim 8 --batch-size 16 --evaluate-every 0 --augment off --input numpy"
    flags += (
        f" --steps {STEPS} --precision bf16 --dispatch several --device-data --class-sampling balanced --conditional"
    )
    command = "-m", "dcgan_jax.train", "--workdir", tmp_path / "run", "--recipe", "robust", "--data", config.data
    done = python(*command, *flags.split(), variables=on_devices(2))
    assert done.returncode == 0, done.stderr
    assert "in 2 classes from" in done.stdout
    dark, light = levels(tmp_path / "run")
    assert dark < -0.2 and light > 0.2
