"""Five channels of floats from a .npy file to all that a run makes of them."""

import contextlib
import dataclasses
import re

import jax
import numpy as np
import pytest
from PIL import Image

from dcgan_jax import (
    Config,
    InputError,
    animate,
    decode,
    evaluate,
    export,
    fit,
    from_pixels,
    generate,
    open_store,
    project,
    recipe,
    report,
    restore,
    sample,
    to_uint8,
)
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.views.grid import read_tiles

BANDS = np.random.default_rng(0).normal(0, 2, (40, 16, 16, 5)).clip(-10, 10).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("bands")
    np.save(root / "bands.npy", BANDS)
    config = Config(
        data=str(root / "bands.npy"),
        channels="auto",  # as recipe(data=...) has it
        range=(-10, 10),
        show=(4, 2, 1),
        image_size=16,
        width=4,
        latent_dim=8,
        batch_size=4,
        steps=2,
        log_every=2,
        sample_every=2,
        evaluate_every=8,
        input="numpy",
    )
    fit(config, root / "run")
    return root / "run"


def test_channels_that_are_not_given_are_those_of_an_array():
    assert recipe(data="bands.npy").channels == recipe("classic", data="bands.npz").channels == "auto"
    assert recipe(data="bands.npy", channels=5).channels == 5 and recipe(data="photos").channels == 3


def test_a_run_of_five_channels_is_evaluated_reported_and_exported(run, tmp_path, capsys):
    assert sample(restore(run), jax.random.key(0), 2).shape == (2, 16, 16, 5)
    assert {"kid", "coverage"} <= RunFolder(run).read_metrics()[-1].keys()
    assert {"fd", "swd", "deviation"} <= evaluate(run, num=10).figures.keys()
    assert "three channels at a time, side by side: 1 2 3, 4 5 5" in capsys.readouterr().err
    assert report(run).exists()
    files = export(run, tmp_path / "shared", formats=["safetensors", "html", "onnx"])
    assert re.search(r'"layers": \[.*?, 3\]\]', files[1].read_text())
    np.testing.assert_array_equal(*(sample(restore(p), jax.random.key(0), 2) for p in (run, files[0])))


def test_generated_values_are_in_the_units_and_the_type_of_the_file(run, tmp_path, monkeypatch):
    monkeypatch.setattr("dcgan_jax.run.values._PIECE", 2)
    made = generate(run, tmp_path / "out", num=5, seed=3, format="npy")
    assert [path.name for path in made.files] == ["images.npy"] and made.grid.exists()
    values = np.load(made.files[0])
    drawn = np.asarray(sample(restore(run), jax.random.key(3), 5))
    assert values.dtype == np.float32 and values.shape == (5, 16, 16, 5)
    np.testing.assert_allclose(values, drawn * 10.0, atol=1e-5)
    again = tmp_path / "again.npy"
    np.save(again, values)
    config = Config(data=str(again), channels=5, range=(-10, 10), image_size=16)
    with contextlib.closing(open_store(config)) as store:
        back = store.scale.values(from_pixels(store.take(range(5))))
    assert np.abs(back - values).max() < 20 / 65535
    generate(restore(run), tmp_path / "floats", num=5, seed=3, format="npy")
    np.testing.assert_allclose(np.load(tmp_path / "floats" / "images.npy"), drawn, atol=1e-6)
    with pytest.raises(InputError, match="show .* must be one channel or three of the 5"):
        generate(run, tmp_path / "other", show=(6,))


def test_an_array_is_projected_and_a_picture_is_refused(run, tmp_path):
    def refused(message, array=None, name="one.npy"):
        if array is not None:
            np.save(tmp_path / name, array)
        with pytest.raises(InputError, match=message) as error:
            project(run, [tmp_path / name], tmp_path / "out", iterations=1)
        assert "\n" not in str(error.value) and not (tmp_path / "out").exists()

    Image.new("RGB", (16, 16)).save(tmp_path / "one.png")
    refused("this run has images of 5 channels: give --image a .npy of one of them", name="one.png")
    refused("one.npy has 3 channels, but this run has images of 5: give --image", BANDS[0, ..., :3])
    refused("holds values of float64, but this run has learned from float32: save it in", BANDS[0].astype(float))
    refused(r"holds float32 \(40, 16, 16, 5\): give an array of one image, \(H, W, C\) or \(H, W\)", BANDS)
    np.save(tmp_path / "one.npy", BANDS[0])
    result = project(run, [tmp_path / "one.npy"], tmp_path / "out", iterations=1)
    drawn = to_uint8(decode(restore(run), result.z)).astype(float)
    pixels = np.rint((BANDS[0] + 10) / 20 * 255)
    assert result.errors == [pytest.approx(np.sqrt(np.mean((drawn[0] - pixels) ** 2)), abs=0.5)]


def test_pictures_show_the_channels_that_are_asked_for(run, tmp_path):
    pixels = np.rint((BANDS[:20] + 10) / 20 * 255)[..., [3, 1, 0]]
    reals = read_tiles(RunFolder(run).reals, (16, 16, 3)).reshape(20, 16, 16, 3)
    assert np.abs(reals - pixels).max() <= 1
    drawn = to_uint8(sample(restore(run), jax.random.key(0), 2))
    generate(run, tmp_path / "out", num=2)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "00001.png")), drawn[1][..., [3, 1, 0]])
    config = RunFolder(run).config()
    fit(dataclasses.replace(config, show=(2,)), run)  # may change
    with Image.open(RunFolder(run).grid(0)) as before:
        assert before.mode == "RGB"
    assert report(run, out=tmp_path / "report.html").exists()
    animate(run, tmp_path / "training.webp", what="training", seconds=1, fps=2)
    generate(run, tmp_path / "grey", num=2)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grey" / "00001.png")), drawn[1][..., 1])
