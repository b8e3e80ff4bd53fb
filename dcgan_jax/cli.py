"""What the commands share: flags, errors as a message and an exit code, the memory allocator's settings."""

import contextlib
import dataclasses
import os
import platform
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import tyro

from dcgan_jax.system import peers
from dcgan_jax.system.errors import InputError, LostPeerError, NonFiniteError, Stopped, printable


# XLA:CPU asks for its scratch memory anew in every step, and glibc gives blocks of that size back to the
# kernel each time, which then has to clear and map every page again. Kept, in huge pages, a step takes a
# fifth less time (experiments/RESULTS.md). glibc reads this only when a process starts.
KEEP_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=137438953472"}


def keep_memory() -> None:
    """Start this command over with an allocator that keeps freed memory, where there is one (glibc).

    Returns at once if ``GLIBC_TUNABLES`` is set already, by this function or by the user.
    """
    if platform.libc_ver()[0] == "glibc" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **KEEP_MEMORY})


def parse(arguments: type, *, description: str, **defaults):
    """Build the dataclass ``arguments`` from the command line, with other defaults for the fields named.

    ``--help`` and mistakes end the program here.
    """
    main = sys.modules["__main__"].__spec__
    program = f"python -m {main.name}" if main else sys.argv[0]
    default = None
    if defaults:
        required = (field for field in dataclasses.fields(arguments) if field.default is dataclasses.MISSING)
        missing = {field.name: tyro.MISSING for field in required}
        default = arguments(**{**missing, **defaults})
    try:
        with _console():
            return tyro.cli(arguments, prog=program, description=description, default=default, config=(tyro.conf.OmitArgPrefixes,))
    except InputError as error:
        _end(error)


class _Console:
    """A standard stream that cannot end a run: Ctrl-C ends ``| tee log`` before us, and a disk with a log may be full."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with self._kept():
            self._stream.write(text)
        return len(text)

    def flush(self):
        with self._kept():
            self._stream.flush()

    @contextlib.contextmanager
    def _kept(self):
        try:
            yield
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextlib.contextmanager
def _console():
    # A stream that was closed at the start is None, and the next file would get its number.
    out, err = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(_Console(out)), contextlib.redirect_stderr(_Console(err)):
        try:
            yield
        finally:
            sys.stdout.flush()


def run(command: Callable, arguments) -> None:
    """Call ``command(arguments)``; what can be expected to go wrong ends in its message and exit code.

    Before training holds the signals, Ctrl-C and SIGTERM end the command at once.
    """
    with _console():
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)
        try:
            command(arguments)
        except (InputError, NonFiniteError, LostPeerError, Stopped) as error:
            _end(error, together=isinstance(error, (NonFiniteError, Stopped)))
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            _end(Stopped(number, "stopped: the same command starts again"), together=False)
        except Exception as error:  # a mistake of ours, that the other processes must not wait for
            if not peers.joined():
                raise
            traceback.print_exc()
            peers.leave(1, f"{type(error).__name__}: {error}", together=False)


def _interrupt(number, _):
    raise KeyboardInterrupt(number)


def _end(error, together=False) -> NoReturn:
    message = "\n".join(map(printable, str(error).splitlines()))
    print(message if isinstance(error, Stopped) else f"error: {message}", file=sys.stderr)
    peers.leave(error.exit_code, message, together)
