"""The allocator of the commands, in real processes: what they keep, and that no process is ever replaced."""

import json
import os
import platform
import re
import subprocess
import sys

import helpers
import pytest

PLAIN = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is that of glibc")


def python(*arguments, environment=PLAIN, **options):
    return helpers.python(*arguments, env=environment, **options)


FAULTS = """
import json, resource, threading
import numpy as np
if {keep}:
    from dcgan_jax.system.memory import keep_freed_memory
    keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(64 << 20, np.uint8)  # and freed at once
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

found = []
np.ones(64 << 20, np.uint8)
faults()
thread = threading.Thread(target=faults)
thread.start()
thread.join()
print(json.dumps(found))
"""


@glibc
def test_freed_memory_is_used_again_in_all_threads():
    """Linux counts a fault when a process first writes to a page that it gave back: 16,384 small pages each time."""
    code = FAULTS.format(keep=True)
    assert max(json.loads(python("-c", code).stdout)) < 1000
    # NumPy asks for huge pages itself: count those, too.
    assert min(json.loads(python("-c", FAULTS.format(keep=False)).stdout)) > 100


@glibc
def test_the_users_own_settings_are_left_alone():
    code = FAULTS.format(keep=True)
    done = python("-c", code, environment={**PLAIN, "GLIBC_TUNABLES": "glibc.malloc.check=0"})
    assert min(json.loads(done.stdout)) > 100


@glibc
def test_limited_addresses_are_no_error():
    code = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n{FAULTS.format(keep=True)}"
    done = python("-c", code)
    assert done.returncode == 0 and max(json.loads(done.stdout)) < 200_000, done.stderr


# A command that ends soon, within a program of the user's: each line is said once, by one process.
MAIN = """
import os, sys
from dcgan_jax.{command} import main
sys.argv = ["{command}", "--workdir", "nowhere/at/all", *{flags}]
print("before", os.getpid(), flush=True)
try:
    main()
except SystemExit as end:
    print("after", os.getpid(), end.code, flush=True)
"""
FLAGS = {"train": ["--data", "nonesuch"], "evaluate": []}
RUNPY = """
import os, runpy, sys
sys.argv = ["train", "--workdir", "nowhere/at/all", "--data", "nonesuch"]
print("before", os.getpid(), flush=True)
try:
    runpy.run_module("dcgan_jax.train", run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("after", os.getpid(), end.code, flush=True)
"""
CHILD = """
import multiprocessing, os, sys

def child():
{main}

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
"""


def told_once(done):
    lines = re.findall(r"(before|after) (\d+)(?: (\d+))?$", done.stdout, re.MULTILINE)
    assert [line[0] for line in lines] == ["before", "after"], done.stdout + done.stderr
    assert lines[0][1] == lines[1][1] and lines[1][2] == "2" and "no such folder or file" in done.stderr


@pytest.mark.slow
def test_a_program_that_calls_a_command_goes_on_after_it(tmp_path):
    """Read from standard input, as a file, as -c, by runpy, in a child of multiprocessing, in a debugger."""
    main = MAIN.format(command="train", flags=FLAGS["train"])
    told_once(python("-", input=main, cwd=tmp_path))
    (tmp_path / "script.py").write_text(main)
    told_once(python("script.py", cwd=tmp_path))
    told_once(python("-c", RUNPY, cwd=tmp_path))
    (tmp_path / "child.py").write_text(CHILD.format(main=main.replace("\n", "\n    ")))
    told_once(python("child.py", cwd=tmp_path))
    debugged = python("-m", "pdb", "-c", "continue", "script.py", input="quit\n", cwd=tmp_path)
    told_once(debugged)


def test_evaluate_replaces_no_process_either(tmp_path):
    done = python("-", input=MAIN.format(command="evaluate", flags=[]), cwd=tmp_path)
    assert done.stdout.split()[0] == "before" and "after" in done.stdout and "is not the folder of a run" in done.stderr


def test_a_module_that_ipython_runs_leaves_its_variables(tmp_path):
    pytest.importorskip("IPython", reason="no IPython here")
    cell = "%run -m dcgan_jax.train -- --workdir nowhere/at/all --data nonesuch"
    lines = ["import os", "print('before', os.getpid())", cell, "print('after', os.getpid(), 2)"]
    told_once(
        python("-m", "IPython", "--quick", "--colors=NoColor", "--simple-prompt", input="\n".join(lines), cwd=tmp_path)
    )


@pytest.mark.parametrize("start", [["-m", "dcgan_jax.train"], ["-m", "dcgan_jax", "train"]])
def test_the_command_itself_stays_the_process_that_was_started(start, tmp_path):
    command = [sys.executable, *start, "--workdir", "nowhere", "--data", "nonesuch"]
    trace = "import os, sys\nfor name in ('execv', 'execve'):\n    setattr(os, name, lambda *_: os._exit(77))\n"
    (tmp_path / "sitecustomize.py").write_text(trace)
    done = subprocess.run(
        command, env={**PLAIN, "PYTHONPATH": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "no such folder or file" in done.stderr
