"""What a disk refuses is told apart, and what the message advises works."""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest

from dcgan_jax.system.disk import need_room, reserve, writing
from dcgan_jax.system.errors import InputError

WRITE = """
import os, resource, sys
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.disk import *
from dcgan_jax.system.disk import *
from dcgan_jax.system.files import *

def write(path, size=0):
    try:
        with writing(path):
            write_bytes(path, bytes(size))
        print("written")
    except InputError as error:
        print(error)
    assert not [name for name in os.listdir(path.parent) if name.startswith(".dcgan_jax-")]
"""


def lines_of(script, *command, **options):
    """What a script prints that is run by another Python, or by another program and a Python in it."""
    found = subprocess.run([*command, sys.executable, "-c", WRITE + script], capture_output=True, text=True, **options)
    assert found.returncode == 0, found.stderr
    return found.stdout.splitlines()


@pytest.fixture
def small_disk(tmp_path):
    """How a script is run that sees a disk of 1 MiB and 20 files at a path, and that path."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("mounts a disk of its own")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=1m,nr_inodes=20 none '{disk}' && exec \"$@\""
    return ("unshare", "-rm", "sh", "-c", mount, "sh"), disk


def test_a_full_disk_says_how_much_is_free_and_is_written_to_when_there_is_room(small_disk):
    command, disk = small_disk
    full, written = lines_of(
        f"disk = Path({str(disk)!r})\n(disk / 'other').write_bytes(bytes(900_000))\nwrite(disk / 'a', 200_000)\n"
        "(disk / 'other').unlink()\nwrite(disk / 'a', 200_000)",
        *command,
    )
    assert re.fullmatch(
        rf"cannot write {disk}/a: No space left on device \(0\.\d MiB free: make room, and run the same command again\)",
        full,
    )
    assert written == "written"


def test_a_disk_that_can_have_no_more_files_is_another_case(small_disk):
    command, disk = small_disk
    full, written = lines_of(
        f"disk = Path({str(disk)!r})\nfor i in range(19): (disk / str(i)).touch()\nwrite(disk / 'a')\n"
        "(disk / '3').unlink()\nwrite(disk / 'a')",
        *command,
    )
    assert full == (
        f"cannot write {disk}/a: No space left on device (there can be no more files on this disk, whatever their size: "
        "delete some, and run the same command again)"
    )
    assert written == "written"


def test_a_disk_for_reading_names_another_folder(small_disk, tmp_path):
    command, disk = small_disk
    refused, written = lines_of(
        f"disk = Path({str(disk)!r})\nos.system(f\"mount -o remount,ro '{{disk}}'\")\nwrite(disk / 'a')\n"
        f"write(Path({str(tmp_path)!r}) / 'a')",
        *command,
    )
    assert refused == (
        f"cannot write {disk}/a: Read-only file system (nothing can be written there: give another folder)"
    )
    assert written == "written"


def test_a_limit_of_the_size_of_files_is_named(tmp_path):
    refused, written = lines_of(
        f"path = Path({str(tmp_path)!r}) / 'a'\nsoft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))\nwrite(path, 5000)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\nwrite(path, 5000)"
    )
    assert refused == (
        f"cannot write {tmp_path}/a: File too large (larger than ulimit -f or the file system allows: raise the limit, "
        "or give another folder)"
    )
    assert written == "written"


def test_permissions_are_named(tmp_path):
    command = ()
    if os.geteuid() == 0:  # who may do anything, with the usual capabilities
        command = ("setpriv", "--bounding-set=-all")
        if not shutil.which("setpriv"):
            pytest.skip("root may do anything")
    closed = tmp_path / "closed"
    closed.mkdir()
    refused, written = lines_of(
        f"closed = Path({str(closed)!r})\nclosed.chmod(0o500)\nwrite(closed / 'a')\nclosed.chmod(0o700)\n"
        "write(closed / 'a')",
        *command,
    )
    remedy = "change its permissions, or give another place"
    assert refused == f"cannot write {closed}/a: Permission denied ({remedy})" and written == "written"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EDQUOT, "your quota there is used up: delete files of yours, and run the same command again"),
        (errno.EPERM, "change its permissions, or give another place"),
        (errno.EIO, "fix this and run the same command again"),
    ],
)
def test_what_no_disk_here_refuses_has_its_remedy_too(tmp_path, number, remedy):
    with pytest.raises(InputError) as refused, writing(tmp_path):
        raise OSError(number, os.strerror(number), tmp_path / "a")
    assert str(refused.value) == f"cannot write {tmp_path}/a: {os.strerror(number)} ({remedy})"


def test_a_full_disk_that_has_room_again_is_not_said_to_be_full(tmp_path):
    if shutil.disk_usage(tmp_path).free < 1 << 30:
        pytest.skip("the disk is full")
    why = "MiB are free now: something else filled the disk for a while, or a limit is set; run the same command again"
    with pytest.raises(InputError, match=why), writing(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tmp_path / "a")


def test_room_is_reserved_and_given_back(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(
        InputError, match=rf"{tmp_path}/new has [\d,.]+ MiB free, but a thing needs [\d,.]+ MiB: make room"
    ):
        need_room(tmp_path / "new", 4 * free, "a thing")
    reserve(tmp_path, 1 << 20, "a thing")
    assert not list(tmp_path.iterdir())
    (refused,) = lines_of(
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))\n"
        f"try: reserve(Path({str(tmp_path)!r}), 5000, 'a thing')\nexcept InputError as error: print(error)"
    )
    assert "File too large (larger than ulimit -f" in refused
