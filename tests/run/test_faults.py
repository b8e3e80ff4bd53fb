"""Every file operation of a short run fails once: the next start resumes, and ends as an undisturbed run does."""

import dataclasses
import errno
import os
import threading
from pathlib import Path

import pytest
from helpers import equal, metrics_of

from dcgan_jax import InputError, fit

OPERATIONS = ("open", "rename", "replace", "mkdir", "unlink", "rmdir", "fsync", "posix_fallocate", "link", "symlink")


class Faults:
    """Counts what this process does to files below ``root`` through ``os`` and ``open``, and lets one of them fail."""

    def __init__(self, monkeypatch, root):
        self.done, self.fail_at, self.number = 0, None, errno.EIO
        self._root = str(root)
        for name in OPERATIONS:
            if hasattr(os, name):
                monkeypatch.setattr(os, name, self._counted(getattr(os, name), name))
        import builtins
        import io

        real = builtins.open

        def opened(file, mode="r", *args, **kwargs):
            if set(mode) & set("wax+"):
                self._count(file)
            return real(file, mode, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", opened)
        monkeypatch.setattr(io, "open", opened)

    def _counted(self, function, name):
        def counted(path, *args, **kwargs):
            if name != "open" or (args and args[0] & (os.O_WRONLY | os.O_RDWR)):
                self._count(path)
            return function(path, *args, **kwargs)

        return counted

    def _count(self, path):
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        if self._root not in str(path):
            return
        self.done += 1
        if self.done == self.fail_at:
            raise OSError(self.number, os.strerror(self.number), str(path))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's tasks
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("every", [40, pytest.param(3, marks=pytest.mark.slow)])
def test_whatever_fails_once_the_next_start_resumes(photos, tiny, tmp_path, monkeypatch, every):
    """One operation of ``every`` so many fails: with a full disk, or with a broken one."""
    config = dataclasses.replace(tiny, data=str(photos), steps=6, checkpoint_every=2, keep_newest=1, keep_every=4)
    whole = fit(config, tmp_path / "whole")
    faults = Faults(monkeypatch, tmp_path / "runs")
    fit(config, tmp_path / "runs" / "count")
    operations, failed = range(every, faults.done + 1, every), 0
    assert faults.done > 60
    threads = set(threading.enumerate())
    for i in operations:
        workdir = tmp_path / "runs" / str(i)
        faults.done, faults.fail_at, faults.number = 0, i, (errno.ENOSPC, errno.EIO)[i % 2]
        try:
            fit(config, workdir)
        except InputError:
            failed += 1
        except Exception as error:  # of Orbax or TensorFlow, which name the place in their own way
            pytest.fail(f"operation {i} failed as {type(error).__name__}: {error}")
        faults.fail_at = None
        for thread in set(threading.enumerate()) - threads:  # Orbax's, which a new process would not have
            if thread.is_alive():
                thread.join(timeout=5)
        assert equal(fit(config, workdir), whole), i
        assert metrics_of(workdir) == metrics_of(tmp_path / "whole"), i
    assert failed > len(operations) // 2
