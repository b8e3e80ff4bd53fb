"""The metrics of a run: read, cut and kept in bounded time and memory. A long run has a million lines of them."""

import bisect
import collections
import contextlib
import io
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dcgan_jax.run.doctor import LINES, score
from dcgan_jax.system.disk import mib, reading, writing
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import open_regular, parse_json, sync

Line = dict[str, float]

_CURVES = 4096  # lines; a picture of them is 700 pixels wide
_EVALUATIONS = 1024
_NEWEST = 16  # evaluations: the doctor looks at the newest ten
_LONGEST = 16 << 10  # bytes of a line: those of an evaluation have 1,000
_LARGEST = 16 << 30  # bytes of a file
_CHUNK = 4 << 20
_MOST = sys.float_info.max
_END = 2**31  # steps: more than a run can have


class _Thinned:
    """Every k-th of the lines that are added: at most ``most``, and not less than half of it. k is a power of two."""

    def __init__(self, most: int):
        self._most, self._every, self._count = most, 1, 0
        self.lines: list[Line] = []

    def keeps_next(self) -> bool:
        return self._count % self._every == 0

    def add(self, line: Line) -> None:
        if self.keeps_next():
            self.lines.append(line)
        self._count += 1
        if len(self.lines) > self._most:
            self.lines, self._every = self.lines[::2], 2 * self._every

    def skip(self) -> None:
        self._count += 1


class History:
    """Those lines of ``metrics.jsonl`` that are needed later.

    They are every k-th line, up to 4,096 for the curves, and the 50 newest; and of the evaluations the best, the 16
    newest and every k-th, up to 1,024. Of a run that has fewer, these are all.

    Attributes:
      evaluations: how many there were.
    """

    def __init__(self):
        self._all, self._evaluated = _Thinned(_CURVES), _Thinned(_EVALUATIONS)
        self._newest: collections.deque[Line] = collections.deque(maxlen=LINES)
        self._newest_evaluated: collections.deque[Line] = collections.deque(maxlen=_NEWEST)
        self._best: list[Line] = []
        self._step = -1  # of the newest line that was looked at
        self.evaluations = 0

    def add(self, line: Line) -> None:
        """Take the next line, with its ``step``; that of an evaluation has ``kid``."""
        self._step = int(line["step"])
        self._all.add(line)
        self._newest.append(line)
        if "kid" in line:
            self.evaluations += 1
            self._evaluated.add(line)
            self._newest_evaluated.append(line)
            self._best = [max(*self._best, line, key=score)] if self._best else [line]

    @property
    def lines(self) -> list[Line]:
        """All lines that are kept, oldest first."""
        return _merged(self._all.lines, self.evaluated, self._newest)

    @property
    def evaluated(self) -> list[Line]:
        """The lines of evaluations that are kept, oldest first."""
        return _merged(self._evaluated.lines, self._best, self._newest_evaluated)

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read a ``metrics.jsonl``; one that does not exist is empty.

        A last line without its end, which a killed run can leave, does not count. Of a long file, the lines that are
        not kept are not checked.

        Raises:
          InputError: it is no regular file, or a line is damaged; names it.
        """
        history, newest = cls(), collections.deque(maxlen=LINES)
        for number, text in _texts(path):
            if history._all.keeps_next() or b'"kid"' in text:
                history.add(_parsed(path, number, text, after=history._step))
            else:
                history._all.skip()
            newest.append((number, text))
        history._newest.extend(_parsed(path, number, text) for number, text in newest)
        return history


def last_step(path: Path) -> int | None:
    """The step of the last line of a ``metrics.jsonl``; None if there is no line.

    Raises:
      InputError: it is no regular file, or a line is damaged.
    """
    line = _last_line(path, _END)[1]
    return None if line is None else int(line["step"])


def line_of(path: Path, step: int) -> Line | None:
    """The line of a step in a ``metrics.jsonl``, or None if it has none.

    Raises:
      InputError: it is no regular file, or a line is damaged.
    """
    line = _last_line(path, step)[1]
    return line if line and line["step"] == step else None


def cut(path: Path, step: int) -> None:
    """Remove the lines after ``step`` from a ``metrics.jsonl``, and a last line without its end.

    The file becomes shorter in one call of the system: a kill leaves it as it was or as it is to be.

    Raises:
      InputError: it is no regular file, a line is damaged, or it cannot be written.
    """
    end = _last_line(path, step)[0]
    with writing(path):
        if path.exists():
            os.truncate(path, end)
            sync(path)


def _last_line(path: Path, step: int) -> tuple[int, Line | None]:
    """The last line up to ``step``, and where it ends, found by bisection: steps rise from line to line."""
    with _opened(path) as (file, size):

        def first_after(position: int) -> float:
            line = _line_from(path, file, position)[1]
            return math.inf if line is None else line["step"]

        position = bisect.bisect_right(range(size), step, key=first_after)
        return _line_from(path, file, position - 1) if position else (0, None)


def _line_from(path: Path, file: BinaryIO, position: int) -> tuple[int, Line | None]:
    """The first whole line that starts at ``position`` or later, and where it ends."""
    file.seek(max(position - 1, 0))
    if position:
        file.readline(_LONGEST)
    start = file.tell()
    text = file.readline(_LONGEST)
    if len(text) < _LONGEST and not text.endswith(b"\n"):
        return start, None
    try:
        return start + len(text), _checked(text)
    except ValueError:
        return start, _parsed(path, _number(file, start), text)


def _number(file: BinaryIO, position: int) -> int:
    """The number of the line that starts at ``position``, from 1."""
    file.seek(0)
    number = 1
    while chunk := file.read(min(_CHUNK, position)):
        number += chunk.count(b"\n")
        position -= len(chunk)
    return number


def _texts(path: Path) -> Iterator[tuple[int, bytes]]:
    """The number and the text of each whole line."""
    number, rest = 1, b""
    with _opened(path) as (file, _):
        while chunk := file.read(_CHUNK):
            *texts, rest = (rest + chunk).split(b"\n")
            yield from enumerate(texts, number)
            number += len(texts)
            if len(rest) > _LONGEST:  # one that has its end or not
                yield number, rest
                return


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The file, and its size; if there is none, an empty one."""
    with reading(path):
        if not path.exists():
            yield io.BytesIO(), 0
            return
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _LARGEST:
                raise InputError(
                    f"{path} has {mib(size)}, more than the {mib(_LARGEST)} that it can have: move it away"
                )
            yield file, size


def _parsed(path: Path, number: int, text: bytes, *, after: int = -1) -> Line:
    try:
        line = _checked(text)
        if line["step"] <= after:
            raise ValueError(f"step {line['step']} comes after step {after}")
        return line
    except ValueError as error:
        raise InputError(f"{path}, line {number} is damaged ({first_line(error)}): remove it") from None


def _checked(text: bytes) -> Line:
    """
    Raises:
      ValueError: it is not an object of finite numbers with a step.
    """
    if len(text) >= _LONGEST:
        raise ValueError(f"longer than {_LONGEST:,} bytes")
    line = parse_json(text)
    if not isinstance(line, dict):
        raise ValueError("not an object")
    step = line.get("step")
    if type(step) is not int or not 0 <= step < _END:
        raise ValueError("without a step" if step is None else f"its step is {str(step)[:20]}")
    for name, value in line.items():
        if type(value) not in (int, float) or not -_MOST <= value <= _MOST:
            raise ValueError(f"{name[:20]!r} is not a finite number")
    return {name: value if name == "step" else float(value) for name, value in line.items()}


def _merged(*parts):
    by_step = {line["step"]: line for part in parts for line in part}
    return [by_step[step] for step in sorted(by_step)]
