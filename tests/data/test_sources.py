"""Where images come from: folders, archives, and what is said when there are none."""


import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.system.errors import InputError


def test_a_folder_and_its_zip_give_the_same_images(photos, archive, tmp_path):
    folder, zipped = prepared(photos, tmp_path), prepared(archive, tmp_path)
    assert folder.shape == zipped.shape == (12, 16, 16, 3)
    everything = range(12)
    np.testing.assert_array_equal(folder.take(everything), zipped.take(everything))
    np.testing.assert_array_equal(folder.labels, zipped.labels)
    assert folder.label_names == zipped.label_names == ("even", "odd")
    assert sorted(folder.take(everything)[:, 0, 0, 0]) == [20 * i for i in everything]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "found nothing"),
        ({"a.txt": b"", "b.txt": b"", "c.csv": b"", "Makefile": b""}, "found 2 .txt, 1 .csv, 1 without an ending"),
        ({".hidden.png": b"", "__MACOSX/x.png": b""}, "found nothing"),
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


def test_what_does_not_exist_is_refused_with_the_choices(tmp_path):
    with pytest.raises(InputError, match="no such folder or file, nor one of sprites, pokemon, tfds:NAME"):
        prepared("sprite", tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="neither a folder nor a readable .zip"):
        prepared(tmp_path / "notes.txt", tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="'mauvish' is no colour"):
        prepared(tmp_path, tmp_path / "cache", background="mauvish")
