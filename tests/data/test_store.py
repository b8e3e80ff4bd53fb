"""The decoded store: built once, whole or not there, named skips."""

import json
import os
import shutil
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.data import store
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
    assert len(made) == 5 and made.skipped["count"] == 3
    assert [line.split()[0] for line in made.skipped["first"]] == ["bad0.png", "bad1.png", "bad2.png"]
    assert "skipped 3 of 8 files" in (said := capsys.readouterr().err) and "bad0.png" in said


def test_more_than_half_bad_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"6 of 11 files in .* could not be decoded: bad0.png"):
        prepared(broken_folder(tmp_path / "most", good=5, bad=6), tmp_path / "cache")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []
    assert len(prepared(broken_folder(tmp_path / "half", good=5, bad=5), tmp_path / "cache")) == 5


def test_a_damaged_store_is_named_with_the_mend(photos, tmp_path):
    for damage in (
        lambda path: os.truncate(path / "images.u8", 100),
        lambda path: (path / "manifest.json").write_text('{"shape": ['),
        lambda path: np.save(path / "labels.npy", np.array([{"a": print}]), allow_pickle=True),
        lambda path: (path / "labels.npy").unlink(),
    ):
        path = prepared(photos, tmp_path).path
        damage(path)
        with pytest.raises(InputError, match=f"{path} is damaged .*: delete it, it will be built again"):
            prepared(photos, tmp_path)
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


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
    manifest = {"shape": [count, side, side, 3], "fingerprint": "", "digest": "", "labels": [""], "skipped": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    made, before, peak = store.Store(folder), resident_mib(), 0
    for start in range(0, count, 8):
        assert (made.take(range(start, start + 8))[:, 9, 9, 0] == np.arange(start, start + 8) % 256).all()
        peak = max(peak, resident_mib() - before)
    assert peak < 128
