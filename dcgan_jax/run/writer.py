"""All that a run writes and says. The first process of a run has a ``Writer``, the others a ``NoWriter``."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data.store import Store
from dcgan_jax.gan import conv_amx
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.state import GANState, count_parameters
from dcgan_jax.metrics.monitor import Monitor
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.doctor import score
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import last_step, line_of
from dcgan_jax.run.init import Start, say_start, write_record
from dcgan_jax.run.schedule import Due
from dcgan_jax.system import amx, cluster
from dcgan_jax.system.errors import extra
from dcgan_jax.system.signals import HeldSignals

OnLog = Callable[[int, dict[str, float], np.ndarray | None], None]
"""``on_log(step, metrics, images)``: see ``fit``."""


class NoWriter:
    """Writes nothing: what ``Writer`` is to the processes of a run but the first."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def newest(self, state: GANState) -> tuple[GANState, int, dict[str, float]]:
        """The newest complete checkpoint, else ``state``: see ``Checkpoints.newest``.

        A run that starts from a model saves its first state, and does not need the model any more.
        """
        return state, 0, {}

    @contextlib.contextmanager
    def log(self, start: int, state: GANState) -> Iterator[None]:
        """Open the log of steps after ``start``, and say what is trained."""
        yield

    def lacks_pictures(self, step: int) -> bool:
        """Whether those of the step, which are due, were not drawn before the run was interrupted."""
        return False

    def lacks_line(self, step: int) -> bool:
        """Whether the log has no line of the step."""
        return False

    def advance(self, step: int) -> None:
        """Show that the step is taken."""

    def checkpoint(
        self, step: int, state: GANState, attempt: int, values: dict[str, float], images_per_second: float | None
    ) -> None:
        """Begin a checkpoint of the state, which is one of NumPy arrays: see ``Checkpoints.save``."""

    def wait(self) -> None:
        """Wait until the checkpoint is on the disk."""

    def record(
        self,
        step: int,
        state: GANState | None,
        due: Due,
        values: dict[str, float],
        images: jax.Array | None,
        images_per_second: float | None,
    ) -> None:
        """Measure the state, if that is due, write the line of the step and its pictures, and hand them on.

        Evaluations and pictures are extras: when one fails, this is said, and the run goes on.
        """

    def show(self, step: int, images: jax.Array) -> None:
        """Draw the newest samples (N, H, W, C) in [-1, 1] below the curves."""

    def end(self, state: GANState, values: dict[str, float], images_per_second: float | None) -> None:
        """Say how the run ended, and write its report if there is none of this state."""


class Writer(NoWriter):
    """Writes the folder of a run: log, pictures, checkpoints, evaluations and report."""

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        store: Store,
        *,
        run: str,
        signals: HeldSignals,
        on_log: OnLog | None = None,
        start: Start | None = None,
    ):
        self._folder, self._config, self._store = folder, config, store
        self._signals, self._on_log, self._start = signals, on_log, start
        self._checkpoints = Checkpoints(folder, config, run)
        self._log: Any = None
        self._monitor = None

    def __enter__(self):
        from dcgan_jax.run.log import save_reals

        self._checkpoints.__enter__()
        with extra("samples/reals.png"):  # now: compiling may take a while
            save_reals(self._folder, self._config, self._store)
        return self

    def __exit__(self, *error):
        self._checkpoints.__exit__(*error)

    def newest(self, state):
        if self._start and not self._folder.complete_steps():
            write_record(self._folder, self._start.record)
            state = self._start.state(state)
            self._checkpoints.save(0, jax.tree.map(np.array, state), 0, {})
            self.wait()
            return state, 0, {}
        return self._checkpoints.newest(state, logged=last_step(self._folder.metrics))

    @contextlib.contextmanager
    def log(self, start, state):
        from dcgan_jax.run.log import RunLog, say  # matplotlib takes a while to load: only after all checks

        with RunLog(self._folder, self._config, start=start, images=len(self._store)) as self._log:
            for line in self._greeting(start, state):
                say(line)
            yield

    def _greeting(self, start, state):
        height, width, channels = self._store.shape[1:]
        classes = f" in {len(self._store.classes)} classes" * self._config.conditional
        yield (
            f"{len(self._store):,} images of {height}x{width}x{channels}{classes} from {self._config.data}; "
            f"{' + '.join(f'{count_parameters(network.params):,}' for network in state.networks.values())} "
            f"parameters on {_devices()}"
        )
        config = self._config
        units = amx.here() and conv_amx.fit(config.batch_size, config.outer_width)
        if units and not start and config.precision == "float32":
            yield "a new run with --precision bf16 may take half the time on this CPU, which has matrix units for it"
        if self._config.init and not start:
            yield from say_start(self._folder)
        if start:
            yield f"resuming from step {start} of {self._folder.path}"
            if began := self._log.other_arithmetic():
                yield f"the run began with {began}: it goes on, but not bit for bit as it would with that"
        if start >= self._config.steps:
            yield f"nothing left to do: the run is at step {start}; a larger --steps extends it"

    def lacks_pictures(self, step):
        return step == 0 or not self._folder.grid(step).exists() or not self._folder.progress.exists()

    def lacks_line(self, step):
        return line_of(self._folder.metrics, step) is None

    def advance(self, step):
        self._log.advance(step)

    def checkpoint(self, step, state, attempt, values, images_per_second):
        self._log.sync()
        self._log.timing(step, images_per_second)
        self._checkpoints.save(step, state, attempt, values)

    def wait(self):
        self._checkpoints.wait()

    def record(self, step, state, due, values, images, images_per_second):
        line = {}
        if due.line:
            line = {**values, **(self._measured(step, state) if due.evaluation else {})}
        if line:
            self._log.metrics(step, line, images_per_second)
        sheet = None
        if images is not None:
            with extra(f"samples/{self._folder.grid(step).name} or progress.png"):
                sheet = self._log.samples(step, images)
        if self._on_log and (line or sheet is not None):
            self._on_log(step, line, sheet)

    def _measured(self, step, state):
        quality = {}
        with extra(f"the evaluation of step {step}"), self._signals.nothing_to_save():
            if not self._folder.try_measuring(step):
                raise RuntimeError("it has ended the run several times, and is left out")
            try:
                config = self._config
                self._monitor = self._monitor or Monitor(
                    self._store, held_out_images=config.held_out, conditional=config.conditional
                )
                quality = self._monitor(cluster.local(state))
            finally:  # a process that is killed in it leaves the note
                self._folder.measured()
            if "kid" in quality:
                self._checkpoints.scored(step, score(quality))
        return quality

    def show(self, step, images):
        with extra("progress.png"):
            self._log.progress(step, images)

    def end(self, state, values, images_per_second):
        for line in self._log.summary():
            print(line)
        with extra("report.html"), self._signals.nothing_to_save():
            if not self._folder.is_reported():
                from dcgan_jax.run.report import write_report

                write_report(self._folder, generator_params(cluster.local(state), num=1024))
        if values:
            speed = f"{images_per_second:.1f} examples/sec " if images_per_second else ""
            print(f"loss_D {values['loss_D']:.3f}, loss_G {values['loss_G']:.3f}, {speed}on {_devices()}", flush=True)


def _devices() -> str:
    devices = jax.devices()
    name = f"{devices[0].platform}:{devices[0].id}"
    return name if len(devices) == 1 else f"{name} and {len(devices) - 1} more"
