"""Keeping from stderr what Orbax says besides its exceptions: its logs, and what its threads, tasks and
callbacks report of the same failure, hundreds of lines."""

import contextlib
import gc
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator

from dcgan_jax.system.errors import InputError


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Inside the block Orbax says by exception what goes wrong, and no more. Not for nesting or threads."""

    def unless_orbax(hook):
        return lambda seen: None if _passes_orbax(seen) else hook(seen)

    loggers = [logger for name in ("absl", "asyncio") if not (logger := logging.getLogger(name)).disabled]
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook, sys.unraisablehook = map(unless_orbax, hooks)
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    except InputError as error:
        settle()
        cause = error
        while cause:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__context__
        raise
    finally:
        gc.collect()  # abandoned tasks report when they are collected
        threading.excepthook, sys.unraisablehook = hooks
        for logger in loggers:
            logger.disabled = False


def settle() -> None:
    """Wait for the reads and writes still under way: they report when they end."""
    time.sleep(1)


def _passes_orbax(seen) -> bool:
    frames = traceback.walk_tb(seen.exc_traceback or getattr(seen.exc_value, "__traceback__", None))
    places = [frame.f_code.co_filename for frame, _ in frames] + [repr(getattr(seen, "object", None))]
    return any(name in place for place in places for name in ("orbax", "asyncio", "_read_array", "async_"))
