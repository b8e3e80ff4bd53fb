"""What the processes of one run tell each other besides arrays, through the store of JAX's coordination service.

JAX has no public name for that store. Unlike its collectives it neither gives up after half a minute nor
hangs when one process has gone another way.
"""

import atexit
import contextlib
import itertools
import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from dcgan_jax.system.errors import InputError, LostPeerError, NonFiniteError, Stopped, first_line

_ENDED = "dcgan_jax/ended"
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 5
_FAREWELL_SECONDS = 5
_LOST = re.compile("gloo|nccl|coordination|heartbeat|barrier|connection|unavailable|deadline|peer", re.IGNORECASE)


def joined() -> bool:
    """Whether this is one of several processes. Does not import JAX."""
    distributed = getattr(sys.modules.get("jax"), "distributed", None)  # JAX may be half imported, at a signal
    return distributed is not None and distributed.is_initialized()


def _service():
    from jax._src import distributed

    return distributed.global_state


@contextlib.contextmanager
def lost_peers() -> Iterator[None]:
    """
    Raises:
      LostPeerError: what failed in the block is the connection to another process.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:  # JAX's collectives raise either
        if not joined() or not _LOST.search(str(error)):
            raise
        if _watch and _watch.leaving:
            _watch.join()
        raise LostPeerError(
            f"another process of the run was lost: {first_line(error)}. Start all of them again: "
            "they go on from the last checkpoint"
        ) from error


_rounds = itertools.count()


def exchange(value: Any) -> list:
    """What each process gives, in their order, when all have given it, however long one takes.

    All processes call it equally often.

    Args:
      value: anything that JSON can hold.

    Raises:
      LostPeerError: the service, which is process 0's, is gone.
    """
    if not joined():
        return [value]
    service = _service()
    name = f"dcgan_jax/exchange/{next(_rounds):06d}"
    with lost_peers():
        service.client.key_value_set(f"{name}/{service.process_id:06d}", json.dumps(value))
        patience = time.monotonic() + _PATIENCE_SECONDS
        while len(given := service.client.key_value_dir_get(name)) < service.num_processes:
            time.sleep(_POLL_SECONDS)
            if time.monotonic() > patience:
                patience = math.inf
                missing = set(range(service.num_processes)) - {int(entry.rpartition("/")[2]) for entry, _ in given}
                print(f"waiting for process {', '.join(map(str, sorted(missing)[:8]))}", file=sys.stderr)
    return [json.loads(text) for _, text in sorted(given)]


def agree(what: dict[str, Any]) -> None:
    """Wait for all processes, and compare.

    Raises:
      InputError: they differ; names in what.
    """
    values = exchange(what)
    for name in what:
        if any(value[name] != what[name] for value in values):
            theirs = ", ".join(f"{value[name]!r} in process {process}" for process, value in enumerate(values[:8]))
            raise InputError(f"the processes of the run differ in {name}: {theirs}")


def start_together() -> None:
    """Open the connections of the collectives, which all processes have to do within half a minute, and
    from here on let a SIGTERM to one process be known to all.

    Until then SIGTERM does in this process what Python was told to do.
    """
    if joined():
        import jax
        from jax.experimental import multihost_utils

        if _service().preemption_sync_manager is None:
            jax.config.update("jax_enable_preemption_service", True)
            _service().initialize_preemption_sync_manager()
        multihost_utils.sync_global_devices("dcgan_jax start")


_asked = itertools.count()
_stopping = False


def stop_announced() -> bool:
    """Whether all processes stop after this step, or after one before, because one of them was sent SIGTERM.

    To be asked by each process that has joined, after each step.
    """
    from jax.experimental import multihost_utils

    global _stopping
    # JAX counts from 0 and never back, as a run that is resumed or rolled back does not. It says so once.
    _stopping = multihost_utils.reached_preemption_sync_point(next(_asked)) or _stopping
    return _stopping


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Wait for all processes at the end of a block that they end in the same way: one of them may fail there.

    Raises:
      LostPeerError: one of them did not come.
    """
    try:
        yield
    except (NonFiniteError, Stopped):
        exchange("end")
        raise
    exchange("end")


class _Watch(threading.Thread):
    """Ends this process as another one has ended that could not go on: with its words and its exit code.

    The main thread may be in a collective then that will never end.

    Attributes:
      leaving: it is about to.
    """

    def __init__(self):
        super().__init__(name="peers", daemon=True)
        self._service = _service()
        self._over = threading.Event()
        self.leaving = False
        self.start()
        atexit.register(self.stop)  # before JAX disconnects

    def run(self):
        while not self._over.wait(_POLL_SECONDS):
            try:
                ended = self._ended()
            except RuntimeError:  # the service is gone: the collectives, or JAX, end this process
                return
            if ended:
                self.leaving = True
                process = min(ended)
                code, message = ended[process]
                print(f"\nprocess {process} ended the run: {message}", file=sys.stderr)
                self._tell(code, message)
                _exit(code)

    def stop(self):
        self._over.set()
        self.join()

    def farewell(self, code, message):
        """Stop, and tell the others."""
        self.stop()
        self._tell(code, message)

    def _ended(self):
        entries = self._service.client.key_value_dir_get(_ENDED)
        return {int(name.rpartition("/")[2]): json.loads(text) for name, text in entries}

    def _tell(self, code, message):
        """Returns when all know: JAX aborts those that are still there when process 0, and the service, goes."""
        service, end = self._service, time.monotonic() + _FAREWELL_SECONDS
        with contextlib.suppress(RuntimeError):  # no service any more, and nobody to tell
            service.client.key_value_set(f"{_ENDED}/{service.process_id}", json.dumps([code, message]), allow_overwrite=True)
            while len(self._ended()) < service.num_processes and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
        if service.process_id == 0:
            time.sleep(1)


_watch: _Watch | None = None


def watch() -> None:
    """From now on end when another process calls ``leave``."""
    global _watch
    _watch = _Watch()


def leave(code: int, message: str, together: bool) -> NoReturn:
    """Exit with ``code``: ``together`` with the other processes, who end in the same way by themselves, or
    at once, and they with the same code and message."""
    if joined() and not together:
        for number in (signal.SIGINT, signal.SIGTERM):  # asked again, not to wait for the others
            signal.signal(number, lambda number, _: os._exit(128 + number))
        if _watch:
            _watch.farewell(code, message)
        _exit(code)
    raise SystemExit(code)


def _exit(code):
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
