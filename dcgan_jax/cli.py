"""What the commands share: flags, errors as a message and an exit code."""

import contextlib
import dataclasses
import os
import platform
import re
import shutil
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NoReturn

import tyro

from dcgan_jax.system import cluster
from dcgan_jax.system.errors import InputError, NonFiniteError, Stopped, encodable, first_line, printable

LOST_PEER = 75
"""The exit code when another process of the run was lost: EX_TEMPFAIL of sysexits.h, try again."""


def parse(arguments: type, *, description: str | None, **defaults) -> Any:
    """Build the dataclass ``arguments`` from the command line, with ``defaults`` in place of its own.

    ``--help``, ``--version`` and errors end the program here.
    """
    if "--version" in sys.argv[1:]:
        print(versions())
        raise SystemExit
    main = getattr(sys.modules["__main__"], "__spec__", None)  # a debugger leaves none
    program = sys.argv[0] if main is None or main.name.endswith("__main__") else f"python -m {main.name}"
    default = None
    if defaults:
        required = (field for field in dataclasses.fields(arguments) if field.default is dataclasses.MISSING)
        missing = {field.name: tyro.MISSING for field in required}
        default = arguments(**{**missing, **defaults})
    config = (tyro.conf.OmitArgPrefixes,)
    with endings():
        return tyro.cli(arguments, prog=program, description=_filled(description), default=default, config=config)


def versions() -> str:
    """The version of this package, and of what decides whether a run resumes to the same bits."""
    names = ("dcgan_jax", "jax", "jaxlib")
    return ", ".join(f"{name} {version(name)}" for name in names) + f", Python {platform.python_version()}"


def _filled(description: str | None) -> str | None:
    """A description in lines of the terminal's width, which tyro would leave to the terminal to break, within words.

    Each line starts with a space, as tyro joins lines that start with a letter. Its code is not marked.
    """
    width = shutil.get_terminal_size().columns
    lines = []
    for line in re.sub(r"(?<=\S)\n(?=\S)", " ", (description or "").replace("``", "")).splitlines():
        indent = " " * (1 + len(line) - len(line.lstrip()))
        wrap = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False, initial_indent=indent)
        wrap.subsequent_indent = indent if indent == " " else f"{indent}  "
        lines += wrap.wrap(line.strip()) or [""]
    return "\n".join(lines) if description else None


class _Console:
    """A standard stream whose errors do not end a run: Ctrl-C may end ``| tee log`` first, or its disk may be full."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._try(self._stream.write, encodable(text))  # names of files may hold anything
        return len(text)

    def flush(self):
        self._try(self._stream.flush)

    def _try(self, function, *args):
        try:
            function(*args)
        except OSError:  # discard all later output
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextlib.contextmanager
def _console():
    # A stream that was closed at the start is None, and the next file opened would get its number.
    out, err = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115 - never closed
    with contextlib.redirect_stdout(_Console(out)), contextlib.redirect_stderr(_Console(err)):
        try:
            yield
        finally:
            sys.stdout.flush()


@contextlib.contextmanager
def endings() -> Iterator[None]:
    """Turn the expected errors of the block into a message and an exit code."""
    with _console():
        try:
            yield
        except (InputError, NonFiniteError, Stopped) as error:
            _end(error)
        except KeyboardInterrupt as error:
            number = error.args[0] if error.args else signal.SIGINT
            print("stopped: the same command starts again", file=sys.stderr)
            sys.stdout.flush()
            os._exit(128 + number)  # without waiting for the threads of others, such as downloads
        except Exception as error:
            if not cluster.joined():
                raise
            _leave(error)


def run(command: Callable, arguments: Any) -> None:
    """Call ``command(arguments)`` within ``endings``.

    Until training holds the signals, Ctrl-C and SIGTERM end the command at once.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
    with endings():
        command(arguments)


def _interrupt(number, _):
    raise KeyboardInterrupt(number)


def _end(error) -> NoReturn:
    message = "\n".join(map(printable, str(error).splitlines()))
    print(message if isinstance(error, Stopped) else f"error: {message}", file=sys.stderr)
    if cluster.joined() and isinstance(error, InputError):  # the others may not have this error
        cluster.leave(error.exit_code)
    raise SystemExit(error.exit_code)


def _leave(error) -> NoReturn:
    """End one of several processes after a failure of JAX or a bug, without waiting for the others."""
    import jax

    if not isinstance(error, jax.errors.JaxRuntimeError):
        traceback.print_exception(error)
        cluster.leave(1)
    lost = "if one of them has ended, start all of them again, and they resume from the last checkpoint"
    print(f"error: the processes cannot continue together ({first_line(error)}): {lost}", file=sys.stderr)
    cluster.leave(LOST_PEER)
