"""Files are whole, on the disk before their name is, and never written through a link."""

import os
import stat
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from helpers import python

from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import new_folder, parse_json, read_bytes, replacing, write_text


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    did = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (did.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (did.append(str(a)), replace(a, b)))
    write_text(tmp_path / "a.json", "new")
    assert did[0] == did[1] and Path(did[0]).name.startswith(".dcgan_jax-") and did[2:] == [str(tmp_path)]
    assert (tmp_path / "a.json").read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "a.json").symlink_to(precious)
    write_text(tmp_path / "a.json", "new")
    assert precious.read_text() == "precious" and (tmp_path / "a.json").read_text() == "new"
    assert not (tmp_path / "a.json").is_symlink()


def test_only_a_regular_file_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()

    def there():  # without the time of access, which following a link changes
        facts = {path: path.lstat() for path in tmp_path.iterdir()}
        return {path: (fact.st_ino, fact.st_mode, fact.st_size, fact.st_mtime_ns) for path, fact in facts.items()}

    before = there()
    for path in (*before, Path(os.devnull)):
        with pytest.raises(InputError, match=f"{path} is not a regular file"):
            write_text(path, "new")
    assert there() == before and Path(os.devnull).is_char_device()


def test_a_file_that_is_replaced_passes_on_its_permissions(tmp_path):
    write_text(tmp_path / "new", "")
    (tmp_path / "usual").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "new").chmod(0o640)
    write_text(tmp_path / "new", "text")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_of_an_error_nothing_is_left_but_what_was_there(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as file:
        file.write(b"ne")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "folder") as new:
        write_text(new / "a", "new")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_of_two_writers_at_once_one_wins_whole(tmp_path):
    def write(i):
        with replacing(tmp_path / "a") as file:
            for _ in range(20):
                file.write(bytes([i]) * 10_000)

    with ThreadPool(8) as threads:
        threads.map(write, range(64))
    content = (tmp_path / "a").read_bytes()
    assert content == content[:1] * 200_000 and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_killed_writers_left_is_deleted_later(tmp_path):
    write = "import os, sys; from pathlib import Path; from dcgan_jax.system.files import *"
    killed = "\nwith new_folder(Path('folder')) as new, replacing(Path('a')), replacing(new / 'b'): os._exit(9)"
    assert python("-c", write + killed, cwd=tmp_path).returncode == 9
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2 and all(path.name.startswith(".dcgan_jax-") for path in left)
    (tmp_path / ".dcgan_jax-notes").touch()
    os.utime(tmp_path / ".dcgan_jax-notes", (0, 0))
    os.utime(left[0], (0, 0))
    next_one = f"{write}; write_text(Path('a'), '')"
    assert python("-c", next_one, cwd=tmp_path).returncode == 0
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / ".dcgan_jax-notes", left[1], tmp_path / "a"])
    os.utime(left[1], (0, 0))
    assert python("-c", next_one, cwd=tmp_path).returncode == 0
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".dcgan_jax-notes", tmp_path / "a"]


def test_a_new_folder_appears_whole_or_is_refused(tmp_path):
    for name in ("new", "empty", "deep/new"):
        if name == "empty":
            (tmp_path / name).mkdir()
        with new_folder(tmp_path / name) as new:
            write_text(new / "a", "text")
            assert not list((tmp_path / name).glob("*"))
        assert [path.name for path in (tmp_path / name).iterdir()] == ["a"]
    (tmp_path / "file").touch()
    for name in ("new", "file"):
        with pytest.raises(InputError, match="is not an empty folder"), new_folder(tmp_path / name):
            pytest.fail("it was begun")


def test_deep_json_is_an_error_like_any_other():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


def test_reads_regular_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        with pytest.raises((InputError, OSError)):
            read_bytes(tmp_path / name)
    (tmp_path / "file").write_bytes(b"\0" * 20)
    (tmp_path / "to_file").symlink_to("file")
    assert read_bytes(tmp_path / "to_file", most=20) == b"\0" * 20
    with pytest.raises(InputError, match="more than"):
        read_bytes(tmp_path / "file", most=19)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "none")
