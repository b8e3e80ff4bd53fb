"""Pictures with alpha, from their files through a run to the files that it makes."""

import base64
import dataclasses
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import equal, metrics_of
from numpy.testing import assert_allclose
from PIL import Image, ImageSequence
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore

from dcgan_jax import animate, decode, evaluate, export, fit, generate, project, report, restore, sample, show, to_uint8
from dcgan_jax.data.store import open_store
from dcgan_jax.gan.pixels import from_uint8, opaque
from dcgan_jax.recipes import recipe
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.measure import draw
from dcgan_jax.views.grid import grid, read_tiles

SLIGHT = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4, "steps": 4, "log_every": 2}


def disc(number, under):
    """A disc of one colour on nothing, with smooth edges; ``under`` is the colour where nothing is seen."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:20, :20] - rng.integers(7, 13, (2, 1, 1))
    alpha = np.clip((rng.integers(4, 8) - np.hypot(x, y)) + 0.5, 0, 1)[..., None]
    colours = np.where(alpha > 0, rng.integers(0, 256, 3), under)
    return np.concatenate([colours, 255 * alpha], axis=-1).round().astype(np.uint8)


def write_discs(folder, under):
    folder.mkdir(parents=True)
    for i in range(24):
        Image.fromarray(disc(i, under)).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return write_discs(tmp_path_factory.mktemp("data") / "discs", under=(0, 255, 0))


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory):
    """A run of four steps with an evaluation."""
    workdir = tmp_path_factory.mktemp("runs") / "discs"
    fit(recipe("classic", data=str(discs), channels=4, evaluate_every=16, **SLIGHT), workdir)
    return workdir


def on(ground, image):
    """A picture's file as a viewer shows it."""
    with Image.open(image) as opened:
        return np.asarray(Image.alpha_composite(Image.new("RGBA", opened.size, ground), opened.convert("RGBA")))


@pytest.mark.parametrize("channels", [4, 2])
def test_what_lies_under_alpha_0_in_a_file_changes_nothing(discs, channels, tmp_path):
    other = write_discs(tmp_path / "discs", under=(90, 0, 200))
    stores = [
        open_store(recipe(data=str(folder), channels=channels, image_size=16), cache=tmp_path / "cache")
        for folder in (discs, other)
    ]
    assert stores[0].digest == stores[1].digest and stores[0].manifest.transparent == 24
    images = stores[0].take(range(24))
    assert images.shape == (24, 16, 16, channels) and (images[..., -1] == 0).any()
    image = Image.fromarray(disc(3, under=(0, 255, 0))).resize((16, 16), Image.Resampling.BILINEAR)
    wanted = np.asarray(image.convert("RGBA" if channels == 4 else "LA")).reshape(16, 16, channels)
    np.testing.assert_array_equal(images[3], np.where(wanted[..., -1:] == 0, 0, wanted))


def test_samples_are_premultiplied_and_pictures_are_not(run, tmp_path):
    params = restore(run)
    images = np.asarray(sample(params, jax.random.key(0), 5))
    assert images.shape == (5, 16, 16, 4) and images.min() < 0 < images.max()
    pictures = generate(run, tmp_path / "out", num=5)
    for path, premultiplied in zip(pictures.files, images, strict=True):
        with Image.open(path) as opened:
            assert opened.mode == "RGBA"
            np.testing.assert_array_equal(np.asarray(opened), to_uint8(premultiplied))
        # On black one sees the colours as the network makes them, as far as there is so much light.
        seen = np.minimum(premultiplied[..., :3], premultiplied[..., 3:])
        assert np.abs(on("black", path)[..., :3] - (seen + 1) * 127.5).max() <= 1.5
    with Image.open(pictures.grid) as opened:
        assert opened.mode == "RGBA" and np.asarray(opened)[:2].max() == 0  # nothing between the pictures
    assert show(images).mode == "RGBA" and show(images[..., 2:]).mode == "LA"


def test_the_pictures_of_a_run_have_alpha(run):
    folder = RunFolder(run)
    store = open_store(folder.config())
    tiles = read_tiles(folder.reals, (16, 16, 4))
    np.testing.assert_array_equal(tiles.reshape(-1, 16, 16, 4)[:20], store.take(range(20)))
    with Image.open(folder.progress) as opened, Image.open(folder.reals) as reals:
        assert np.asarray(opened.convert("RGB"))[-3:, -3:].min() == 255 and reals.mode == "RGBA"
    (events,) = folder.board.glob("events*")
    content = events.read_bytes()
    assert any(Event.FromString(part).summary.value[0].image.colorspace == 4 for part in records(content))


def records(content):
    """The events with a picture in a file of TensorBoard."""
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 8], "little")
        part = content[at + 12 : at + 12 + size]
        if b"PNG" in part:
            yield part
        at += 12 + size + 4


def test_an_evaluation_sees_alpha(run, tmp_path):
    figures = evaluate(run, num=6).figures
    store = open_store(RunFolder(run).config())
    assert {"alpha_mean", "alpha_deviation", "mean", "swd", "fd", "coverage"} <= set(figures)
    drawn = np.concatenate([draw(restore(run), i, 6, seed=0) for i in range(3)])[..., 3].mean()
    reals = store.take(range(24))[..., 3].mean()
    assert figures["alpha_mean"].value == pytest.approx(drawn / reals, rel=0.25)  # of a half of the reals
    with Image.open(RunFolder(run).pairs) as opened:
        assert opened.mode == "RGBA"


def test_the_report_keeps_alpha_on_a_ground_of_the_readers_choice(run, tmp_path):
    page = report(run, out=tmp_path / "report.html").read_text()
    images = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    opened = [Image.open(io.BytesIO(base64.b64decode(image))) for image in images]
    assert len(opened) >= 4 and all(image.mode == "RGBA" for image in opened)
    assert all(image.getchannel("A").getextrema()[0] == 0 for image in opened)
    assert page.count('class="film small alpha"') == 1 and '<select id="ground">' in page
    assert "[data-ground=black] .alpha img { background: #000 }" in page


def test_onnx_draws_the_premultiplied_images_of_decode(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    files = {path.suffix: path for path in export(run, tmp_path)}
    model = onnx.load(files[".onnx"])
    z = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    (images,) = reference.ReferenceEvaluator(model).run(None, {"z": z})
    assert_allclose(images, decode(restore(run), jnp.asarray(z)), atol=1e-4)
    assert {entry.key: entry.value for entry in model.metadata_props}["alpha"] == '"premultiplied"'
    assert_allclose(
        sample(restore(files[".safetensors"]), jax.random.key(0), 3), sample(restore(run), jax.random.key(0), 3)
    )


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_animations_are_transparent(run, suffix, tmp_path):
    path = animate(run, tmp_path / f"training.{suffix}", what="training", seconds=1, fps=4, size=(2, 2), scale=2)
    tiles = read_tiles(RunFolder(run).grid(4), (16, 16, 4))[:2, :2].reshape(-1, 16, 16, 4)
    wanted = grid(tiles, columns=2).repeat(2, 0).repeat(2, 1)
    with Image.open(path) as opened:
        last = [np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(opened)][-1]
    hard = suffix == "gif"
    alpha = np.where(wanted[..., 3] < 128, 0, 255) if hard else wanted[..., 3]
    np.testing.assert_array_equal(last[..., 3], alpha)
    assert (last[:4, :, 3] == 0).all()
    seen = alpha > 100
    assert np.abs(last[seen][:, :3].astype(int) - wanted[seen][:, :3]).mean() < 12


def test_a_picture_is_projected_with_its_alpha(run, discs, tmp_path):
    result = project(run, [discs / "03.png"], tmp_path / "out", iterations=2)
    pixels = from_uint8(open_store(RunFolder(run).config()).take([3]))
    images = from_uint8(to_uint8(decode(restore(run), jnp.asarray(result.z))))
    wanted = 127.5 * np.sqrt(np.mean((pixels - images) ** 2))
    assert result.errors == [pytest.approx(wanted, rel=1e-4)]
    with Image.open(tmp_path / "out" / "projection.png") as opened:
        assert opened.mode == "RGBA"
        shown = np.asarray(opened)[2 : 2 + 256 : 16, 2 : 2 + 256 : 16]
    assert_allclose(opaque(shown), opaque(to_uint8(pixels[0])))


@pytest.mark.slow
def test_a_run_with_two_discriminators_resumes_and_is_measured(discs, tmp_path):
    """Both see alpha, with penalties and augmentation: the run that stopped ends as the one that did not."""
    config = recipe("projected", data=str(discs), channels=4, augment="full", evaluate_every=0, **SLIGHT)
    straight = fit(config, tmp_path / "straight")
    fit(dataclasses.replace(config, steps=2), tmp_path / "stopped")
    resumed = fit(config, tmp_path / "stopped")
    assert equal(straight.generator.params, resumed.generator.params)
    lines = metrics_of(tmp_path / "straight")
    assert {"loss_D_heads", "penalty_heads", "loss_G"} <= set(lines[-1])
    before = fit(dataclasses.replace(config, steps=1), tmp_path / "one").generator.params
    alpha = [params["ConvTranspose_0"]["kernel"][..., 3, :] for params in (before, straight.generator.params)]
    assert not np.array_equal(*alpha)  # it learns transparency, too
