"""What a run makes of its steps, in an order in which nothing is lost."""

import math
import time

import jax
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.gan.sampling import sheet
from dcgan_jax.gan.state import GANState
from dcgan_jax.run.schedule import due
from dcgan_jax.run.writer import NoWriter
from dcgan_jax.system import cluster
from dcgan_jax.system.background import Background
from dcgan_jax.system.errors import NonFiniteError


class Results:
    """Checks the results of the steps, saves the state, and logs.

    An evaluation waits until the state is saved, and its line until it is measured; other lines are written while the
    checkpoint is. The checkpoint holds what its line needs: a run that was killed in between measures and logs at its
    next start.

    Args:
      attempt: how often the run was rolled back.
      key: draws the z of the pictures.
      measurable: whether there are enough images to compare with.
    """

    def __init__(self, config: Config, writer: NoWriter, *, attempt: int, key: jax.Array, measurable: bool):
        self._config, self._writer, self._attempt, self._key = config, writer, attempt, key
        self._measurable = measurable
        self._behind = Background()
        self._pending, self._last = [], {}
        self._first, self._compiled, self._rate = 0, 0.0, None

    def __enter__(self):
        self._behind.__enter__()
        return self

    def __exit__(self, *error):
        self._behind.__exit__(*error)

    def begin(self, step: int, state: GANState, unlogged: dict[str, float]) -> None:
        """Make what an interrupted run left undone after its last checkpoint.

        Args:
          unlogged: the metrics of the step, if the log has no line of them.
        """
        self._last = unlogged
        what = self._due(step)
        missing = (step == 0 or what.pictures) and self._writer.lacks_pictures(step)
        images = self._draw(state) if missing else None
        unmeasured = step == 0 and what.evaluation and self._writer.lacks_line(step)  # of the model it starts from
        self._record(step, state, what._replace(line=what.line and (bool(unlogged) or unmeasured)), images)

    def taken(self, steps: range, metrics: dict[str, jax.Array]) -> None:
        """Note the metrics of steps, which may still be computed."""
        self._pending.append((steps, metrics))
        if not self._compiled:
            self._compiled, self._first = time.perf_counter(), steps[-1]

    def after(self, step: int, state: GANState, *, stop: bool) -> None:
        """Do what is due after ``step``; save, if the run stops.

        Raises:
          NonFiniteError: names the first step with a loss or gradient that is not finite; or what in the state is not.
        """
        what = self._due(step)
        if any(what) or stop:
            self._behind.wait()
            self._time(step)
            images = self._draw(state) if what.pictures else None
            pending, self._pending = self._pending, []
            if what.checkpoint or stop:
                self._check(step, pending, images)
                copy = finite_copy(step, state)
                self._writer.checkpoint(step, copy, self._attempt, self._last, self._rate)
            if what.evaluation:
                self._writer.wait()  # what is measured has been saved
                if not stop:  # else the next start measures and logs it
                    self._record(step, state, what, images)
            elif what.checkpoint or stop:
                self._behind.do(self._record, step, None, what, images)
            else:
                self._behind.do(self._check_and_record, step, pending, what, images)
        self._writer.advance(step)

    def stopped(self, step: int, state: GANState) -> None:
        """Show the newest samples."""
        self._behind.wait()
        self._writer.show(step, self._draw(state))

    def end(self, state: GANState) -> None:
        """Say how the run ended, and write its report."""
        self._behind.wait()
        self._writer.end(state, self._last, self._rate)

    def _due(self, step):
        return due(step, self._config, measurable=self._measurable)

    def _time(self, step):
        if step == self._config.steps:
            jax.block_until_ready(self._pending[-1][1])
        seconds = time.perf_counter() - self._compiled
        self._rate = (step - self._first) * self._config.batch_size / seconds if step > self._first else None

    def _draw(self, state):
        return sheet(cluster.local(state), self._key)

    def _check_and_record(self, step, pending, what, images):
        self._check(step, pending, images)
        self._record(step, None, what, images)

    def _check(self, step, pending, images):
        for steps, metrics in jax.device_get(pending):
            for i, taken in enumerate(steps):
                values = {name: float(np.atleast_1d(value)[i]) for name, value in metrics.items()}
                if bad := [name for name, value in values.items() if not math.isfinite(value)]:
                    raise NonFiniteError(taken, bad)
                self._last = values
        if images is not None and not np.isfinite(images).all():
            raise NonFiniteError(step, ["images of the generator"])

    def _record(self, step, state, what, images):
        self._writer.record(step, state, what, self._last, images, self._rate)


def finite_copy(step: int, state: GANState) -> GANState:
    """Copy the state to NumPy arrays: the next step overwrites its memory.

    Raises:
      NonFiniteError: something in it is not finite. All processes raise it.
    """
    copy = jax.tree.map(np.array, cluster.local(state))
    for name, part in {**copy.networks, "ema": copy.ema}.items():
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(part)):
            raise NonFiniteError(step, [f"the state of the {name}"])
    return copy
