"""C++ that XLA calls: compiled for this machine when it is first wanted, and kept in the cache folder."""

import contextlib
import ctypes
import functools
import importlib.resources
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import jax
import jaxlib.version
import numpy as np

from dcgan_jax.system.cache import cache_folder, kept, others_can_write
from dcgan_jax.system.errors import InputError, first_line, printable
from dcgan_jax.system.files import read_bytes, write_bytes

_COMMAND = "-O2 -std=c++17 -fPIC -shared -x c++ -".split()
_CPUINFO = 1 << 16  # bytes: the first processor's lines, at least
_lock = threading.Lock()


class _UnusableError(Exception):
    pass


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What the processor can do, in Linux's words, such as ``amx_bf16``; nothing on other systems."""
    with contextlib.suppress(OSError, InputError):
        lines = read_bytes(Path("/proc/cpuinfo"), start=_CPUINFO).decode().splitlines()
        return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
    return frozenset()


def registered(files: Sequence[tuple[str, str]], handlers: Sequence[str], flags: Sequence[str], *, slower: str) -> bool:
    """Whether XLA can call ``handlers`` on CPUs from now on.

    The first call of a process compiles the files, or loads what an earlier one has compiled from the same files with
    the same JAX and C library. Where that cannot be, this is said on stderr, once.

    Args:
      files: packages and names, read one after another as one file. They define ``refusal``, which says why this
        process cannot use it, or returns null.
      handlers: as given to ``XLA_FFI_DEFINE_HANDLER_SYMBOL``.
      flags: for the compiler, which is ``$CXX`` or ``c++``.
      slower: what is slower without it, and how much: the beginning of what is said.
    """
    with _lock:
        return _registered(tuple(files), tuple(handlers), tuple(flags), slower)


@functools.cache
def _registered(files, handlers, flags, slower):
    try:
        source = b"".join(importlib.resources.files(package).joinpath(name).read_bytes() for package, name in files)
        library = _loaded(source, flags)
        library.refusal.restype = ctypes.c_char_p
        if reason := library.refusal():
            raise _UnusableError(reason.decode())
        for name in handlers:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    except (_UnusableError, OSError, jax.errors.JaxRuntimeError) as error:
        _say(f"{slower}: {printable(str(error))}")
        return False
    return True


@functools.cache
def _say(line):
    """Several files fail for the same reason."""
    print(line, file=sys.stderr)


def _loaded(source: bytes, flags: tuple[str, ...]) -> ctypes.CDLL:
    def build():
        return {"library": np.frombuffer(_compiled(source, flags), np.uint8)}

    folder = cache_folder() / "native"
    others = ""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if others := others_can_write(folder):
            _say(f"compiled programs are not kept: {folder} {others}, and they are native code")
    except OSError:
        others = "cannot be written"
    versions = (jax.__version__, jaxlib.version.__version__, *platform.libc_ver())
    parts = (source, " ".join((*_COMMAND, *flags, *versions)).encode())
    content = (build() if others else kept(folder, parts, build))["library"].tobytes()
    try:
        with tempfile.TemporaryDirectory() as own:  # what was checked is what is loaded
            path = Path(own, "library.so")
            write_bytes(path, content, synced=False)
            return ctypes.CDLL(str(path))
    except OSError as error:
        remedy = f"delete {folder}, or set TMPDIR to a folder where programs may be run"
        raise _UnusableError(f"what was compiled cannot be loaded ({first_line(error)}): {remedy}") from None


def _compiled(source: bytes, flags: tuple[str, ...]) -> bytes:
    try:
        compiler = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    except ValueError as error:
        raise _UnusableError(f"CXX is not a command ({error}): set it to a C++ compiler") from None
    if shutil.which(compiler[0]) is None:
        raise _UnusableError(f"there is no C++ compiler {compiler[0]}; install g++, or set CXX to another")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "library.so")
        command = [*compiler, *_COMMAND, *flags, "-I", jax.ffi.include_dir(), "-o", str(path)]
        done = subprocess.run(command, input=source, capture_output=True, env={**os.environ, "LC_ALL": "C"})
        if done.returncode or not path.exists():
            lines = done.stderr.decode(errors="replace").splitlines() or ["it does not say why"]
            reason = next((line for line in lines if "error" in line), lines[-1])[:200]
            raise _UnusableError(f"{shlex.join(compiler)} cannot compile a part of it ({reason}): set CXX to another")
        return read_bytes(path)
