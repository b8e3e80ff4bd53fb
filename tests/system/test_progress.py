"""Progress in a terminal, in a file, and in a log that is read later."""

import contextlib
import pty
import re
import sys
import termios

from dcgan_jax.config import Config
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.log import RunLog
from dcgan_jax.system import progress as module
from dcgan_jax.system.progress import progress

TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "


def test_a_file_gets_a_plain_line_now_and_then(monkeypatch, capfd):
    clock = iter(range(0, 10_000, 7))  # seconds
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert list(progress(range(20), "preparing images", total=75, size=4)) == list(range(20))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 4 and all(re.match(TIME + "preparing images: ", line) for line in lines)
    assert lines[0].endswith("preparing images: 20 of 75, 0.6 img/s, 01:36 left")
    assert lines[3].endswith("preparing images: 75 of 75, 0.5 img/s, 00:00 left")
    assert list(progress([1, 2, 3], "counting")) == [1, 2, 3]
    assert capfd.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        assert list(progress(range(3), "preparing images", total=3)) == [0, 1, 2]
    shown = ""
    with open(ours, "rb", buffering=0) as screen, contextlib.suppress(OSError):  # the other end is closed
        while part := screen.read(1000):  # it may come in parts
            shown += part.decode()
    assert "\r" in shown and "preparing images: 100%" in shown


def test_a_log_has_a_line_for_each_evaluation_and_each_half_minute(tmp_path, monkeypatch, capfd):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    config = Config(steps=500, batch_size=32, log_every=10)
    with RunLog(RunFolder(tmp_path), config, start=0, images=5000) as log:
        for step in range(10, 501, 10):
            now[0] += 4
            log.advance(step)
            quality = {"kid": 0.05, "kid_floor": 0.0, "coverage": 0.5, "coverage_floor": 0.9} if step == 110 else {}
            log.metrics(step, {"loss_D": 0.5, "loss_G": 2.0, **quality}, 100.0)
    printed, said = capfd.readouterr()
    steps = [int(step) for step in re.findall(r"step (\d+) of 500: loss_D 0\.500, loss_G 2\.000", said)]
    assert steps == [80, 110, 190, 270, 350, 430, 500] and len(said.splitlines()) == 7 and "\r" not in said
    assert re.search(TIME + r"step 110 of 500: .*, 100\.0 img/s, 02:04 left\n", said)
    words = (
        "coverage 0.50 of 0.90: about three fifths of the kinds are drawn. On the way, but easy to tell from the real"
    )
    assert printed == f"step 110: {words} images (KID 0.05, real images 0; CIFAR features)\n"
