"""The errors that end a command, each with its exit code, and errors as text."""

import contextlib
import difflib
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Sequence

from tqdm import tqdm


class InputError(Exception):
    """An error that the user can fix: bad input, a damaged file, a full disk."""

    exit_code = 2


class NonFiniteError(Exception):
    """A loss, a gradient or something in the state is no longer a finite number.

    Attributes:
      step: the number of the step that caused it.
      names: what is not finite, as in the metrics.
    """

    exit_code = 3

    def __init__(self, step: int, names: list[str], message: str = ""):
        super().__init__(message or f"step {step}: {', '.join(names)} not finite")
        self.step = step
        self.names = names


class Stopped(BaseException):
    """Training was asked to stop by a signal, and has saved.

    Like ``KeyboardInterrupt`` it is not an ``Exception``, so that a sweep which catches errors still stops.
    """

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.exit_code = 128 + signal


@contextlib.contextmanager
def extra(what: str) -> Iterator[None]:
    """Say on stderr when the block fails, and go on: it makes ``what``, which a run can be without."""
    try:
        yield
    except NonFiniteError:
        raise
    except Exception as error:
        tqdm.write(printable(f"{what} could not be made, and the run goes on: {first_line(error)}"), file=sys.stderr)


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def printable(text: str) -> str:
    """Escape control characters, line breaks too, and what cannot be encoded: file names may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in encodable(text))


def nearest(name: str, names: Sequence[str]) -> str:
    """Those of ``names`` that are most like ``name``, else the first twenty: for a message."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names
    return ", ".join(shortened(one) for one in near[:20]) + ", …" * (len(near) > 20)


def shortened(text: str) -> str:
    """``printable``, of at most 80 characters: for a message, which is one line."""
    return printable(text if len(text) <= 80 else f"{text[:79]}…")


def place_of(name: str, names: Sequence[str]) -> int | None:
    """Where ``name`` is among ``names``: itself, or the only one that looks the same."""
    if name in names:
        return names.index(name)
    looks = [unicodedata.normalize("NFC", one) for one in names]
    look = unicodedata.normalize("NFC", name)
    return looks.index(look) if looks.count(look) == 1 else None


def encodable(text: str) -> str:
    r"""Escape what has no place in UTF-8, such as the bytes of a file name in another encoding: ``caf\xe9``."""
    return re.sub("[\ud800-\udfff]", lambda match: _escaped(ord(match[0])), text)


def shell_word(path: str | os.PathLike[str]) -> str:
    """A name of a file as one word of a command, for a message: quoted where a shell needs it."""
    text = os.fspath(path)
    if encodable(text) == text and text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(chr(b) if chr(b).isalnum() and b < 128 else f"\\x{b:02x}" for b in os.fsencode(text)) + "'"


def _escaped(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"  # as os.fsdecode makes them
