"""HDF5 files as images: what of a file is read, with which labels, and what is refused."""

import importlib.util

import numpy as np
import pytest
from helpers import prepared

from dcgan_jax.data import hdf5
from dcgan_jax.data.sources import absolute
from dcgan_jax.gan.pixels import from_pixels
from dcgan_jax.recipes import recipe
from dcgan_jax.system.errors import InputError

h5py = pytest.importorskip("h5py")
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
BANDS = RNG.normal(0, 2, (12, 16, 16, 5)).clip(-10, 10)
DIGITS = np.arange(12) % 3


def write(path, options=None, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **(options or {} if np.ndim(array) > 2 else {}))
    return path


def words(store):
    return [store.label_names[i] for i in store.labels]


@pytest.mark.parametrize(
    ("array", "settings"),
    [
        (BYTES, {}),
        (BYTES[..., 0], {}),
        (BANDS > 0, {}),
        (RNG.integers(0, 65536, BYTES.shape).astype(">u2"), {}),
        (BANDS.astype(">f4"), {"range": (-10, 10)}),
        (BANDS.astype(np.float16), {"range": (-10, 10)}),
    ],
)
def test_arrays_come_back_as_those_of_npy_do(tmp_path, array, settings, monkeypatch):
    np.save(tmp_path / "set.npy", array)
    options = {"chunks": (5, *array.shape[1:]), "compression": "gzip"}
    monkeypatch.setattr(hdf5, "BLOCK", 5000)  # several of them, of which some end within a chunk
    ours = prepared(write(tmp_path / "set.h5", options, images=array), tmp_path / "cache", channels="auto", **settings)
    npy = prepared(tmp_path / "set.npy", tmp_path / "cache", channels="auto", **settings)
    np.testing.assert_array_equal(ours.take(range(12)), npy.take(range(12)))
    back = ours.scale.values(from_pixels(ours.take(range(12)))).astype(float)
    np.testing.assert_allclose(back[..., : npy.scale.channels].reshape(array.shape), array, atol=0.008)
    assert ours.scale == npy.scale and ours.type == npy.type


@pytest.mark.parametrize(
    ("arrays", "inside", "labels"),
    [
        ({"images": BYTES, "labels": DIGITS}, "", "012" * 4),
        ({"images": BYTES, "y": DIGITS[:, None], "weight": DIGITS + 5}, "", "012" * 4),
        ({"images": BYTES, "kind": np.array(["a", "b", "ü"] * 4, object)}, "", "abü" * 4),
        ({"x_train": BYTES, "y_train": DIGITS, "x_test": BYTES[:2], "y_test": DIGITS[:2]}, "", "012" * 4),
        ({"left/x": BYTES, "left/y": DIGITS, "right/x": BYTES[::-1], "right/y": DIGITS[::-1]}, ":right/x", "210" * 4),
        ({"left/x": BYTES, "left/y": DIGITS, "right/x": BYTES[::-1]}, ":/right/x", [""] * 12),
    ],
)
def test_labels_are_those_beside_the_images(tmp_path, arrays, inside, labels):
    path = write(tmp_path / "set.hdf5", **arrays)
    store = prepared(f"{path}{inside}", tmp_path / "cache")
    wanted = arrays[inside.strip(":/")] if inside else BYTES
    np.testing.assert_array_equal(store.take(range(12)), wanted)
    assert words(store) == list(labels)


def test_a_data_set_is_named_wherever_the_run_is(tmp_path, monkeypatch):
    write(tmp_path / "set.h5", a=BYTES, b=BYTES[::-1])
    monkeypatch.chdir(tmp_path)
    assert absolute("set.h5:b") == f"{tmp_path}/set.h5:b" and recipe(data="set.h5:b").channels == "auto"
    stores = [prepared(f"set.h5:{name}", tmp_path / "cache") for name in "ab"]
    np.testing.assert_array_equal(stores[0].take(range(12)), stores[1].take(range(12))[::-1])


@pytest.mark.parametrize(
    ("arrays", "inside", "message"),
    [
        ({"a": BYTES, "in/b": BYTES}, "", r"several sets of images \(a, in/b\): name one, as --data \S*set.h5:a$"),
        ({"a": BYTES, "b": BYTES}, ":c", "has no data set c, only a, b: give one of them after the colon"),
        ({"names": np.array(["a"], object)}, "", r"holds <U0 \(1,\): give arrays of numbers \(N, H, W, C\)"),
        ({}, "", "holds nothing: give arrays of numbers"),
        ({"a": BANDS}, "", "values of float64 from -.* say between which values they lie, such as --range"),
        ({"a": np.moveaxis(BYTES, 3, 1)[..., :15].repeat(2, 3)}, "", "a is of the shape .* channels before the rows"),
    ],
)
def test_what_cannot_be_learned_from_is_a_sentence(tmp_path, arrays, inside, message):
    with pytest.raises(InputError, match=message) as error:
        prepared(f"{write(tmp_path / 'set.h5', **arrays)}{inside}", tmp_path / "cache", channels="auto")
    assert "\n" not in str(error.value) and not list(tmp_path.glob("cache/stores/*"))


def test_damaged_files_and_a_missing_library_are_a_sentence(tmp_path, monkeypatch):
    whole = write(tmp_path / "whole.h5", {"chunks": (1, 16, 16, 3), "compression": "gzip"}, a=BYTES).read_bytes()
    for name, content in {"cut.h5": whole[:-99], "no.h5": b"hello", "empty.h5": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} cannot be read as HDF5 .*: get it again"):
            prepared(tmp_path / name, tmp_path / "cache")
    broken = bytearray(whole)
    broken[len(whole) // 2 : len(whole) // 2 + 99] = bytes(99)
    (tmp_path / "broken.h5").write_bytes(broken)
    with pytest.raises(InputError, match="broken.h5 cannot be read as HDF5"):
        prepared(tmp_path / "broken.h5", tmp_path / "cache")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs one more package: python -m pip install 'dcgan_jax\[datasets\]'"):
        prepared(tmp_path / "whole.h5", tmp_path / "cache")


def test_chunks_that_fill_the_memory_are_refused(tmp_path, monkeypatch):
    write(tmp_path / "set.h5", {"chunks": BYTES.shape, "compression": "gzip"}, a=BYTES)
    monkeypatch.setattr(hdf5, "CHUNK_LIMIT", 1000)
    with pytest.raises(InputError, match="holds a in chunks of .*: save it with chunks of one image"):
        prepared(tmp_path / "set.h5", tmp_path / "cache")
