"""Files are whole, on the disk before their name is, and never written through a link."""

import os

import pytest

from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import parse_json, read_bytes, write_text


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    did = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (did.append(os.readlink(f"/proc/self/fd/{number}")), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (did.append("replace"), replace(a, b)))
    write_text(tmp_path / "a.json", "new")
    assert did == [str(tmp_path / "a.json.partial"), "replace", str(tmp_path)]
    assert (tmp_path / "a.json").read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_link_is_not_written_through(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "a.json.partial").symlink_to(precious)
    (tmp_path / "a.json").symlink_to(precious)
    write_text(tmp_path / "a.json", "new")
    assert precious.read_text() == "precious" and (tmp_path / "a.json").read_text() == "new"
    assert not (tmp_path / "a.json").is_symlink()


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
