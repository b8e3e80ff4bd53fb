"""Ctrl-C and SIGTERM, held until a step is finished."""

import os
import signal
import threading


class HeldSignals:
    """Inside the block SIGINT and SIGTERM only set ``received``; a Ctrl-C after that ends the process at once.

    A thread of its own does this: the interpreter hands signals to the main thread, which does not
    look while it compiles or computes. A signal that was ignored before still is. Outside the main thread, where Python takes no signals, the
    block changes nothing.

    Args:
      forward: SIGTERM is left to JAX, which tells the other processes of the run; Ctrl-C becomes one.

    Attributes:
      received: the number of the first signal, or None.
    """

    def __init__(self, forward: bool = False):
        self.received: int | None = None
        self._held = (signal.SIGINT,) if forward else (signal.SIGINT, signal.SIGTERM)
        self._forward = forward

    def __enter__(self):
        self._active = threading.current_thread() is threading.main_thread()
        if self._active:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            taken = [number for number in self._held if signal.getsignal(number) != signal.SIG_IGN]
            self._handlers = {number: signal.signal(number, lambda *_: None) for number in taken}
            self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, name="signals")
            self._thread.start()
        return self

    def __exit__(self, *_):
        if self._active:
            signal.set_wakeup_fd(self._wakeup)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.close(self._writer)  # ends the thread
            self._thread.join()
            os.close(self._reader)

    def _watch(self):
        while number := os.read(self._reader, 1):
            number = ord(number)
            if self.received is None and number in self._held:
                self.received = number
                if self._forward:
                    os.kill(os.getpid(), signal.SIGTERM)
                os.write(2, b"\nstopping: the step is finished and saved first; Ctrl-C stops at once\n")
            elif number == signal.SIGINT:
                os.write(2, b"\nstopped at once: the same command goes on from the last checkpoint\n")
                os._exit(128 + number)
