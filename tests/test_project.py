"""``python -m dcgan_jax.project``: a picture that the generator drew is found again; what it writes and refuses."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import python
from PIL import Image

from dcgan_jax import Config, InputError, decode, fit, project_images, restore, sample, show, slerp, to_uint8
from dcgan_jax.data import sprites
from dcgan_jax.project import Arguments
from dcgan_jax.project import run as project
from dcgan_jax.run.projection import project as projected
from dcgan_jax.share.latents import digest

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned a little: 16x16 creatures, whose borders are cut off to make them square."""
    root = tmp_path_factory.mktemp("projected")
    (root / "creatures").mkdir()
    for i in range(64):
        Image.fromarray(sprites.draw(0, i)[0]).resize((16, 20)).save(root / "creatures" / f"{i}.png")
    config = Config(data=str(root / "creatures"), image_size=16, width=8, latent_dim=16, batch_size=16, steps=100)
    fit(config, root / "run")
    return root / "run"


def difference(a, b):
    """Root mean square of (H, W, C), of 255."""
    return np.sqrt(np.square(np.asarray(a) - np.asarray(b)).mean((-1, -2, -3))) * 127.5


@pytest.mark.slow
def test_what_the_generator_drew_is_found_again(run):
    params = restore(run)
    z = jax.random.normal(jax.random.key(5), (2, 16))
    images = decode(params, z)
    found = project_images(params, images, KEY)
    assert found.shape == z.shape and found.dtype == jnp.float32
    near = difference(decode(params, found), images)
    starts = sample(params, KEY, 100)
    best = np.array([difference(starts, image).min() for image in images])
    assert near.max() < 4 and (near < best / 5).all(), (near, best)
    assert jnp.linalg.norm(found, axis=1).max() < 4 + 2.21  # as long as N(0, 1) draws it


def test_the_same_key_finds_the_same_and_no_image_depends_on_another(run):
    params = restore(run)
    images = sample(params, jax.random.key(5), 2)
    both = project_images(params, images, KEY, steps=20)
    np.testing.assert_array_equal(both, project_images(params, images, KEY, steps=20))
    other = project_images(params, images.at[1].set(0), KEY, steps=20)
    np.testing.assert_array_equal(both[0], other[0])
    assert difference(both[None, None], project_images(params, images, jax.random.key(1), steps=20)) > 1


def test_z_of_a_uniform_prior_stays_in_its_cube(run):
    params = restore(run)
    params = params.replace(latent=type(params.latent)(16, "uniform"))
    found = project_images(params, jnp.ones((2, 16, 16, 3)), KEY, steps=30)
    assert jnp.abs(found).max() <= 1


def test_slerp_keeps_the_length_and_meets_both_ends():
    ends = jnp.array([[3.0, 0, 0], [0, 3, 0]])
    way = slerp(*ends, jnp.linspace(0, 1, 5))
    np.testing.assert_allclose(way[jnp.array([0, -1])], ends, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(way, axis=1), 3, rtol=1e-6)
    np.testing.assert_allclose(way[2], [3 / 2**0.5, 3 / 2**0.5, 0], atol=1e-6)
    np.testing.assert_allclose(slerp(ends[0], ends[0], jnp.linspace(0, 1, 3)), ends[jnp.zeros(3, int)], atol=1e-4)


@pytest.mark.slow
def test_the_command_writes_pictures_and_z(run, tmp_path):
    params = restore(run)
    drawn = to_uint8(sample(params, jax.random.key(7), 1))[0]
    Image.fromarray(drawn).save(tmp_path / "drawn.png")
    Image.new("RGBA", (40, 30), (255, 0, 0, 0)).save(tmp_path / "clear.png")  # shows the background, white
    images = [flag for name in ("drawn", "clear") for flag in ("--image", tmp_path / f"{name}.png")]
    done = python("-m", "dcgan_jax.project", "--workdir", run, *images, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    z = np.load(tmp_path / "out" / "z.npy")
    found = to_uint8(decode(params, z))
    assert z.shape == (2, 16)
    first, second = (float(x) for x in re.findall(r"differ by ([\d.]+) of 255", done.stdout))
    assert first < 4 < second
    assert abs(first - difference(drawn / 127.5, found[0] / 127.5)) < 0.06
    # Four images of 16 pixels, enlarged 16 times, with 2 pixels of padding.
    pair = np.asarray(Image.open(tmp_path / "out" / "projection.png"))
    assert pair.shape == (2 * 258 + 2, 2 * 258 + 2, 3)
    np.testing.assert_array_equal(pair[10:256:16, 10:256:16], drawn)
    np.testing.assert_array_equal(pair[10:256:16, 268:514:16], found[0])
    np.testing.assert_array_equal(pair[268:514:16, 10:256:16], 255)
    page = json.loads((tmp_path / "out" / "z.json").read_text())
    assert [page["run"], page["step"], page["weights"]] == ["run", params.step, digest(params)]
    np.testing.assert_array_equal(np.array([picture["z"] for picture in page["pictures"]], np.float32), z)
    strip = np.asarray(Image.open(tmp_path / "out" / "interpolation.png"))
    assert strip.shape == (260, 10 * 258 + 2, 3)
    np.testing.assert_array_equal(strip[10:256:16, 10:256:16], found[0])
    np.testing.assert_array_equal(strip[10:256:16, -248::16][:, :16], found[1])
    assert "nothing" not in done.stdout and str(tmp_path / "out") in done.stdout


def test_pictures_of_8_and_16_bits_are_projected_together(run, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 256, (16, 16), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "8.png")
    Image.fromarray(pixels.astype(np.uint16) * 257 - 1).save(tmp_path / "16.png")
    paths = [tmp_path / "8.png", tmp_path / "16.png"]
    both = projected(run, paths, tmp_path / "both", iterations=2)
    pair = np.asarray(Image.open(tmp_path / "both" / "projection.png"))[10:514:16, 10:256:16]
    for rows in (pair[:16], pair[-16:]):
        np.testing.assert_array_equal(rows, pixels[..., None].repeat(3, -1))
    alone = projected(run, paths[:1], tmp_path / "alone", iterations=2)
    np.testing.assert_allclose(both.z[0], alone.z[0], atol=1e-3)


def test_what_cannot_be_projected_is_refused_with_a_sentence(run, tmp_path):
    (tmp_path / "letter.png").write_text("no picture")
    show(jnp.zeros((1, 16, 16, 3))).save(tmp_path / "picture.png")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "z.npy").write_text("precious")

    def refused(pattern, *names, workdir=run, out="out", **others):
        with pytest.raises(InputError, match=pattern) as error:
            project(Arguments(workdir, tuple(tmp_path / name for name in names), tmp_path / out, **others))
        assert "\n" not in str(error.value) and not (tmp_path / "out").exists()

    refused("letter.png cannot be decoded .not a picture of a known format.: give --image a picture", "letter.png")
    refused("nonesuch.png is not a file: give --image a picture", "nonesuch.png")
    refused("full exists and is not an empty folder: give --out another", "picture.png", out="full")
    refused("picture.png exists and is not", "picture.png", out="picture.png")
    refused("is not the folder of a run", "picture.png", workdir=tmp_path)
    refused("no checkpoint of step 7, only 100", "picture.png", step=7)
    refused("3 pictures: give --image once or twice", "picture.png", "picture.png", "picture.png")
    refused("iterations 0 must be at least 1", "picture.png", iterations=0)
    assert (tmp_path / "full" / "z.npy").read_text() == "precious"
    with pytest.raises(InputError, match=r"shape \(N, 16, 16, 3\), not \(1, 8, 8, 3\)"):
        project_images(restore(run), jnp.zeros((1, 8, 8, 3)), KEY)
