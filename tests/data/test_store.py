"""The decoded store: built once, whole or not there, named skips."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.data import build, sources, store
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import locked


def test_a_store_is_built_once_and_again_when_its_source_changes(photos, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for i, file in enumerate(sorted(photos.rglob("*.png"))):
        (root / f"{i}.png").write_bytes(file.read_bytes())
    cache = tmp_path / "cache"
    first = prepared(root, cache)
    built = (first.path / "images.u8").stat().st_ino
    assert (prepared(root, cache).path / "images.u8").stat().st_ino == built
    assert prepared(root, cache, channels=1).shape == (12, 16, 16, 1)
    Image.new("RGB", (9, 9), "red").save(root / "more.png")
    again = prepared(root, cache)
    assert len(again) == 13 and again.path == first.path
    assert first.shape[0] == 12 and first.take([0]).shape == (1, 16, 16, 3)  # a run that still reads it
    assert sorted(p.name for p in (cache / "stores").iterdir() if "partial" in p.name) == []


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([5, 0, 10, 4, 1, 0]), ("0", "1", "4", "5", "10")),
        (np.array([3, -1, 3, 1, -1, -2]), ("-2", "-1", "1", "3")),
        (np.array(["a10", "b", "a2", "a10", "a", "b"]), ("a", "a2", "a10", "b")),
    ],
)
def test_labels_are_numbered_in_the_order_of_their_names(tmp_path, labels, names):
    images = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    for i, order in enumerate((range(6), range(5, -1, -1))):
        np.savez(tmp_path / f"{i}.npz", x=images[list(order)], y=labels[list(order)])
        made = prepared(tmp_path / f"{i}.npz", tmp_path / "cache")
        assert made.label_names == names
        assert [names[label] for label in made.labels] == [str(labels[k]) for k in order]


def test_a_half_written_store_is_never_taken_for_a_whole_one(photos, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.json, "dumps", lambda value, **kw: killed() if kw else str(value))
        with pytest.raises(KeyboardInterrupt):
            prepared(photos, tmp_path)
    assert list((tmp_path / "stores").iterdir()) == []
    assert len(prepared(photos, tmp_path)) == 12


def broken_folder(root, good, bad):
    root.mkdir()
    for i in range(good):
        Image.new("RGB", (8, 8), (i, i, i)).save(root / f"good{i}.png")
    whole = (root / "good0.png").read_bytes()
    for i in range(bad):
        (root / f"bad{i}.png").write_bytes((b"no picture", whole[: len(whole) // 2], b"")[i % 3])
    return root


def test_bad_files_are_skipped_counted_and_named(tmp_path, capsys):
    made = prepared(broken_folder(tmp_path / "some", good=5, bad=3), tmp_path / "cache")
    assert len(made) == 5 and len(made.skipped) == 3
    assert [line.split()[0] for line in made.skipped] == ["bad0.png", "bad1.png", "bad2.png"]
    assert "skipped 3 of 8 files" in (said := capsys.readouterr().err) and "bad0.png" in said
    assert prepared(tmp_path / "some", tmp_path / "cache").skipped == made.skipped
    assert "skipped 3 of 8 files" in capsys.readouterr().err  # again


def test_all_bad_files_are_named(tmp_path):
    made = prepared(broken_folder(tmp_path / "some", good=60, bad=50), tmp_path / "cache")
    assert sorted(line.split()[0] for line in made.skipped) == sorted(f"bad{i}.png" for i in range(50))


def test_more_than_half_bad_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"6 of 11 files in .* could not be decoded: bad0.png"):
        prepared(broken_folder(tmp_path / "most", good=5, bad=6), tmp_path / "cache")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []
    assert len(prepared(broken_folder(tmp_path / "half", good=5, bad=5), tmp_path / "cache")) == 5


def understood(path, cache, capsys, **changes):
    """What is said of the images, the second time when they come from the cache."""
    said = []
    for _ in range(2):
        prepared(path, cache, **changes)
        said.append([line for line in capsys.readouterr().err.splitlines() if line and "preparing" not in line])
    assert said[0] == said[1]
    return [line for line in said[0] if not line.startswith("skipped")]


def test_one_line_says_what_was_understood(tmp_path, capsys):
    root = broken_folder(tmp_path / "some", good=240, bad=3)
    for name in ("cat/2019", "cat/2020", "dog"):
        (root / name).mkdir(parents=True)
    shutil.copy(root / "good1.png", root / "cat" / "2019" / "copy.png")
    for name, alpha in (("cat/2020/clear", 0), ("dog/half", 128), ("dog/opaque", 255)):
        Image.new("RGBA", (8, 8), (1, 100, 200, alpha)).save(root / f"{name}.webp", lossless=True)
    Image.new("LA", (8, 8), (7, 255)).save(root / "dog" / "gray.png")  # is good7.png, with an opaque layer
    assert understood(root, tmp_path / "cache", capsys) == [
        f"{root}: 245 images in 4 folders, 3 labels (without one 240, dog 3, cat 2), 3 skipped, "
        "2 exact copies of others, 2 with transparent pixels, which show the background colour (a new run with "
        "--channels 4 keeps them transparent)"
    ]
    assert understood(root, tmp_path / "cache", capsys, channels=4) == [
        f"{root}: 245 images in 4 folders, 3 labels (without one 240, dog 3, cat 2), 3 skipped, "
        "2 exact copies of others, 2 with transparent pixels"
    ]


def test_few_images_and_many_copies_get_a_warning_that_says_what_to_expect(photos, tmp_path, capsys):
    line, few = understood(photos, tmp_path, capsys)
    assert line.endswith(
        "12 images in 2 folders, 2 labels (even 6, odd 6), 0 skipped, 0 exact copies of others, 0 with transparent pixels"
    )
    assert few.startswith("warning: 12 different images are few: expect these very images again")
    root = shutil.copytree(photos, tmp_path / "twice")
    shutil.copytree(photos, root / "again")
    line, copies, few = understood(root, tmp_path, capsys)
    assert "24 images in 4 folders" in line and "12 exact copies of others" in line
    assert copies.startswith(
        "warning: 12 of 24 images are exact copies of others: expect these pictures to be drawn more often"
    )
    assert few.startswith("warning: 12 different images")


def test_what_is_no_folder_is_understood_too(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "SPRITE_COUNT", 200)
    (line,) = understood("sprites", tmp_path, capsys)
    assert line.startswith("sprites-0: 200 images, 10 labels (") and ", 0 exact copies of others, 0 with" in line


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path / "images.u8", 100),
        lambda path: (path / "images.u8").write_bytes(bytes(12 * 16 * 16 * 3)),
        lambda path: np.save(path / "labels.npy", np.zeros(12, np.int32)),
        lambda path: np.save(path / "labels.npy", np.array([{"a": print}]), allow_pickle=True),
        lambda path: (path / "labels.npy").unlink(),
        lambda path: (path / "manifest.json").write_text('{"shape": ['),
        lambda path: (path / "manifest.json").write_text("[" * 100_000),
        lambda path: change(path / "manifest.json", shape=[-1, 16, 16, 3]),
        lambda path: change(path / "manifest.json", labels=["odd", "even"]),
        lambda path: (path / "SHA256SUMS").unlink(),
        lambda path: (path / "manifest.json").unlink() or os.mkfifo(path / "manifest.json"),
        lambda path: (path / "checked").unlink() or (path / "images.u8").write_bytes(bytes(9)),
    ],
)
def test_a_damaged_store_is_built_again_and_says_so(photos, tmp_path, capsys, damage):
    first = prepared(photos, tmp_path)
    images = first.take(range(12))
    for _ in range(2):  # also when it was found whole before
        prepared(photos, tmp_path)
        capsys.readouterr()
        damage(first.path)
        again = prepared(photos, tmp_path)
        said = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
        assert len(said) == 1 and f"{first.path} is damaged" in said[0] and said[0].endswith("building it again")
        assert (again.shape, again.digest, again.label_names) == (first.shape, first.digest, first.label_names)
        np.testing.assert_array_equal(again.take(range(12)), images)
        np.testing.assert_array_equal(again.labels, first.labels)


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_store_that_nobody_touched_is_hashed_once(photos, tmp_path, monkeypatch):
    prepared(photos, tmp_path)
    hashed, digest = [], hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: (hashed.append(file.name), digest(file, kind))[1])
    for _ in range(3):
        prepared(photos, tmp_path)
    assert [os.path.basename(name) for name in hashed] == ["images.u8", "labels.npy", "manifest.json"]


def test_a_store_that_shrinks_under_a_run_is_an_error(photos, tmp_path):
    made = prepared(photos, tmp_path)
    os.truncate(made.path / "images.u8", 100)
    with pytest.raises(InputError, match="images.u8 was damaged during the run"):
        made.take([5])


def test_all_files_are_on_the_disk_before_the_store_is_renamed(photos, tmp_path, monkeypatch):
    synced, fsync, rename = [], os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(os.fstat(number).st_ino), fsync(number)))
    monkeypatch.setattr(os, "rename", lambda a, b: (synced.append("renamed"), rename(a, b)))
    made = prepared(photos, tmp_path)
    before = synced[: synced.index("renamed")]
    assert {file.stat().st_ino for file in made.path.iterdir()} <= set(before)


def test_a_folder_that_was_moved_or_spelled_otherwise_has_the_same_content(photos, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / "pics")
    monkeypatch.chdir(tmp_path)
    first = prepared("pics", tmp_path / "cache")
    for spelling in ("pics/", "./pics", tmp_path / "pics", "../{}/pics"):
        spelling = str(spelling).format(tmp_path.name)
        assert prepared(spelling, tmp_path / "cache").path == first.path
    (tmp_path / "pics").rename(tmp_path / "moved")
    assert prepared("moved", tmp_path / "cache").digest == first.digest


def test_each_way_to_a_square_has_its_own_store(photos, tmp_path):
    ways = [prepared(photos, tmp_path, resize=way) for way in ("crop", "squash", "pad")]
    assert len({way.path for way in ways}) == 3
    assert ways[0].digest != ways[2].digest  # padded with white


STUCK = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from pathlib import Path
from dcgan_jax.config import Config
from dcgan_jax.data import build, store

def stuck(content, config):
    if threading.current_thread() is threading.main_thread():  # the first ones
        time.sleep(0.02)
        return real(content, config)
    print("decoding", flush=True)
    time.sleep(600)

real, build.read_picture = build.read_picture, stuck
config = Config(data=sys.argv[1], image_size=16)
cache = Path(sys.argv[2])
try:
    store.open_store(config, cache=cache)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize(("seconds", "threaded"), [(0, False), (0.012, True)])
def test_slow_pictures_are_decoded_by_threads_and_all_stay_in_order(seconds, threaded):
    def decode(number):
        time.sleep(seconds)
        return number, threading.current_thread().name

    numbers, names = zip(*build.ordered_map(decode, range(50)), strict=True)
    assert numbers == tuple(range(50))
    assert (set(names[5:]) == {"decoder"}) is threaded and set(names[:5]) == {threading.current_thread().name}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
def test_ctrl_c_does_not_wait_for_a_decoder(photos, tmp_path):
    command = [sys.executable, "-c", STUCK, photos, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith(b"decoding")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)  # a decoder takes ten minutes
        assert process.returncode == 130
    assert list((tmp_path / "stores").iterdir()) == []


def test_what_killed_processes_left_is_cleaned_up_and_live_ones_are_waited_for(photos, tmp_path):
    path = prepared(photos, tmp_path).path
    left = path.with_name(f"{path.name}.partial")
    path.rename(left)  # as if killed while it was being built
    made = []
    with locked(tmp_path / "locks" / f"{path.name}.lock"):
        other = threading.Thread(target=lambda: made.append(prepared(photos, tmp_path)))
        other.start()
        other.join(0.3)
        assert other.is_alive() and left.exists()
    other.join()
    assert len(made[0]) == 12 and not left.exists()


def test_no_room_in_the_cache_is_said_before_anything_is_decoded(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(InputError, match=r"stores/photos.* has 0.0 MiB free, but the decoded copy of .* needs 2.2 MiB"):
        prepared(photos, tmp_path, image_size=256)
    assert list(tmp_path.glob("stores/*")) == []


def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
def test_reading_a_store_does_not_make_it_resident(tmp_path):
    folder, count, side = tmp_path / "store", 2048, 256  # 384 MiB
    folder.mkdir()
    with open(folder / "images.u8", "wb") as out:
        for i in range(count):
            out.write(np.full(side * side * 3, i % 256, np.uint8))
    np.save(folder / "labels.npy", np.zeros(count, np.int32))
    manifest = {
        "shape": [count, side, side, 3],
        "fingerprint": "",
        "digest": "",
        "labels": [""],
        "skipped": [],
        "off_colour": [],
        "copies": 0,
        "transparent": 0,
        "drawn": 0,
        "several": 0,
        "values": [],
        "type": "uint8",
        "scale": {"type": "uint8", "low": 0, "high": 255, "channels": 3},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    made, before, peak = store.Store(folder), resident_mib(), 0
    for start in range(0, count, 8):
        assert (made.take(range(start, start + 8))[:, 9, 9, 0] == np.arange(start, start + 8) % 256).all()
        peak = max(peak, resident_mib() - before)
    assert peak < 128
