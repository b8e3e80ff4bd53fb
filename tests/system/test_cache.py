"""Compiled programs that are kept: only what was written is run."""

import os
import stat
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.monitoring, jax.numpy as jnp
from dcgan_jax import cache_compilations
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/")[-1]))
cache_compilations()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
for power in (2, 3):
    print(jax.jit(lambda x: jnp.sin(x) ** power @ x)(jnp.eye(3) + 1).sum())
print(events.count("cache_hits"), events.count("cache_misses"))
"""


def start(cache):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={**plain, "DCGAN_JAX_CACHE": str(cache)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *numbers, counts = done.stdout.splitlines()
    return numbers, [int(count) for count in counts.split()], done.stderr


def flip(content):
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize(
    "damage", [flip, lambda content: content[:-1], lambda content: b""], ids=["bit", "cut", "empty"]
)
def test_a_damaged_program_is_compiled_anew(tmp_path, damage):
    numbers, (hits, compiled), _ = start(tmp_path)
    entries = list((tmp_path / "xla").glob("*-cache"))
    assert hits == 0 and compiled == len(entries) >= 2
    assert start(tmp_path) == (numbers, [compiled, 0], "")
    (tmp_path / "xla" / "of-an-earlier-version-cache").write_bytes(b"code")
    for path in entries:
        path.write_bytes(damage(path.read_bytes()))
    assert start(tmp_path) == (numbers, [0, compiled], "")
    assert start(tmp_path) == (numbers, [compiled, 0], "")
    assert sorted((tmp_path / "xla").iterdir()) == sorted(entries)  # nothing of a process stays


def test_programs_are_kept_where_nobody_else_can_write(tmp_path):
    start(tmp_path)
    folder = tmp_path / "xla"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o770)
    _, (hits, _), said = start(tmp_path)
    assert hits == 0
    assert (
        said
        == f"compiled programs are not kept: {folder} can be written by others (chmod go-w {folder}), and they are native code\n"
    )
