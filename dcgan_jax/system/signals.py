"""Ctrl-C, SIGTERM and a closed terminal, held until a step is finished."""

import contextlib
import os
import signal
import threading


class HeldSignals:
    """From ``hold`` to the end of the block a signal only sets ``received``; a Ctrl-C after that ends the process.

    A thread of its own does this: the interpreter hands signals to the main thread, which does not look
    while it compiles. A signal that was ignored before still is. Outside the main thread, where Python
    takes no signals, nothing changes.

    Attributes:
      received: the number of the first signal, or None.
    """

    def __init__(self, forward: bool = False):
        """
        Args:
          forward: SIGTERM is left to JAX, which tells the other processes of the run; other signals become one.
        """
        self.received: int | None = None
        self._forward = forward
        self._release = contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._release.close()

    def hold(self) -> None:
        """Take the signals, until the block ends."""
        if threading.current_thread() is not threading.main_thread():
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        thread = threading.Thread(target=self._watch, args=(reader,), name="signals")
        self._release.callback(os.close, reader)
        self._release.callback(thread.join)
        self._release.callback(os.close, writer)  # ends the thread
        for number in (signal.SIGINT, signal.SIGHUP, *(() if self._forward else (signal.SIGTERM,))):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._release.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        self._release.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
        thread.start()

    def _watch(self, reader):
        while number := os.read(reader, 1):
            number = ord(number)
            if self.received is None:
                self.received = number
                if self._forward:
                    os.kill(os.getpid(), signal.SIGTERM)
                _say("stopping: the step is finished and saved first; Ctrl-C stops at once")
            elif number == signal.SIGINT:
                _say("stopped at once: the same command resumes from the last checkpoint, if there is one")
                os._exit(128 + number)


def _say(message):
    with contextlib.suppress(OSError):  # Ctrl-C ends a program that reads our output, too
        os.write(2, f"\n{message}\n".encode())
