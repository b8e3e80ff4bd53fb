"""A run of pictures that are not square, from its pictures to its files for others."""

import dataclasses
import json

import chromium
import jax
import numpy as np
import pytest
from helpers import equal, metrics_of
from PIL import Image

from dcgan_jax import (
    Config,
    InputError,
    animate,
    decode,
    evaluate,
    export,
    fit,
    generate,
    project,
    report,
    restore,
    restore_state,
    sample,
    to_uint8,
)
from dcgan_jax.data.decode import read_square
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.views.grid import read_tiles

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """12 pictures 24 high and 16 wide: dark above, light below, with a bright left edge."""
    root = tmp_path_factory.mktemp("tall")
    for i in range(12):
        rows = np.linspace(0, 200, 24)[:, None, None] + np.array([5 * i, 0, 30])[None, None]
        pixels = np.broadcast_to(rows, (24, 16, 3)).copy()
        pixels[:, :4] = 250
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run of four steps, which was started with ``auto`` for two, and resumed with it."""
    config = Config(
        data=str(photos),
        image_size="auto",
        width=4,
        latent_dim=8,
        batch_size=4,
        steps=4,
        log_every=2,
        sample_every=2,
        checkpoint_every=2,
        evaluate_every=0,
    )
    workdir = tmp_path_factory.mktemp("runs") / "run"
    fit(dataclasses.replace(config, steps=2), workdir)
    fit(config, workdir)
    return workdir


def test_it_resumes_with_the_size_that_it_has_stored(run):
    assert json.loads((run / "config.json").read_text())["image_size"] == "24x16"
    assert [line["step"] for line in metrics_of(run)] == [2, 4] and restore_state(run).step == 4
    with pytest.raises(InputError, match=r"another configuration: image_size \('16x24', was '24x16'\)"):
        fit(dataclasses.replace(Config.load(run / "config.json"), image_size="16x24"), run)


def test_pictures_and_grids_have_its_shape(run, photos, tmp_path):
    images = sample(restore(run), KEY, 3)
    assert images.shape == (3, 24, 16, 3)
    pictures = generate(run, tmp_path / "pictures", num=3)
    with Image.open(pictures.files[2]) as picture:
        assert np.array_equal(picture, to_uint8(images)[2])
    with Image.open(pictures.grid) as picture:
        assert picture.size == (2 * 18 + 2, 2 * 26 + 2)
    folder = RunFolder(run)
    reals = read_tiles(folder.reals, (24, 16, 3)).reshape(-1, 24, 16, 3)
    assert (reals[0, :, :4] == 250).all() and reals[0, 0, 8, 1] < 10 and reals[0, -1, 8, 1] > 190
    assert set(folder.grids()) == {0, 2, 4}
    for what, size in (("walk", (2, 1)), ("training", (2, 1))):
        with Image.open(animate(run, tmp_path / f"{what}.gif", what=what, seconds=0.2, size=size)) as film:
            assert film.size == (2 * (2 * 18 + 2), 2 * (26 + 2))  # each pixel 2 wide


def test_it_is_measured_and_reported(run):
    evaluation = evaluate(run, num=6)
    assert evaluation.step == 4 and np.isfinite(evaluation.figures["fd"].value)
    page = report(run).read_text()
    assert "24×16×3" in page and "left out of" not in page
    assert f"{evaluation.figures['fd'].value:.3g}" in page


def test_pictures_are_projected(run, photos, tmp_path):
    projection = project(run, [photos / "3.png"], tmp_path / "out", iterations=2)
    with Image.open(tmp_path / "out" / "projection.png") as picture:
        assert picture.width < picture.height * 2 * 16 / 24 * 1.2
    assert projection.z.shape == (1, 8)


def test_others_draw_the_same(run, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("safetensors")
    runtime = pytest.importorskip("onnxruntime")
    export(run, tmp_path / "shared")
    params = restore(run)
    assert equal(sample(restore(tmp_path / "shared" / "generator.safetensors"), KEY, 2), sample(params, KEY, 2))
    z = params.latent.draw(KEY, 5)
    (images,) = runtime.InferenceSession(tmp_path / "shared" / "generator.onnx").run(None, {"z": np.asarray(z)})
    np.testing.assert_allclose(images, decode(params, z), atol=1e-4)


@chromium.needed
def test_the_explorer_draws_it_in_its_shape(run, tmp_path):
    page = chromium.Browser(tmp_path / "profile")
    try:
        export(run, tmp_path / "shared", formats=["html"])
        params = restore(run)
        z = params.latent.draw(KEY, 5)
        for fragment in ("#gpu", "#cpu"):
            address = (tmp_path / "shared" / "explorer.html").as_uri() + fragment
            page.open(address, "document.body && document.body.dataset.ready")
            code = f"dcgan.decode({np.asarray(z).tolist()}).then((all) => all.map((image) => Array.from(image)))"
            images = np.array(page.run(code)).reshape(5, 24, 16, 3)
            assert abs(images - to_uint8(decode(params, z)).astype(int)).max() <= 2
        box = page.run(
            "(({width, height}) => [width, height])($('grid').querySelector('canvas').getBoundingClientRect())"
        )
        assert box[1] / box[0] == pytest.approx(1.5, rel=0.02)
        assert page.errors == []
    finally:
        page.close()


@pytest.mark.parametrize(
    ("resize", "rows", "columns"),
    [("crop", (15, 25), slice(None)), ("squash", (0, 40), slice(None)), ("pad", (0, 40), slice(12, 20))],
)
def test_pictures_are_brought_to_the_shape(resize, rows, columns):
    """40x20 in 16x32: cropped above and below, pressed flat, or with borders at the sides."""
    picture = np.repeat(6 * np.arange(40, dtype=np.uint8), 20).reshape(40, 20)
    config = Config(image_size="16x32", channels=1, resize=resize, background="white")
    pixels = read_square(picture, config)[..., 0].astype(int)
    assert pixels.shape == (16, 32)
    inner = pixels[:, columns]
    assert (inner == inner[:, :1]).all() and np.delete(pixels, np.s_[columns], axis=1).min(initial=255) == 255
    edges = np.linspace(*rows, 17)
    expected = 6 * ((edges[1:] + edges[:-1]) / 2 - 0.5)
    np.testing.assert_allclose(inner[1:-1, 0], expected[1:-1], atol=3)
