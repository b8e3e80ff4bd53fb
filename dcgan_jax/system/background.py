"""One thread for what the main one need not wait for."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Background:
    """Does one job after another, while the block goes on."""

    def __init__(self):
        self._thread = ThreadPoolExecutor(1, "background")
        self._job: Future | None = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._thread.shutdown()

    def do(self, function: Callable, *args) -> None:
        """Begin a job. The one before must have been waited for."""
        self._job = self._thread.submit(function, *args)

    def wait(self) -> None:
        """Return when the job is done, or raise what it raised, once."""
        job, self._job = self._job, None
        if job is not None:
            job.result()
