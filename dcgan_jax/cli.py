"""What the commands share: flags, errors as a message and an exit code, the memory allocator's settings."""

import dataclasses
import os
import platform
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import tyro

from dcgan_jax import cluster
from dcgan_jax.errors import InputError, LostPeerError, NonFiniteError, Stopped, printable


# XLA:CPU asks for its scratch memory anew in every step, and glibc gives blocks of that size back to the
# kernel each time, which then has to clear and map every page again. Kept, in huge pages, a step takes a
# fifth less time (experiments/RESULTS.md). glibc reads this only when a process starts.
KEEP_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=137438953472"}


def keep_memory() -> None:
    """Start this command over with an allocator that keeps freed memory, where there is one (glibc).

    Returns at once if ``GLIBC_TUNABLES`` is set already, by this function or by the user.
    """
    if platform.libc_ver()[0] == "glibc" and "GLIBC_TUNABLES" not in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **KEEP_MEMORY})


def parse(arguments: type, *, description: str, **defaults):
    """Build the dataclass ``arguments`` from the command line, with other defaults for the fields named.

    ``--help`` and mistakes end the program here.
    """
    default = None
    if defaults:
        required = (field for field in dataclasses.fields(arguments) if field.default is dataclasses.MISSING)
        missing = {field.name: tyro.MISSING for field in required}
        default = arguments(**{**missing, **defaults})
    try:
        return tyro.cli(arguments, description=description, default=default, config=(tyro.conf.OmitArgPrefixes,))
    except InputError as error:
        _end(error)


def run(command: Callable, arguments) -> None:
    """Call ``command(arguments)``; what can be expected to go wrong ends in its message and exit code."""
    try:
        command(arguments)
    except (InputError, NonFiniteError, LostPeerError, Stopped) as error:
        _end(error)
    except KeyboardInterrupt:
        print("stopped: the same command starts again", file=sys.stderr)
        cluster.leave(128 + signal.SIGINT, together=False)


def _end(error) -> NoReturn:
    message = str(error) if isinstance(error, Stopped) else f"error: {error}"
    print("\n".join(map(printable, message.splitlines())), file=sys.stderr)
    cluster.leave(error.exit_code, together=isinstance(error, (NonFiniteError, Stopped)))
