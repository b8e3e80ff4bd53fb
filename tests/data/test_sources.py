"""Where images come from: folders, archives, and what is said when there are none."""

import gzip
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data.sources import open_source
from dcgan_jax.system.errors import InputError
from dcgan_jax.views.grid import save_png
from dcgan_jax.views.video import save_animation


def test_a_folder_and_its_zip_give_the_same_images(photos, archive, tmp_path):
    folder, zipped = prepared(photos, tmp_path), prepared(archive, tmp_path)
    assert folder.shape == zipped.shape == (12, 16, 16, 3)
    everything = range(12)
    np.testing.assert_array_equal(folder.take(everything), zipped.take(everything))
    np.testing.assert_array_equal(folder.labels, zipped.labels)
    assert folder.label_names == zipped.label_names == ("even", "odd")
    assert sorted(folder.take(everything)[:, 0, 0, 0]) == [20 * i for i in everything]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A .zip of 4,000 small pictures, no two alike, each with an extra field, as the program ``zip`` writes them."""
    path = tmp_path_factory.mktemp("many") / "many.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for i in range(4000):
            content, info = io.BytesIO(), zipfile.ZipInfo(f"{i % 2}/{i:04d}.png")
            Image.new("RGB", (4, 4), (i // 256, i % 256, 7)).save(content, "PNG")
            info.extra = b"UT\5\0\1" + i.to_bytes(4, "little")  # the time when it was changed
            out.writestr(info, content.getvalue())
    return path


@pytest.fixture
def eager_threads():
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_lose_no_image_of_an_archive(many, tmp_path, monkeypatch, eager_threads):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    made = prepared(many, tmp_path)
    assert made.skipped == () and len(made) == 4000
    red, green, _ = made.take(np.argsort(made.labels, kind="stable"))[:, 8, 8].T.astype(int)
    assert (256 * red + green).tolist() == [*range(0, 4000, 2), *range(1, 4000, 2)]


def test_threads_read_the_members_of_an_archive_at_once(many, tmp_path, eager_threads):
    items = list(open_source(Config(data=str(many)), tmp_path).items())
    with zipfile.ZipFile(many) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    with ThreadPoolExecutor(8) as threads:
        for _ in range(2):
            for item, content in zip(items, threads.map(lambda item: item.load(), items), strict=True):
                assert content == whole[item.name]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "found nothing"),
        ({"a.txt": b"", "b.txt": b"", "c.csv": b"", "Makefile": b""}, "found 2 .txt, 1 .csv, 1 without an extension"),
        ({".hidden.png": b"", "__MACOSX/x.png": b""}, "found 1 hidden, 1 in __MACOSX; wanted files like .png"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path, files, message):
    root = tmp_path / "folder"
    root.mkdir()
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepared(root, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_arrays_in_an_archive_are_refused_with_the_way_to_give_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.npy", b"")
        archive.writestr("b.h5", b"")
    with pytest.raises(InputError, match=r"found 1 .h5, 1 .npy; .*; arrays and tables are read if one, or a folder"):
        prepared(tmp_path / "set.zip", tmp_path / "cache")


@pytest.mark.parametrize("data", ["sprites", "folder"])
def test_pictures_have_at_most_four_channels(photos, tmp_path, data):
    with pytest.raises(InputError, match="holds pictures, which have at most 4 channels, not 5: give --channels auto"):
        prepared(data.replace("folder", str(photos)), tmp_path / "cache", channels=5)
    assert not list(tmp_path.glob("cache/stores/*"))


def test_what_does_not_exist_is_refused_with_the_choices(tmp_path):
    with pytest.raises(InputError, match="no such folder or file, and not sprites, pokemon, tfds:NAME"):
        prepared("sprite", tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="neither a folder nor a readable .zip"):
        prepared(tmp_path / "notes.txt", tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="'mauvish' is not a colour"):
        prepared(tmp_path, tmp_path / "cache", background="mauvish")


def idx_set(folder, prefix="train-", ending="", images=12, **changes):
    """Files as MNIST's: image i is i all over, its label i % 3."""
    folder.mkdir(exist_ok=True)
    count = images
    header = {"kind": 0x803, "count": count, "height": 6, "width": 5, **changes}
    images = struct.pack(">4I", *header.values()) + b"".join(bytes([i]) * 30 for i in range(count))
    labels = struct.pack(">2I", 0x801, count) + bytes(i % 3 for i in range(count))
    pack = gzip.compress if ending else bytes
    (folder / f"{prefix}images-idx3-ubyte{ending}").write_bytes(pack(images))
    (folder / f"{prefix}labels-idx1-ubyte{ending}").write_bytes(pack(labels))
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files(tmp_path, ending):
    made = prepared(idx_set(tmp_path / "mnist", ending=ending), tmp_path)
    assert made.shape == (12, 16, 16, 3)
    assert made.take(range(12))[:, 8, 8, 0].tolist() == list(range(12))
    assert [made.label_names[label] for label in made.labels] == [str(i % 3) for i in range(12)]
    assert prepared(tmp_path / "mnist" / f"train-images-idx3-ubyte{ending}", tmp_path).digest == made.digest


def test_which_idx_files_of_a_folder_are_learned(tmp_path):
    folder = idx_set(tmp_path / "mnist", "t10k-", images=7)
    assert len(prepared(folder, tmp_path)) == 7
    idx_set(folder)
    idx_set(folder, ending=".gz")  # the same again
    assert len(prepared(folder, tmp_path)) == 12
    idx_set(folder, "emnist-letters-train-")
    with pytest.raises(
        InputError, match="holds several sets of images: give one of these files as --data: .*emnist-letters"
    ):
        prepared(folder, tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    "changes",
    [{"count": 13}, {"count": 2**32 - 1}, {"kind": 0x801}, {"width": 4}, {"width": 6}, {"width": 0}, {"height": 2**31}],
)
def test_wrong_idx_files_are_refused(tmp_path, ending, changes):
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte.* cannot be read with its labels .*: get both files again"
    ):
        prepared(idx_set(tmp_path / "mnist", ending=ending, **changes), tmp_path)
    assert list(tmp_path.glob("stores/*")) == []


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_truncated_idx_files_are_refused(tmp_path, ending):
    folder = idx_set(tmp_path / "mnist", ending=ending)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for size in (0, 3, 12, len(content) - 1):
            path.write_bytes(content[:size])
            with pytest.raises(InputError, match="cannot be read with its labels"):
                prepared(folder, tmp_path)
        path.write_bytes(content)
    assert len(prepared(folder, tmp_path)) == 12


def test_letters_of_emnist_are_turned_upright(tmp_path):
    made = prepared(idx_set(tmp_path / "emnist", "emnist-letters-train-"), tmp_path, resize="pad", background="red")
    image = made.take([3])[0]
    assert image[0, 8].tolist() == [255, 0, 0]  # above is background: the picture is wider than high
    assert image[8, 0].tolist() == [3, 3, 3]


# --- each remedy that is given works ----------------------------------------------------------------


def remedy(data, cache, message, **changes):
    """The --data that an error offers."""
    with pytest.raises(InputError, match=message) as raised:
        prepared(data, cache, **changes)
    return re.search(r"(?:did you mean --data|as --data[:,]) ([^ ,?]+)", str(raised.value))[1]


def test_one_picture_is_answered_with_its_folder(photos, tmp_path):
    one = photos / "odd" / "01.png"
    with pytest.raises(InputError, match="01.png is one picture, but a network learns what many .*: give the folder"):
        prepared(one, tmp_path)
    assert len(prepared(one.parent, tmp_path)) == 6


def test_the_name_of_a_public_data_set_is_answered_with_its_spelling(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    for kind in ("MNIST", "FashionMNIST", "Cifar10"):  # no server is asked for
        monkeypatch.setattr(getattr(tfds.image_classification, kind), "url_infos", None)
    with tfds.testing.mock_data(num_examples=7):
        for spelled, meant in (
            ("mnist", "tfds:mnist"),
            ("Fashion-MNIST", "tfds:fashion_mnist"),
            ("CIFAR-10", "tfds:cifar10"),
        ):
            assert remedy(spelled, tmp_path, "no such folder or file, and not sprites, pokemon, tfds:NAME") == meant
            assert len(prepared(meant, tmp_path)) == 7
    assert remedy("sprite", tmp_path, "no such folder") == "sprites"
    with pytest.raises(InputError, match=r"NAME\[:SPLIT\]. If the images have moved"):
        prepared("cats", tmp_path)


def test_idx_files_are_found_below_the_folder(tmp_path):
    """As torchvision lays them out."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    idx_set(raw)
    idx_set(raw, ending=".gz")
    idx_set(raw, "t10k-", images=7)
    assert prepared(tmp_path / "data", tmp_path).digest == prepared(raw, tmp_path).digest
    (tmp_path / "data" / "FashionMNIST").mkdir()
    idx_set(tmp_path / "data" / "FashionMNIST" / "raw", images=9)
    offered = remedy(tmp_path / "data", tmp_path, "holds several sets of images: give one of these files as --data")
    assert len(prepared(offered, tmp_path)) == 9
    Image.new("RGB", (4, 4)).save(tmp_path / "data" / "a.png")  # then the pictures are what is meant
    assert len(prepared(tmp_path / "data", tmp_path)) == 1


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_without_labels(tmp_path, capsys, ending):
    folder = idx_set(tmp_path / "mnist", ending=ending)
    whole = prepared(folder, tmp_path)
    labels = folder / f"train-labels-idx1-ubyte{ending}"
    offered = remedy(labels, tmp_path, "holds labels, not images: give the file of the images as --data")
    assert prepared(offered, tmp_path).digest == whole.digest
    labels.unlink()
    capsys.readouterr()
    for data in (folder, offered):
        made = prepared(data, tmp_path)
        assert made.digest == whole.digest and made.label_names == ("",)
        assert "12 images, no labels" in capsys.readouterr().err
    images = folder / f"train-images-idx3-ubyte{ending}"
    images.write_bytes(images.read_bytes()[:-9])
    with pytest.raises(InputError, match="train-images-idx3-ubyte.* cannot be read .*: get the file again"):
        prepared(folder, tmp_path)


def test_idx_files_in_a_zip_are_read_when_it_is_unpacked(tmp_path):
    shutil.make_archive(str(tmp_path / "mnist"), "zip", idx_set(tmp_path / "mnist"))
    with pytest.raises(InputError, match="to learn from IDX files unpack the archive, and give the folder as --data"):
        prepared(tmp_path / "mnist.zip", tmp_path)
    shutil.unpack_archive(tmp_path / "mnist.zip", tmp_path / "unpacked")
    assert len(prepared(tmp_path / "unpacked", tmp_path)) == 12


def test_other_archives_are_refused_with_the_remedy(tmp_path):
    (tmp_path / "photos.7z").write_bytes(b"7z")
    with pytest.raises(InputError, match="is an archive, but not a .zip or .tar: unpack it, and give the folder as"):
        prepared(tmp_path / "photos.7z", tmp_path)


def test_a_folder_of_an_archive_is_answered_with_what_to_give(archive, tmp_path):
    with pytest.raises(InputError, match="found .*1 .zip.* a .zip is read if it is given as --data itself"):
        prepared(archive.parent, tmp_path)
    assert len(prepared(archive, tmp_path)) == 12


def test_pictures_that_a_run_has_drawn_are_not_learned(photos, tmp_path, capsys):
    data = shutil.copytree(photos, tmp_path / "data")
    before = prepared(data, tmp_path)
    (data / "pictures").mkdir()
    for i in range(3):
        save_png(data / "pictures" / f"{i:05d}.png", np.full((16, 16, 3), i, np.uint8))
    for name in ("walk.gif", "walk.webp"):
        save_animation(data / name, np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8), fps=10)
    (data / "a run" / "samples").mkdir(parents=True)
    for name in ("config.json", "images.json", "metrics.jsonl"):
        (data / "a run" / name).write_text("")
    Image.new("RGB", (9, 9)).save(data / "a run" / "samples" / "old.png")  # of a version that wrote no note
    capsys.readouterr()
    for _ in range(2):
        assert prepared(data, tmp_path).digest == before.digest
        said = capsys.readouterr().err
        assert "5 pictures that dcgan_jax has drawn left out" in said and "ignored 4 of the run in a run in" in said
    with pytest.raises(InputError, match="only pictures that dcgan_jax has drawn: to learn from them, save them in"):
        prepared(data / "pictures", tmp_path)
    for path in list((data / "pictures").iterdir()):
        with Image.open(path) as image:
            image.save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    assert len(prepared(data / "pictures", tmp_path)) == 3


@pytest.mark.parametrize("ending", ["gif", "tiff", "webp", "png", "avif"])
def test_it_is_said_that_only_the_first_of_several_pages_is_learned(photos, tmp_path, capsys, ending):
    data = shutil.copytree(photos, tmp_path / "data")
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    pages[0].save(data / f"several.{ending}", save_all=True, append_images=pages[1:])
    pages[0].save(data / f"one.{ending}")
    store = prepared(data, tmp_path)
    assert len(store) == 14 and store.manifest.several == 1
    assert "1 of 14 files in" in (said := capsys.readouterr().err)
    assert "hold several pages or frames, of which the first was taken: to learn the others too, save each" in said
    assert store.manifest.skipped == [] and len(prepared(photos, tmp_path)) == 12
    assert "several pages" not in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["gif", "tiff"])
def test_a_damaged_second_page_does_not_cost_the_first(photos, tmp_path, ending):
    data = shutil.copytree(photos, tmp_path / "data")
    pages = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green")]
    pages[0].save(data / f"one.{ending}")
    pages[0].save(data / f"several.{ending}", save_all=True, append_images=pages[1:])
    first, content = ((data / f"{name}.{ending}").read_bytes() for name in ("one", "several"))
    cuts = range(len(first) + 1, len(content))
    for cut in cuts:
        (data / f"cut at {cut}.{ending}").write_bytes(content[:cut])
    store = prepared(data, tmp_path)
    assert len(store) == 14 + len(cuts) and not store.skipped and store.manifest.several > len(cuts) // 2


def test_a_column_is_for_tables(photos, tmp_path):
    with pytest.raises(InputError, match="--column image is for tables, and .*photos0? is none: leave it out"):
        prepared(photos, tmp_path, column="image")


def test_pictures_of_apple_telephones_are_answered_with_how_to_convert_them(photos, tmp_path, capsys):
    data = shutil.copytree(photos, tmp_path / "data")
    (data / "A.HEIC").write_bytes(b"")
    assert len(prepared(data, tmp_path)) == 12
    said = capsys.readouterr().err
    command = re.search("for f in .*; done", said)[0]
    with pytest.raises(InputError, match="found 1 .heic; wanted .* to learn from .heic too convert them"):
        (tmp_path / "only").mkdir()
        (tmp_path / "only" / "b.heic").write_bytes(b"")
        prepared(tmp_path / "only", tmp_path)
    if not (shutil.which("heif-enc") and shutil.which("heif-convert")):
        pytest.skip("needs libheif's commands, Debian's libheif-examples")
    (data / "A.HEIC").unlink()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    subprocess.run(["heif-enc", tmp_path / "red.png", "-o", data / "A.HEIC"], check=True, capture_output=True)
    subprocess.run(["sh", "-c", command], cwd=data, check=True, capture_output=True)
    assert len(prepared(data, tmp_path)) == 13
