"""``python -m dcgan_jax.animate``: what the frames show, and which files come out."""

import dataclasses
import json
import re
import shutil
import subprocess

import jax
import numpy as np
import pytest
from helpers import python
from PIL import Image, ImageSequence

from dcgan_jax import InputError, animate, decode, direction_towards, directions, fit, from_uint8, restore, to_uint8
from dcgan_jax.animate import Arguments
from dcgan_jax.animate import run as command
from dcgan_jax.gan.sampling import slerp
from dcgan_jax.views.grid import grid, save_png


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run of 40 steps with four sample grids, which are as different as those of a longer run."""
    from dcgan_jax import Config

    workdir = tmp_path_factory.mktemp("animated") / "run"
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=40, learning_rate=0.01)
    fit(dataclasses.replace(config, sample_every=20), workdir)
    return workdir


def frames(path):
    """All frames, and how many milliseconds each is shown."""
    with Image.open(path) as picture:
        pairs = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0
    return [frame for frame, _ in pairs], [duration for _, duration in pairs]


def test_a_walk_goes_along_arcs_and_ends_where_it_began(run, tmp_path):
    command(Arguments(run, tmp_path / "walk.webp", seconds=4.5, fps=4, size=(2, 1), scale=3))
    shown, durations = frames(tmp_path / "walk.webp")
    assert sum(durations) == 4500 and set(durations) == {250}
    params = restore(run)
    z = params.latent.draw(jax.random.key(0), 6).reshape(3, 2, -1)  # three stops of two images
    for i, frame in enumerate(shown):
        stop, t = divmod(i / 6, 1)
        between = slerp(z[int(stop)], z[(int(stop) + 1) % 3], jax.numpy.array([t]))[0]
        wanted = grid(to_uint8(decode(params, between)), columns=2).repeat(3, 0).repeat(3, 1)
        assert frame.shape == wanted.shape == (3 * 20, 3 * 38, 3)
        inside = (slice(6, -6), slice(6, -6))  # WebP loses a little
        likeness = np.corrcoef(frame[inside].ravel(), wanted[inside].ravel())[0, 1]
        assert likeness > 0.9 and wanted[inside].std() > 6
    moved = [np.abs(a.astype(int) - b).mean() for a, b in zip(shown, [*shown[1:], shown[0]])]
    assert moved[-1] < 2 * max(moved[:-1]) + 1


def test_along_a_direction_pictures_go_both_ways_and_come_back(run, tmp_path):
    command(Arguments(run, tmp_path / "way.webp", seconds=1, fps=8, size=(2, 1), scale=3, direction=2))
    shown, _ = frames(tmp_path / "way.webp")
    params = restore(run)
    z, way = params.latent.draw(jax.random.key(0), 2), directions(params, 2)[1]
    wanted = [decode(params, z + 3 * np.sin(np.pi * i / 4) * way[None]) for i in range(8)]
    sheets = [grid(to_uint8(images), columns=2).repeat(3, 0).repeat(3, 1) for images in wanted]
    apart = [[np.abs(frame.astype(int) - sheet).mean() for sheet in sheets] for frame in shown]
    assert all(row[i] == min(row) for i, row in enumerate(apart))
    with pytest.raises(InputError, match=r"direction 9 must lie in \[1, 8\]"):
        animate(run, tmp_path / "wrong.gif", direction=9)


def test_towards_pictures_images_go_as_along_the_direction_of_these_pictures(run, photos, tmp_path):
    """``photos`` are plain, and redder from one to the next."""
    few = {"seconds": 1, "fps": 4, "size": (1, 1)}
    red, dark = [photos / "odd" / f"{i:02d}.png" for i in (9, 11)], [photos / "even" / "00.png"]
    command(Arguments(run, tmp_path / "red.webp", towards=tuple(red), away_from=tuple(dark), **few))
    params = restore(run)
    colours = [np.full((16, 16, 3), (20 * i, 40, 90), np.uint8) for i in (9, 11, 0)]
    way = direction_towards(params, from_uint8(np.stack(colours[:2])), from_uint8(np.stack(colours[2:])))
    animate(params, tmp_path / "vector.webp", direction=way, **few)
    assert (tmp_path / "red.webp").read_bytes() == (tmp_path / "vector.webp").read_bytes()
    z = params.latent.draw(jax.random.key(1), 32)
    less, more = (decode(params, z + a * way[None])[..., 0].mean() for a in (-3, 3))
    assert more > less
    animate(run, tmp_path / "folder.webp", towards=[photos / "odd"], away_from=[photos / "even"], **few)
    for wrong, message in (
        ({"towards": [photos / "none"]}, "none is not a file: give --towards a picture"),
        ({"towards": [run / "samples" / ".."], "away_from": [run / "tensorboard"]}, "give --away-from a picture, or a"),
        ({"away_from": dark}, "give --towards too"),
        ({"towards": red, "direction": 1}, "give one of them"),
        ({"towards": red, "what": "training"}, "leave them out"),
        ({"direction": np.ones(7)}, "a vector of 8, not"),
        ({"direction": "red"}, "must be an array of numbers"),
    ):
        with pytest.raises(InputError, match=message):
            animate(run, tmp_path / "wrong.gif", **wrong)
    with pytest.raises(InputError, match="needs the folder of the run"):
        animate(params, tmp_path / "wrong.gif", towards=red)
    assert not (tmp_path / "wrong.gif").exists()


def test_arcs_have_the_length_of_their_ends():
    a, b = jax.random.normal(jax.random.key(0), (2, 3, 50))
    arc = np.asarray(slerp(a, b, jax.numpy.linspace(0, 1, 5)))
    np.testing.assert_allclose(arc[0], a, atol=1e-5)
    np.testing.assert_allclose(arc[-1], b, atol=1e-5)
    lengths = np.linalg.norm(arc, axis=-1)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 5), rtol=1e-5)
    unit = arc / lengths[..., None]
    angles = np.arccos((unit[:-1] * unit[1:]).sum(-1))
    np.testing.assert_allclose(angles, np.broadcast_to(angles[0], angles.shape), rtol=1e-3)
    quarter = slerp(jax.numpy.eye(2)[:1], jax.numpy.eye(2)[1:], jax.numpy.array([0.5]))
    np.testing.assert_allclose(quarter[0, 0], [np.sqrt(0.5)] * 2, rtol=1e-6)


def test_a_walk_of_parameters_is_that_of_their_run(run, tmp_path):
    options = {"seconds": 0.2, "size": (1, 1)}
    of_run = animate(run, tmp_path / "run.gif", **options)
    assert of_run == tmp_path / "run.gif"
    assert of_run.read_bytes() == animate(restore(run), tmp_path / "params.gif", **options).read_bytes()
    for wrong in ({"what": "training"}, {"what": "sleep"}, {"step": 40}):
        with pytest.raises(InputError, match="give the folder|must be walk or training|leave them out"):
            animate(restore(run), tmp_path / "wrong.gif", **wrong)
    assert not (tmp_path / "wrong.gif").exists()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_training_shows_each_grid_in_its_order(run, tmp_path, suffix):
    out = tmp_path / f"training{suffix}"
    command(Arguments(run, out, what="training", seconds=3, fps=10, size=(8, 2), scale=1))
    shown, durations = frames(out)
    assert sum(durations) == 3000
    sheets = [
        np.asarray(Image.open(run / "samples" / f"step_{step:06d}.png"))[: 2 * 18 + 2] for step in (0, 20, 25, 40)
    ]
    nearest = [min(range(4), key=lambda i: np.abs(frame.astype(int) - sheets[i]).sum()) for frame in shown]
    assert nearest == sorted(nearest) and set(nearest) == {0, 1, 2, 3}
    assert sum(d for d, i in zip(durations, nearest) if i == 3) >= 1000  # the last stays longer


def test_a_training_shows_no_more_images_than_a_grid_of_portraits_has(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "image_size": "48x32"}))
    for path in (other / "samples").glob("step*.png"):
        save_png(path, grid(np.zeros((64, 48, 32, 3), np.uint8), columns=8))
    animate(other, tmp_path / "training.webp", what="training", seconds=0.2)
    with Image.open(tmp_path / "training.webp") as film:
        assert film.size == (8 * 34 + 2, 4 * 50 + 2)


def test_video(run, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / "walk.mp4"
    command(Arguments(run, out, seconds=1, fps=10, size=(1, 1), scale=1))
    program = [ffmpeg.get_ffmpeg_exe(), "-i", out, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(program, capture_output=True)
    assert b"Video: h264" in done.stderr and b"20x20" in done.stderr and b"10 fps" in done.stderr
    assert len(done.stdout) == 10 * 20 * 20
    assert np.frombuffer(done.stdout, np.uint8).reshape(10, 20, 20)[:, 0].min() > 240  # the white border


def test_a_missing_package_is_named_before_anything_is_drawn(run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install imageio-ffmpeg"):
        command(Arguments(run, tmp_path / "walk.mp4"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"out": "walk.avi"}, "no .gif, .webp or .mp4"),
        ({"fps": 0}, "fps 0 must lie in"),
        ({"seconds": 0.01}, "at least 2 frames"),
        ({"size": (0, 1)}, "must be at least 1"),
        ({"what": "training", "size": (9, 1)}, "has 8x8 images: give a smaller --size"),
        ({"size": (4000, 4000)}, "4 frames of 288008x288008 are 331,794 million pixels, more than 128: give a smaller"),
        ({"scale": 100_000}, "give a smaller --size, --scale, --seconds or --fps"),
        ({"seconds": 500}, "10000 frames of 368x224"),
        ({"what": "training", "scale": 10**30}, "million pixels, more than 128"),
        ({"step": 5}, "no checkpoint of step 5, only 40"),
        ({"out": "none/walk.gif"}, "cannot write"),
        ({"workdir": "nothing"}, "is not the folder of a run"),
    ],
)
def test_wrong_requests_are_one_sentence_and_leave_nothing(run, tmp_path, monkeypatch, wrong, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        command(Arguments(**{"workdir": run, "out": "walk.gif", "seconds": 0.2, **wrong}))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_grids_is_refused(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(other / "samples")
    with pytest.raises(InputError, match="holds no sample grids"):
        command(Arguments(other, tmp_path / "t.gif", what="training"))


def test_the_command_says_what_it_wrote_and_training_needs_no_jax(run, tmp_path):
    code = f"""
import sys
sys.argv = ["animate", "--workdir", {str(run)!r}, "--out", {str(tmp_path / "t.gif")!r}, "--what", "training"]
from dcgan_jax.animate import main
assert not {{"jax", "PIL"}} & set(sys.modules)
main()
assert "tensorflow" not in sys.modules
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r".*t\.gif: 120 frames, 0\.\d MB\n", done.stdout), done.stdout
