"""Progress on stderr: a bar in a terminal or a notebook, elsewhere a plain line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

SECONDS = 30.0
"""Between two plain lines. What takes less says nothing."""

T = TypeVar("T")


def kernel() -> bool:
    """Whether this is a notebook's process, which shows what is displayed."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it: it is never imported here
    return bool(getattr(ipython and ipython.get_ipython(), "kernel", None))  # which IPython in a terminal has not


def watched() -> bool:
    """Whether stderr is a terminal or a notebook, where a bar is drawn over and over at one place."""
    return bool(sys.stderr and sys.stderr.isatty()) or kernel()


def say_progress(what: str, *, left: int | None, per_second: float, unit: str = "img") -> None:
    """Write a plain line: the date and time, ``what`` is done, the speed, and how long the units that are left take."""
    speed = f", {per_second:,.1f} {unit}/s" if per_second > 0 else ""
    rest = f", {tqdm.format_interval(left / per_second)} left" if left is not None and per_second > 0 else ""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {what}{speed}{rest}", file=sys.stderr, flush=True)


def progress(
    items: Iterable[T], what: str, *, total: int | None = None, unit: str = "img", size: int = 1
) -> Iterator[T]:
    """Yield the items, and say how far it is.

    Args:
      what: is done, such as ``preparing images``.
      total: of all items together, in units, if it is known.
      size: how many units an item has; the last may have fewer.
    """
    if watched():
        none = total is not None and total <= size
        with tqdm(desc=what, total=total, unit=unit, unit_scale=True, dynamic_ncols=True, disable=none) as bar:
            for item in items:
                yield item
                bar.update(size if total is None else min(size, total - bar.n))
        return
    began = said = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if (now := time.monotonic()) - said >= SECONDS:
            said, done = now, number * size if total is None else min(number * size, total)
            left = None if total is None else total - done
            whole = "" if total is None else f" of {total:,}"
            say_progress(f"{what}: {done:,}{whole}", left=left, per_second=done / (now - began), unit=unit)
