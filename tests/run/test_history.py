"""The metrics of long runs, and of hostile files."""

import itertools
import json
import os
import random

import pytest

from dcgan_jax.run.doctor import LINES, best, findings
from dcgan_jax.run.history import History, cut, last_step, line_of
from dcgan_jax.system.errors import InputError


def long_run(count, every=7):
    """Lines of a run that collapses near its end; each 7th has an evaluation."""
    rng = random.Random(0)
    for i in range(1, count + 1):
        line = {"step": 10 * i, "loss_D": rng.random(), "loss_G": 5.0, "grad_norm_D": rng.random()}
        if i % every == 0:
            healthy = i < 0.9 * count
            line |= {"kid": 0.1 + rng.random(), "coverage": rng.random(), "coverage_floor": 0.99}
            line["diversity"] = 0.9 if healthy else 0.1
        yield line


def written(path, lines, end=""):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return path


def test_a_short_file_is_read_whole(tmp_path):
    lines = list(long_run(1000))
    history = History.read(written(tmp_path / "metrics.jsonl", lines, '{"step": 20000, "lo'))
    assert history.lines == lines and history.evaluations == 142
    assert history.evaluated == [line for line in lines if "kid" in line]
    assert History.read(tmp_path / "none").lines == []


@pytest.mark.parametrize("count", [8193, 30_011])
def test_of_a_long_file_a_part_is_kept_that_says_the_same(tmp_path, count):
    lines = list(long_run(count))
    evaluated = [line for line in lines if "kid" in line]
    history = History.read(written(tmp_path / "metrics.jsonl", lines))
    kept = history.lines
    assert 2048 <= len(kept) <= 4096 + 1024 + 100 and history.evaluations == len(evaluated)
    by_step = {line["step"]: line for line in lines}
    assert all(by_step[line["step"]] == line for line in kept)
    assert kept == sorted(kept, key=lambda line: line["step"]) and kept[-LINES:] == lines[-LINES:]
    gaps = {after["step"] - before["step"] for before, after in itertools.pairwise(kept)}
    assert max(gaps) <= 10 * 16  # nowhere a hole
    every = next(k for k in (1, 2, 4, 8, 16) if -(-count // k) <= 4096)  # from the first line on
    assert {line["step"] for line in lines[::every]} <= {line["step"] for line in kept}
    assert best(history.evaluated) == best(evaluated) and history.evaluated[-16:] == evaluated[-16:]
    assert findings(kept, images=5000) == findings(lines, images=5000) != []


def test_a_resumed_run_keeps_the_lines_that_an_uninterrupted_one_does(tmp_path):
    lines, whole = list(long_run(20_000)), History()
    for line in lines:
        whole.add(line)
    resumed = History.read(written(tmp_path / "metrics.jsonl", lines[:9_999]))
    for line in lines[9_999:]:
        resumed.add(line)
    assert resumed.lines == whole.lines and resumed.evaluated == whole.evaluated


@pytest.mark.parametrize("torn", ["", '{"step": 99, "lo', '{"step": 99}'])
def test_cut_keeps_the_lines_up_to_a_step_as_they_were(tmp_path, torn):
    lines = list(long_run(23))
    for step in (0, 5, 10, 15, 100, 229, 230, 2000):
        path = written(tmp_path / "metrics.jsonl", lines, torn)
        whole = path.read_bytes().splitlines(keepends=True)
        staying = [line for line in lines if line["step"] <= step]
        assert last_step(path) == 230
        assert line_of(path, step) == next((line for line in lines if line["step"] == step), None)
        cut(path, step)
        assert path.read_bytes() == b"".join(whole[: len(staying)])
        assert last_step(path) == (staying[-1]["step"] if staying else None)
    cut(tmp_path / "none", 5)
    assert last_step(tmp_path / "none") is None and not (tmp_path / "none").exists()


HOSTILE = {
    "text": b"garbage",
    "empty line": b"",
    "a number": b"5",
    "a list": b"[]",
    "no step": b'{"loss_D": 1.0}',
    "step as text": b'{"step": "20", "loss_D": 1.0}',
    "step as float": b'{"step": 20.0, "loss_D": 1.0}',
    "step true": b'{"step": true}',
    "step below zero": b'{"step": -1}',
    "step too large": b'{"step": 1' + 400 * b"0" + b"}",
    "step of 5000 digits": b'{"step": 1' + 5000 * b"0" + b"}",
    "step too early": b'{"step": 10, "loss_D": 1.0}',
    "NaN": b'{"step": 20, "loss_D": NaN}',
    "infinite": b'{"step": 20, "loss_D": 1e999}',
    "huge": b'{"step": 20, "loss_D": 1' + 400 * b"0" + b"}",
    "null": b'{"step": 20, "loss_D": null}',
    "text as number": b'{"step": 20, "loss_D": "1"}',
    "true as number": b'{"step": 20, "loss_D": true}',
    "nested": b'{"step": 20, "loss_D": {"a": 1}}',
    "nested deeply": 8000 * b"[" + 8000 * b"]",
    "not UTF-8": b'{"step": 20, "\xff": 1.0}',
    "binary": bytes(range(256)).replace(b"\n", b""),
    "zeros": bytes(1000),
    "a megabyte": b'{"step": 20, "loss_D": 1.0' + 2**20 * b" " + b"}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_line_is_named_in_one_sentence(tmp_path, kind):
    path, first, last = tmp_path / "metrics.jsonl", b'{"step": 10, "loss_D": 1.0}\n', b'{"step": 30, "loss_D": 1.0}\n'
    path.write_bytes(first + HOSTILE[kind] + b"\n" + last)
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2 is damaged \(.*\): remove it$") as refused:
        History.read(path)
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 300
    path.write_bytes(first + HOSTILE[kind] + b"\n")
    if kind != "step too early":
        with pytest.raises(InputError, match=r"metrics\.jsonl, line 2 is damaged"):
            last_step(path)


def test_pipes_folders_and_huge_files_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "link"):
        for use in (History.read, last_step, lambda path: cut(path, 5)):
            with pytest.raises(InputError, match=f"{name} is not a regular file"):
                use(tmp_path / name)
    for size, message in ((20 << 30, "has 20,480.0 MiB, more than the 16,384.0 MiB"), (1 << 30, "line 1 is damaged")):
        with open(tmp_path / "sparse", "wb") as file:
            file.truncate(size)
        with pytest.raises(InputError, match=message):
            History.read(tmp_path / "sparse")
        with pytest.raises(InputError, match=r"damaged|has 20,480"):
            last_step(tmp_path / "sparse")
