"""Ctrl-C, SIGTERM and a closed terminal, held until a step is finished."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

_AT_ONCE = {signal.SIGTERM} | ({signal.SIGHUP} if hasattr(signal, "SIGHUP") else set())  # Windows has no SIGHUP
_HELD = {signal.SIGINT, *_AT_ONCE}


class HeldSignals:
    """From ``hold`` to the end of the block a signal only sets ``received``; a Ctrl-C after that ends the process.

    A separate thread does this: Python handles signals in the main thread, and not while that compiles. A
    signal that was ignored before still is. Outside the main thread, where Python handles no signals,
    nothing changes.

    In ``nothing_to_save`` SIGTERM and SIGHUP end the process at once.

    Attributes:
      received: the number of the first signal, or None.
    """

    def __init__(self, forward: bool = False):
        """Prepare; ``hold`` takes the signals.

        Args:
          forward: leave SIGTERM to JAX, which tells the other processes; send one for other signals.
        """
        self.received: int | None = None
        self._forward = forward
        self._free = False
        self._release = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._release.close()

    def hold(self) -> None:
        """Take the signals, until the block ends."""
        if threading.current_thread() is not threading.main_thread():
            return
        reader, writer = socket.socketpair()  # which, unlike a pipe, need not block on any system
        writer.setblocking(False)
        thread = threading.Thread(target=self._watch, args=(reader,), name="signals")
        self._release.callback(reader.close)
        self._release.callback(thread.join)
        self._release.callback(writer.close)  # ends the thread
        for number in _HELD - ({signal.SIGTERM} if self._forward else set()):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._release.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        self._release.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
        thread.start()

    @contextlib.contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """Let SIGTERM and SIGHUP end the process at once: in the block, which may compile for long, all that the run
        has is on the disk. Not Ctrl-C, which in a notebook must leave the variables, and not one of several processes.
        """
        self._free = not self._forward
        try:
            if self._free and self.received in _AT_ONCE:
                _end_at_once(self.received)
            yield
        finally:
            self._free = False

    def _watch(self, reader):
        while number := reader.recv(1):
            number = ord(number)
            if number not in _HELD:  # a handler of the script's own
                continue
            if self._free and number in _AT_ONCE:
                _end_at_once(number)
            if self.received is None:
                self.received = number
                if self._forward:
                    os.kill(os.getpid(), signal.SIGTERM)
                _say("stopping: the step is finished and saved first; Ctrl-C stops at once")
            elif number == signal.SIGINT:
                _say("stopped at once: the same command resumes from the last checkpoint, if there is one")
                os._exit(128 + number)


def _end_at_once(number):
    _say("stopped: nothing is lost, the same command goes on from here")
    os._exit(128 + number)


def _say(message):
    with contextlib.suppress(OSError):  # Ctrl-C also ends a program that reads our output
        os.write(2, f"\n{message}\n".encode())
