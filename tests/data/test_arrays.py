"""Arrays of NumPy as images: any number of channels, any type of numbers, and what is refused."""

import contextlib

import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data.decode import read_square
from dcgan_jax.data.pipeline import batch_indices, batches
from dcgan_jax.data.planes import Planes
from dcgan_jax.gan.pixels import from_pixels
from dcgan_jax.system.errors import InputError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
BANDS = RNG.normal(0, 2, (12, 16, 16, 5)).clip(-10, 10).astype(np.float32)


def stored(path, array, **settings):
    np.save(path / "images.npy", array)
    return prepared(path / "images.npy", path / "cache", **settings)


@pytest.mark.parametrize("kind", ["float32", "float64", ">f4", "float16"])
def test_floats_come_back_in_their_own_units_to_a_65535th_of_their_range(tmp_path, kind):
    store = stored(tmp_path, BANDS.astype(kind), channels=5, range=(-10, 10))
    back = store.scale.values(from_pixels(store.take(range(12))))
    assert store.type == "uint16" and back.dtype == np.dtype(kind).newbyteorder("=")
    step = 20 / 65535 + (0.008 if kind == "float16" else 0)
    assert np.abs(back.astype(float) - BANDS).max() < step


@pytest.mark.parametrize("size", [1e-250, 1e-30, 1e30, 1e290])
def test_floats_of_any_size_are_learned_from(tmp_path, size):
    array = BANDS[..., :1].astype(float) * size
    with pytest.raises(InputError, match="such as --range") as error:
        stored(tmp_path, array, channels=1)
    ends = tuple(map(float, str(error.value).split("--range ")[1].split()))
    store = stored(tmp_path, array, channels=1, range=ends)
    back = store.scale.values(from_pixels(store.take(range(12))))
    np.testing.assert_allclose(back / size, array / size, atol=20 / 65535)


@pytest.mark.parametrize(
    ("array", "settings", "type_"),
    [
        (BYTES, {}, "uint8"),
        (BYTES[..., 0], {"channels": 1}, "uint8"),
        (BYTES > 99, {}, "uint8"),
        (np.asfortranarray(BYTES), {}, "uint8"),
        (BYTES.astype(np.int64), {"range": (0, 255)}, "uint8"),
        (BYTES.astype(np.int32) * 100 - 500, {"range": (-500, 25000)}, "uint16"),
        (RNG.integers(0, 65536, BYTES.shape).astype(np.uint16), {}, "uint16"),
        (RNG.integers(0, 65536, BYTES.shape).astype(">u2"), {}, "uint16"),
    ],
)
def test_whole_numbers_come_back_as_they_were(tmp_path, array, settings, type_):
    store = stored(tmp_path, array, **settings)
    back = store.scale.values(from_pixels(store.take(range(12))))
    assert store.type == type_
    np.testing.assert_array_equal(back, array.reshape(back.shape))
    assert stored(tmp_path, array, bits="8", **settings).type == "uint8"


def test_each_channel_is_resized_as_pillow_resizes_floats(tmp_path):
    large = RNG.normal(0, 1, (40, 60, 5)).astype(np.float32)
    square = read_square(Planes(large), Config(image_size=16, channels=5, range=(-5, 5)))
    for i in range(5):
        crop = Image.fromarray(large[..., i]).resize((16, 16), Image.Resampling.BILINEAR, (10, 0, 50, 40))
        np.testing.assert_allclose(square[..., i] / 65535 * 10 - 5, np.asarray(crop), atol=3e-4)


def test_colours_of_8_bits_become_what_pictures_of_them_become():
    large = RNG.integers(0, 256, (39, 48, 3)).astype(np.uint8)  # padded by 3 pixels: 1 above, 2 below
    for settings in ({}, {"resize": "squash"}, {"resize": "pad", "background": "#204060"}, {"channels": 1}):
        config = Config(image_size=16, **settings)
        difference = read_square(Planes(large), config).astype(int) - read_square(large, config)
        assert np.abs(difference).max() <= 1


def test_two_or_four_channels_have_alpha_only_if_that_is_asked_for(tmp_path):
    rgba = np.concatenate([BYTES, RNG.integers(0, 256, (12, 16, 16, 1)).astype(np.uint8)], -1)
    rgba[:, :8, :, 3] = 0
    store = stored(tmp_path, rgba, channels=4)
    assert (store.take([0])[0, :8] == 0).all() and store.manifest.transparent == 12
    np.testing.assert_array_equal(store.take(range(12))[:, 8:, :, 3], rgba[:, 8:, :, 3])
    for array in (rgba, BANDS[..., :4], BANDS[..., :2]):
        settings = {} if array is rgba else {"range": (-10, 10)}
        with pytest.raises(InputError, match="if the last is alpha, that is transparency, else --channels [53], of "):
            stored(tmp_path, array, channels=1, **settings)
        store = stored(tmp_path, array, channels=array.shape[3] + 1, **settings)
        back = store.scale.values(from_pixels(store.take(range(12))))
        np.testing.assert_allclose(back, array, atol=20 / 65535)
        assert (store.take([0])[..., -1] == 0).all()
        assert stored(tmp_path, array, channels="auto", **settings).digest == store.digest


def test_labels_of_archives_and_folders(tmp_path):
    digits = np.arange(12) % 3
    np.savez_compressed(tmp_path / "k.npz", x_train=BYTES, y_train=digits, x_test=BYTES[:2], y_test=digits[:2])
    store = prepared(tmp_path / "k.npz", tmp_path / "cache")
    assert [store.label_names[i] for i in store.labels] == list(map(str, digits))
    for i, image in enumerate(BYTES):
        (tmp_path / "set" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "set" / "ab"[i % 2] / f"{i:02d}.npy", image)
    store = prepared(tmp_path / "set", tmp_path / "cache")
    assert store.label_names == ("a", "b") and (np.bincount(store.labels) == 6).all()
    np.testing.assert_array_equal(store.take(range(12)), np.concatenate([BYTES[::2], BYTES[1::2]]))
    (tmp_path / "two").mkdir()
    np.save(tmp_path / "two" / "x.npy", BYTES)
    np.save(tmp_path / "two" / "y.npy", digits)
    store = prepared(tmp_path / "two", tmp_path / "cache")
    assert [store.label_names[i] for i in store.labels] == list(map(str, digits))


def one_value(array, value):
    changed = array.copy()
    changed[3, 0, 0, 0] = value
    return changed


@pytest.mark.parametrize(
    ("array", "settings", "message"),
    [
        (BANDS, {"range": (-10, 10)}, "images of 5 channels, not 3: give --channels 5"),
        (BANDS, {"channels": 5}, r"float32 from -\S+ to \S+: say .* such as --range -\S+ \d\S+$"),
        (one_value(BANDS, np.nan), {"channels": 5}, "; 1 of 12 images hold values that are infinite or not a number:"),
        (BYTES.astype(np.int64), {}, "values of int64 from 0 to 255: say"),
        (np.full((4, 8, 8, 3), np.nan), {}, "holds no finite value"),
        (np.full((4, 8, 8, 3), np.nan), {"range": (0, 1)}, r"4 of 4 images in .*image 0 \(a pixel is infinite or not"),
        (np.zeros((4, 8, 8, 3)), {}, "holds the one value 0: there is nothing to learn"),
        (np.zeros((4, 3, 20, 20)), {}, r"channels before the rows: save numpy.moveaxis\(array, 1, -1\)"),
        (
            BANDS,
            {"channels": 5, "range": (100, 200)},
            "go from -.* to .*, all beyond --range 100 200: give one in which",
        ),
        (BYTES[0], {}, "holds one image of the shape"),
        (BYTES.astype(complex), {}, "holds complex128 .*: give arrays of numbers"),
        (np.arange(7), {}, r"holds int64 \(7,\): give arrays of numbers \(N, H, W, C\)"),
        (np.empty((0, 8, 8, 3)), {}, "give arrays of numbers"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_in_one_sentence(tmp_path, array, settings, message):
    with pytest.raises(InputError, match=message) as error:
        stored(tmp_path, array, **settings)
    assert "\n" not in str(error.value) and not list(tmp_path.glob("cache/stores/*"))


def test_an_image_that_is_not_finite_is_skipped_and_what_is_cut_off_is_said(tmp_path, capsys):
    store = stored(tmp_path, one_value(BANDS, np.inf), channels=5, range=(-1, 1))
    assert len(store) == 11 and store.skipped == ("image 3 (a pixel is infinite or not a number)",)
    assert "what lies beyond --range -1 1 is cut off" in capsys.readouterr().err


def test_sets_of_several_kinds_are_refused(tmp_path):
    np.savez(tmp_path / "mixed.npz", a=np.zeros((16, 16, 3), np.uint8), b=np.zeros((20, 20, 3), np.uint8))
    np.savez(tmp_path / "several.npz", a=BYTES, b=BYTES)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "a.npy", BYTES[0])
    np.save(tmp_path / "folder" / "b.npy", np.zeros((16, 16, 4), np.uint8))
    for name, message in {
        "mixed.npz": r"different shapes \(a.npy of 16x16x3, b.npy of 20x20x3\)",
        "several.npz": r"several sets of images \(a, b\): save the one to learn from alone",
        "folder": r"different numbers of channels \(a.npy of 16x16x3, b.npy of 16x16x4\)",
    }.items():
        with pytest.raises(InputError, match=message):
            prepared(tmp_path / name, tmp_path / "cache")
    np.save(tmp_path / "folder" / "b.npy", BYTES[0].astype(np.float32))
    with pytest.raises(InputError, match="values of different types: a.npy of uint8, b.npy of float32"):
        prepared(tmp_path / "folder", tmp_path / "cache")


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (10**14, "free, but the decoded copy of .* needs .*: make room or choose another"),
        (10**20, "give arrays|no images"),
    ],
)
def test_a_header_that_claims_more_than_fits_anywhere_is_refused(tmp_path, count, message):
    (tmp_path / "folder").mkdir()
    with open(tmp_path / "folder" / "lies.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 16, 16, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(5000))
    for data in ("folder", "folder/lies.npy"):
        with pytest.raises(InputError, match=message):
            prepared(tmp_path / data, tmp_path / "cache")


def test_damaged_files_are_named(tmp_path):
    np.save(tmp_path / "whole.npy", BYTES)
    whole = (tmp_path / "whole.npy").read_bytes()
    np.save(tmp_path / "object.npy", np.array([{"a": print}], object))
    for name, content in {
        "cut.npy": whole[:-5],
        "no.npy": b"hello",
        "header.npy": whole[:40],
        "no.npz": b"PK\3\4 and nothing",
        "object.npy": (tmp_path / "object.npy").read_bytes(),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name} (cannot be read as NumPy's|holds object)"):
            prepared(tmp_path / name, tmp_path / "cache")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"input": "tf"}, marks=pytest.mark.slow),
        {"input": "numpy"},
        {"device_data": True, "input": "numpy"},
    ],
)
def test_batches_of_16_bits_are_those_of_the_store(tmp_path, changes):
    store = stored(tmp_path, BANDS, channels=5, range=(-10, 10))
    config = Config(batch_size=4, image_size=16, channels=5, held_out=0, seed=3, **changes)
    with contextlib.closing(batches(store, config, start=2)) as stream:
        batch = next(stream)
    assert batch.dtype == np.uint16
    wanted = store.take(batch_indices(2, count=12, batch_size=4, seed=3))
    np.testing.assert_array_equal(batch, wanted)
    np.testing.assert_array_equal(from_pixels(batch), from_pixels(wanted))  # on the device to the same bits
    np.testing.assert_array_equal(from_pixels(wanted), (wanted / 32767.5 - 1).astype(np.float32))
