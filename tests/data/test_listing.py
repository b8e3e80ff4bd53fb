"""Which files are learned, under which labels, and what is said of the others."""

import os
import shutil
import zipfile
from collections import Counter

import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.system.errors import InputError


@pytest.fixture
def grow(tmp_path):
    """Make a folder, or a .zip, with pictures (no two alike) and other files; returns its path."""
    made = iter(range(10_000))

    def content(name):
        if not name.lower().endswith((".png", ".jpg")):
            return b"no picture"
        Image.new("RGB", (4, 4), (next(made) % 256, 9, 9)).save(tmp_path / "one.png")
        return (tmp_path / "one.png").read_bytes()

    def folder(*names, kind="folder"):
        path = tmp_path / f"pics.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as out:
                for name in names:
                    info = zipfile.ZipInfo("x")
                    info.filename = name  # ZipInfo itself would change some
                    out.writestr(info, content(name))
            return path
        for name in names:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content(name))
        return path

    return folder


def learned(path):
    """How many images each label has."""
    store = prepared(path, path.parent / "cache")
    return dict(Counter(store.label_names[label] for label in store.labels))


# --- links ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs POSIX")
def test_links_to_folders_are_followed_once(grow, tmp_path, capsys):
    root = grow("own/1.png", "own/2.png")
    for i in range(5):
        (tmp_path / "elsewhere" / "deep").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "elsewhere" / "deep" / f"{i}.png")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    (root / "linked").symlink_to("../elsewhere")
    (root / "twice").symlink_to("../elsewhere")
    (root / "a_link_to_own").symlink_to("own")
    (root / "circle").symlink_to("../pics.folder")
    (root / "up").symlink_to("..")
    assert learned(root) == {"linked": 5, "own": 2}
    assert f"ignored 5 links in {root} to folders that are read already or hold it" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs POSIX")
def test_a_data_folder_of_nothing_but_links(grow, tmp_path, capsys):
    grow("cat/1.png", "dog/1.png", "dog/2.png")
    (tmp_path / "links").mkdir()
    for kind in ("cat", "dog"):
        (tmp_path / "links" / f"my {kind}").symlink_to(tmp_path / "pics.folder" / kind)
    (tmp_path / "whole").symlink_to("links")
    assert learned(tmp_path / "whole") == {"my cat": 1, "my dog": 2}
    assert "ignored" not in capsys.readouterr().err


# --- labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("cat/2019/1.png", "cat/2020/1.png", "dog/2019/1.png"), {"cat": 2, "dog": 1}),
        (("all/mine/cat/1.png", "all/mine/dog/x/1.png"), {"cat": 1, "dog": 1}),
        (("mine/cat/1.png", "mine/dog/1.png", "cover.png"), {"": 1, "cat": 1, "dog": 1}),
        (("train/cat/1.png", "train/dog/1.png", "Test/cat/1.png"), {"cat": 2, "dog": 1}),
        (("train/1.png", "test/1.png"), {"train": 1, "test": 1}),
        (("1.png", "some/1.png"), {"": 1, "some": 1}),
        (("cat/1.png", "cat/2.png"), {"cat": 2}),
        (("1.png", "2.png"), {"": 2}),
    ],
)
def test_a_label_is_the_first_folder_that_differs(grow, kind, names, labels):
    assert learned(grow(*names, kind=kind)) == labels


def test_backslashes_separate_in_an_archive_made_on_windows(grow, capsys):
    path = grow("cat\\", "cat\\1.png", "dog\\1.png", "dog\\2.png", "__MACOSX\\cat\\._1.png", kind="zip")
    assert learned(path) == {"cat": 1, "dog": 2}
    assert f"ignored 1 in __MACOSX in {path}" in capsys.readouterr().err


def test_backslashes_are_part_of_a_name_beside_slashes(grow):
    assert learned(grow("a/x\\1.png", "b/y\\1.png", "b/y\\2.png", kind="zip")) == {"a": 1, "b": 2}


# --- what is ignored --------------------------------------------------------------------------------

SIDE_FILES = {
    "cat/@eaDir/1.png/SYNOPHOTO_THUMB_XL.jpg": "in @eaDir",
    "#recycle/old.jpg": "in #recycle",
    ".@__thumb/default1.jpg": "in .@__thumb",
    "@Recycle/old.jpg": "in @Recycle",
    "$RECYCLE.BIN/S-1-5/$R1.jpg": "in $RECYCLE.BIN",
    "__MACOSX/cat/x.png": "in __MACOSX",
    "._1.png": "._*",
    ".DS_Store": ".DS_Store",
    "cat/Thumbs.db": "Thumbs.db",
    "desktop.ini": "desktop.ini",
    ".picasa.ini": ".picasa.ini",
    ".thumbnails/1.png": "in .thumbnails",
    "iPhoto Library/Thumbnails/1.jpg": "in Thumbnails",
    "My.photoslibrary/resources/derivatives/1.jpg": "in resources",
    "Mine Previews.lrdata/0/1.jpg": "in Mine Previews.lrdata",
    "cat/1.xmp": ".xmp",
    "cat/IMG_1.AAE": ".aae",
    ".hidden.png": "hidden",
    "AlbumArt_{33}_Small.jpg": "AlbumArt_{*",
    "cat/SYNOPHOTO_THUMB_M.jpg": "SYNOPHOTO_THUMB*",
    "notes.txt": ".txt",
    "Makefile": "without an extension",
}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("name", SIDE_FILES)
def test_side_files_are_ignored_and_named(grow, capsys, kind, name):
    path = grow("cat/1.png", "dog/1.png", name, kind=kind)
    for _ in range(2):  # also when the images are in the cache
        assert learned(path) == {"cat": 1, "dog": 1}
        assert f"ignored 1 {SIDE_FILES[name]} in {path}\n" in capsys.readouterr().err


def test_ignored_files_are_counted_by_kind(grow, capsys):
    path = grow("1.png", "a.heic", "b.HEIC", "c.heic", "notes.txt", ".DS_Store", "x/.DS_Store", "Thumbs.db")
    assert learned(path) == {"": 1}
    assert (
        f"ignored 3 .heic, 2 .DS_Store, 1 .txt, 1 Thumbs.db in {path}; to learn from .heic too"
        in capsys.readouterr().err
    )


def test_thumbnails_are_learned_where_there_is_nothing_else(grow, capsys):
    path = grow("Thumbnails/1.png", "Thumbnails/2.png")
    assert learned(path) == {"Thumbnails": 2}
    grow("photos/1.png")
    assert learned(path) == {"photos": 1}
    assert "ignored 2 in Thumbnails" in capsys.readouterr().err


def test_a_folder_of_side_files_only_says_so(grow):
    with pytest.raises(InputError, match="holds no images: found 2 in @eaDir, 1 .xmp; wanted files like .png"):
        learned(grow("@eaDir/1.png", "@eaDir/2.png", "1.xmp"))


def test_the_labels_of_a_run_may_change_but_not_its_images(grow, tmp_path):
    path = grow("cat/2019/1.png", "dog/2019/1.png")
    first = prepared(path, tmp_path / "cache")
    (path / "all").mkdir()
    shutil.move(path / "cat", path / "all" / "cat")
    shutil.move(path / "dog", path / "all" / "dog")
    again = prepared(path, tmp_path / "cache")
    assert again.digest == first.digest and again.label_names == first.label_names == ("cat", "dog")
