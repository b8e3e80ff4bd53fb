"""``python -m dcgan_jax.generate``: any number of pictures, in pieces, and what an interrupted start leaves."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from helpers import some_generator
from PIL import Image

from dcgan_jax import InputError, decode, generate, restore, sample, show, to_uint8
from dcgan_jax.generate import Arguments
from dcgan_jax.generate import run as command
from dcgan_jax.run import pictures as room
from dcgan_jax.share.portable import to_safetensors
from dcgan_jax.views import grid


@pytest.fixture
def params(monkeypatch):
    monkeypatch.setattr(room, "PIECE", 8)
    return some_generator(image_size=16, width=4)


def pictures(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_pieces_make_the_same_pictures_as_one_draw(params, tmp_path, capsys):
    generate(params, tmp_path / "out", num=21, seed=3)
    found, wanted = pictures(tmp_path / "out"), to_uint8(sample(params, jax.random.key(3), 21))
    sheet = found.pop("grid.png")
    assert list(found) == [f"{i:05d}.png" for i in range(21)]
    np.testing.assert_array_equal(np.stack(list(found.values())), wanted)
    np.testing.assert_array_equal(sheet, grid.grid(wanted, columns=5))
    assert len(os.listdir(tmp_path / "out")) == 22


def test_the_command_draws_the_same_and_says_where(params, tmp_path, capsys):
    (tmp_path / "generator.safetensors").write_bytes(to_safetensors(params, {}))
    command(Arguments(tmp_path / "generator.safetensors", tmp_path / "out", num=3, seed=4))
    assert capsys.readouterr().out == f"3 images and grid.png in {tmp_path / 'out'} (step 7)\n"
    written = generate(restore(tmp_path / "generator.safetensors"), tmp_path / "again", num=3, seed=4)
    assert written.files == [tmp_path / "again" / f"0000{i}.png" for i in range(3)] and written.step == 7
    for path in (*written.files, written.grid):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


def test_a_grid_has_a_limit_and_says_so(params, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(to_safetensors(params, {}))
    monkeypatch.setattr(grid, "SIDE", 3 * 18 + 2 + 17)
    command(Arguments(tmp_path / "a.safetensors", tmp_path / "out", num=20))
    assert "20 images and grid.png, which shows the first 9, in" in capsys.readouterr().out
    found = pictures(tmp_path / "out")
    assert len(found) == 21 and found["grid.png"].shape == (56, 56, 3)
    np.testing.assert_array_equal(found["grid.png"][2:18, 20:36], found["00001.png"])


def test_the_grid_of_many_stays_below_its_side():
    for count, size in ((50_000, 64), (10**6, 16), (500, 256), (1, 256)):
        columns = grid.square_columns(count, (size, size, 3))
        assert columns * (size + 2) + 2 <= grid.SIDE and columns**2 >= min(count, 15**2)


def test_memory_does_not_grow_with_the_number(params, tmp_path, monkeypatch):
    drawn, original, real = [], room.save_png, room.sample
    monkeypatch.setattr(
        room,
        "sample",
        lambda p, k, n, *, start, labels: (drawn.append((start, n)), real(p, k, n, start=start, labels=labels))[1],
    )
    written = []
    monkeypatch.setattr(
        room,
        "save_png",
        lambda path, image, **how: (written.append((path.name, len(drawn))), original(path, image, **how)),
    )
    generate(params, tmp_path / "out", num=30)
    assert drawn == [(0, 8), (8, 8), (16, 8), (24, 6)]
    assert dict(written)["00007.png"] == 1 and dict(written)["00008.png"] == 2  # before the next are drawn


def test_an_interrupted_start_is_continued(params, tmp_path, monkeypatch, capsys):
    out, original = tmp_path / "out", room.save_png

    def full_disk(path, image, **how):
        if path.name == "00013.png":
            raise OSError(28, os.strerror(28), str(path))
        original(path, image, **how)

    with monkeypatch.context() as patch:
        patch.setattr(room, "save_png", full_disk)
        with pytest.raises(InputError, match=r"cannot write .*00013\.png"):
            generate(params, out, num=20)
    assert len(pictures(out)) == 13
    stamps = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    for other in ({"seed": 1}, {"num": 20, "seed": 2}):
        with pytest.raises(InputError, match="an unfinished start with other weights or another --seed"):
            generate(params, out, **other)
    generate(params, out, num=20)
    assert all((out / f"{i:05d}.png").stat().st_mtime_ns == stamps[f"{i:05d}.png"] for i in range(8))
    found = pictures(out)
    found.pop("grid.png")
    np.testing.assert_array_equal(np.stack(list(found.values())), to_uint8(sample(params, jax.random.key(0), 20)))
    with pytest.raises(InputError, match="already holds pictures: give --out another folder"):
        generate(params, out, num=20)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weights": 1}', "\xff", "[" * 3000, '{"done": -1}'])
def test_a_damaged_marker_is_a_sentence(params, tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "unfinished.json").write_text(content)
    with pytest.raises(InputError, match="unfinished start"):
        generate(params, tmp_path / "out")


def test_what_holds_other_things_is_refused(params, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: give --out a folder"):
        generate(params, tmp_path / "file")
    with pytest.raises(InputError, match="is not an empty folder"):
        generate(params, tmp_path)
    for wrong, message in (
        ({"num": 0}, "num 0 must be at least 1"),
        ({"seed": 2**32}, r"seed 4294967296 must lie in \[0, 2\*\*32\)"),
        ({"step": 3}, "say which generator of a run: leave them out"),
    ):
        with pytest.raises(InputError, match=message):
            generate(params, tmp_path / "out", **wrong)
    with pytest.raises(InputError, match="params must be what restore"):
        generate({"params": 1}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from helpers import some_generator
from dcgan_jax import generate
from dcgan_jax.run import pictures
pictures.PIECE = 64
generate(some_generator(image_size=16, width=4), Path(sys.argv[2]) / "out", num=int(sys.argv[3]))
"""


def test_a_kill_leaves_whole_pictures_and_the_same_command_ends_the_work(tmp_path):
    start = [sys.executable, "-c", KILLED, os.path.dirname(__file__), tmp_path]
    out = tmp_path / "out"
    with subprocess.Popen([*start, "1000000"], stderr=subprocess.DEVNULL) as process:
        while len(list(out.glob("*.png"))) < 100:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    left = pictures(out)
    assert len(left) >= 100 and all(image.shape == (16, 16, 3) for image in left.values())
    done = subprocess.run([*start, str(len(left))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = pictures(out)
    assert set(found) == {*left, "grid.png"}
    assert all((found[name] == image).all() for name, image in left.items())
    assert not (out / "unfinished.json").exists()


def test_a_sample_can_start_anywhere_and_a_sheet_that_is_too_large_is_a_sentence(params):
    key = jax.random.key(5)
    whole = sample(params, key, 12)
    np.testing.assert_allclose(sample(params, key, 5, start=7), whole[7:], atol=1e-6)
    assert decode(params, jax.numpy.zeros((3, 8))).shape == (3, 16, 16, 3)
    for wrong in (-1, 2**31):
        with pytest.raises(InputError, match="start .* must lie in"):
            sample(params, key, 1, start=wrong)
    with pytest.raises(InputError, match="which is too large: lay out fewer"):
        show(np.broadcast_to(np.zeros((1, 16, 16, 3), np.uint8), (10**6, 16, 16, 3)))
