"""A run from start to end: the folder, the data, the steps, and the handling of errors."""

import contextlib
import dataclasses
import itertools
import math
import signal
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data.pipeline import device_batches, feeder
from dcgan_jax.data.store import Store, open_store
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.objectives import Objective
from dcgan_jax.gan.sampling import sample
from dcgan_jax.gan.state import (
    GANState,
    check_kinds,
    count_parameters,
    create_state,
    with_names,
)
from dcgan_jax.gan.step import train_step, train_steps
from dcgan_jax.metrics.monitor import LEAST, Monitor
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.doctor import score
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import last_step
from dcgan_jax.run.schedule import due, steps_until_due
from dcgan_jax.system import cluster
from dcgan_jax.system.background import Background
from dcgan_jax.system.cache import cache_compilations, keep_compiled
from dcgan_jax.system.errors import InputError, NonFiniteError, Stopped, extra
from dcgan_jax.system.files import check_temporary, need_room
from dcgan_jax.system.signals import HeldSignals
from dcgan_jax.system.xla import random_key, usual_numbers

_AT_ONCE = 25  # steps: sending them takes some ms, and a stop waits for two such groups


@usual_numbers()
def fit(
    config: Config,
    workdir: str | Path,
    *,
    generator: nn.Module | str | None = None,
    discriminator: nn.Module | str | None = None,
    objective: Objective | str | None = None,
) -> GANState:
    """Train, or go on training, the run in ``workdir`` until ``config.steps`` steps are taken.

    Uses all devices of all joined processes. In the main thread, SIGINT, SIGTERM and SIGHUP are held until a
    step is finished and saved; SIGTERM and SIGHUP end the process at once while there is nothing to save: until the
    first step is taken, in evaluations, and while the report is written.

    Args:
      config: the run. If the folder holds one already, all but ``MAY_CHANGE`` must be as it was.
      workdir: folder of the run; made if it does not exist. Only the first process writes there.
      generator: a network of your own, as for ``create_state``. Its name, "package.module:Name", is stored with the
        run, as ``Config.generator``, and found again. The object itself is not: give it again to all that takes a run.
      discriminator: likewise.
      objective: losses of your own in place of ``config.loss``, likewise; another one at resume is not noticed.

    Returns:
      The final state.

    Raises:
      InputError: bad data or folder, and nothing was written to the run folder; or no space on the
        disk, and the last checkpoint is complete.
      NonFiniteError: training diverged, with ``config.retries`` other noise streams too.
      Stopped: a signal came; the step is saved. Several processes can only end after this or an error.
    """
    networks = {"generator": generator, "discriminator": discriminator, "objective": objective}
    check_kinds(config, **networks)
    config, networks = with_names(config, networks)
    shapes = jax.eval_shape(lambda: create_state(config, **networks))  # refuses bad networks before the images are read
    check_temporary()
    feeder(config)  # or none
    folder = RunFolder(workdir)
    _check_devices(config)
    cache_compilations()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(HeldSignals(forward=cluster.joined()))
        first = jax.process_index() == 0
        there = stack.enter_context(folder.held(config)) if first else None
        store = _opened(config)
        stack.callback(store.close)
        cluster.agree({**dataclasses.asdict(config), "data": "", "images": store.digest})
        stack.enter_context(cluster.ending_together())
        checkpoints = None
        if first:
            need_room(folder.path, sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes)), "a checkpoint")
            run = folder.begin(config, there, store)
            checkpoints = stack.enter_context(Checkpoints(folder, config, run))
        signals.hold()
        with signals.nothing_to_save():
            state, attempt, unlogged = _newest(config, folder, checkpoints, networks, len(store))
        if signals.received and not cluster.joined():
            raise KeyboardInterrupt(signals.received)
        while True:
            try:
                return _train_from(state, attempt, unlogged, config, folder, store, checkpoints, signals)
            except NonFiniteError as error:
                diverged = NonFiniteError(error.step, error.names)  # without the frames, which hold the state
            state, before, unlogged = _newest(config, folder, checkpoints, networks, len(store))
            if attempt - before >= config.retries:
                raise NonFiniteError(diverged.step, diverged.names, _evidence(diverged, config))
            attempt += 1
            print(
                f"{diverged}: going back to step {int(cluster.local(state.step))} to try other noise "
                f"(retry {attempt - before} of {config.retries})",
                file=sys.stderr,
            )


def _opened(config: Config) -> Store:
    store = open_store(config)
    _check_count(config, store)
    if config.device_data:
        _check_memory(store)
    return store


def _newest(config, folder, checkpoints, networks, images):
    """The newest complete checkpoint, as the first process reads it, on all devices of all; else a new state.

    Also how often the run was rolled back, and the metrics of the step, if the log has no line of them.
    """
    state, attempt, unlogged = create_state(config, images=images, **networks), 0, {}
    if checkpoints:
        state, attempt, unlogged = checkpoints.newest(state, logged=last_step(folder.metrics))
    state, attempt = cluster.from_first((state, attempt))
    return cluster.replicated(state), int(attempt), unlogged


def _train_from(state, attempt, unlogged, config, folder, store, checkpoints, signals):
    from dcgan_jax.run.log import RunLog  # matplotlib takes a while to load: only after all checks

    start = int(cluster.local(state.step))
    noise_key, sample_key = jax.random.split(random_key(config.seed))
    if attempt:
        noise_key = jax.random.fold_in(noise_key, attempt)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(RunLog(folder, config, start=start, images=len(store))) if checkpoints else None
        results = stack.enter_context(_Results(config, folder, store, checkpoints, log, signals, attempt, sample_key))
        with signals.nothing_to_save():
            results.begin(start, state, unlogged)
        if start < config.steps:
            state = _train(state, start, noise_key, config, store, results, signals)
        if checkpoints:
            checkpoints.wait()
    results.end(state)
    return state


def _train(state, step, noise_key, config, store, results, signals):
    images = device_batches(store, config, start=step, sharding=cluster.shardings()[1])
    metrics, at_most, compiling = None, _dispatched(config), signals.nothing_to_save()
    while step < config.steps:
        previous, count = metrics, steps_until_due(step, config, at_most)
        with compiling:
            state, metrics = _advanced(state, images, noise_key, count, at_most, config)
            jax.block_until_ready(metrics if previous is None else previous)  # a stop waits for one dispatch
        if previous is None:
            keep_compiled()
            compiling = contextlib.nullcontext()
        step += count
        results.taken(range(step - count + 1, step + 1), metrics)
        stop = cluster.stop_announced() if cluster.joined() else signals.received
        results.after(step, state, stop)
        if stop and step < config.steps:
            results.stopped(step, state)
            message = f"stopped after step {step}, which is saved: the same command resumes from there"
            raise Stopped(signals.received or signal.SIGTERM, message)
    return state


def _advanced(state, images, key, count, at_most, config):
    """The state after ``count`` more steps, and their metrics."""
    if at_most > 1:
        batches = list(itertools.islice(images, count))
        return train_steps(state, batches, key, at_most=at_most, deterministic=config.deterministic)
    return train_step(state, next(images), key, deterministic=config.deterministic)


def _dispatched(config):
    """How many steps at most are sent to the device at once. A resumed run must not change it: another number rounds
    differently."""
    on_cpu = jax.devices()[0].platform == "cpu"
    if config.dispatch == "single" or (config.dispatch == "auto" and on_cpu):
        return 1
    return max(count for count in range(1, _AT_ONCE + 1) if config.log_every % count == 0)


def finite_copy(step, state):
    """Copy the state to NumPy arrays: the next step overwrites its memory.

    Raises:
      NonFiniteError: something in it is not finite. All processes raise it.
    """
    copy = jax.tree.map(np.array, cluster.local(state))
    for name in ("generator", "discriminator", "ema"):
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(getattr(copy, name))):
            raise NonFiniteError(step, [f"the state of the {name}"])
    return copy


class _Results:
    """What a run makes of its steps, in an order in which nothing is lost.

    The results of the steps are checked, then the state is saved, then it is measured, and then the line of the log is
    written. The checkpoint holds what the line needs: a run that was killed in between measures and logs at its next
    start. Evaluations, pictures and the report are extras: when one fails, this is said, and the run goes on.

    Args:
      log: as ``checkpoints``, of the first process alone.
    """

    def __init__(self, config, folder, store, checkpoints, log, signals, attempt, sample_key):
        self._config, self._folder, self._store, self._signals = config, folder, store, signals
        self._checkpoints, self._log, self._attempt, self._key = checkpoints, log, attempt, sample_key
        self._behind = Background()
        self._pending, self._last = [], {}
        self._where = _where(jax.devices())
        self._first, self._compiled, self._rate = 0, 0.0, None
        self._monitor = None

    def __enter__(self):
        self._behind.__enter__()
        return self

    def __exit__(self, *error):
        self._behind.__exit__(*error)

    def begin(self, start, state, unlogged):
        """Say what is trained, and make what an interrupted run left undone after its last checkpoint.

        Args:
          unlogged: the metrics of the step ``start``, if the log has no line of them.
        """
        if not self._log:
            return
        from dcgan_jax.run.log import say

        config, store = self._config, self._store
        say(
            f"{len(store):,} images of {store.shape[1]}x{store.shape[2]}x{store.shape[3]} from {config.data}; "
            f"{count_parameters(state.generator.params):,} + {count_parameters(state.discriminator.params):,} "
            f"parameters on {self._where}"
        )
        if start:
            say(f"resuming from step {start} of {self._folder.path}")
        if start >= config.steps:
            say(f"nothing left to do: the run is at step {start}; a larger --steps extends it")
        with extra("samples/reals.png"):
            self._log.reals(store.take(range(min(20, len(store)))))
        self._last = unlogged
        what = self._due(start)
        missing = not self._folder.grid(start).exists() or not self._folder.progress.exists()
        images = self._draw(state) if start == 0 or (what.pictures and missing) else None
        self._record(start, state, what._replace(line=what.line and bool(unlogged)), images)

    def taken(self, steps, metrics):
        """Note the metrics of steps, which may still be computed."""
        self._pending.append((steps, metrics))
        if not self._compiled:
            self._compiled, self._first = time.perf_counter(), steps[-1]

    def after(self, step, state, stop):
        """Do what is due after ``step``; save, if the run stops.

        Raises:
          NonFiniteError: names the first step with a loss or gradient that is not finite; or what in the state is not.
        """
        what = self._due(step)
        if any(what) or stop:
            self._behind.wait()
            if step == self._config.steps:
                jax.block_until_ready(self._pending[-1][1])
            seconds = time.perf_counter() - self._compiled
            self._rate = (step - self._first) * self._config.batch_size / seconds if step > self._first else None
            images = self._draw(state) if what.pictures else None
            pending, self._pending = self._pending, []
            if what.checkpoint or stop:
                self._check(step, pending, images)
                self._save(step, state)
                if what.evaluation and self._checkpoints:
                    self._checkpoints.wait()  # what is measured has been saved
                    if not stop:  # else the next start measures and logs it
                        self._record(step, state, what, images)
                else:
                    self._behind.do(self._record, step, None, what, images)
            else:
                self._behind.do(self._check_and_record, step, pending, what, images)
        if self._log:
            self._log.advance(step)

    def stopped(self, step, state):
        """Show the newest samples."""
        self._behind.wait()
        if self._log:
            with extra("progress.png"):
                self._log.progress(step, self._draw(state))

    def end(self, state):
        """Say how the run ended, and write its report if there is none of this state."""
        self._behind.wait()
        if not self._log:
            return
        for line in self._log.summary():
            print(line)
        with extra("report.html"), self._signals.nothing_to_save():
            if not self._folder.is_reported():
                from dcgan_jax.run.report import write_report

                write_report(self._folder, generator_params(cluster.local(state), num=1024))
        if values := self._last:
            print(
                f"loss_D {values['loss_D']:.3f}, loss_G {values['loss_G']:.3f}, "
                f"{f'{self._rate:.1f} examples/sec ' if self._rate else ''}on {self._where}",
                flush=True,
            )

    def _due(self, step):
        return due(step, self._config, measurable=len(self._store) >= LEAST)

    def _draw(self, state):
        return sample(cluster.local(state), self._key)

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

    def _save(self, step, state):
        copy = finite_copy(step, state)
        if self._log and (checkpoints := self._checkpoints):
            self._log.sync()
            self._log.timing(step, self._rate)
            checkpoints.save(step, copy, self._attempt, self._last)

    def _record(self, step, state, what, images):
        """Measure the state, if that is due, and write the line of the step and its pictures."""
        if not self._log:
            return
        if what.line:
            quality = self._measured(step, state) if what.evaluation else {}
            self._log.metrics(step, {**self._last, **quality}, self._rate)
        if images is not None:
            with extra(f"samples/{self._folder.grid(step).name} or progress.png"):
                self._log.samples(step, images)

    def _measured(self, step, state):
        quality = {}
        with extra(f"the evaluation of step {step}"), self._signals.nothing_to_save():
            if not self._folder.try_measuring(step):
                raise RuntimeError("it has ended the run several times, and is left out")
            try:
                self._monitor = self._monitor or Monitor(self._store, held_out_images=self._config.held_out)
                quality = self._monitor(cluster.local(state))
            finally:  # only when the process ends in it, it stays
                self._folder.measured()
            if "kid" in quality:
                self._checkpoints.scored(step, score(quality))
        return quality


def _check_count(config, store):
    if len(store) - store.copies < 2:
        only = "one picture" if len(store) == 1 else f"{len(store)} copies of one picture"
        raise InputError(
            f"{config.data} holds {only}, but a network learns what many pictures have in common: give some hundred"
        )


def _check_memory(store):
    """Half of a device's memory is for training. CPUs do not say how much they have."""
    size, device = math.prod(store.shape), jax.local_devices()[0]
    room = (device.memory_stats() or {}).get("bytes_limit", math.inf) / 2
    if size > room:
        raise InputError(
            f"the {size / 1e6:.0f} MB of images do not fit into {room / 1e6:.0f} MB, half the memory of {device}: "
            "give --no-device-data"
        )


def _check_devices(config):
    """NVIDIA GPUs support bfloat16 from compute capability 8.0; CPUs and TPUs all do."""
    devices = jax.devices()
    first = devices[0]
    if config.precision == "bf16" and first.platform == "gpu" and float(first.compute_capability) < 8:
        raise InputError(
            f"precision bf16 is not supported by {first.device_kind}: start a new run with --precision float32"
        )
    if config.batch_size % len(devices):
        raise InputError(
            f"batch_size {config.batch_size} cannot be shared equally by {len(devices)} devices: "
            f"use a multiple of {len(devices)}, or fewer devices"
        )


def _where(devices) -> str:
    name = f"{devices[0].platform}:{devices[0].id}"
    return name if len(devices) == 1 else f"{name} and {len(devices) - 1} more"


def _evidence(error, config) -> str:
    """Why a run is given up, and what to try."""
    return (
        f"{error}; gave up after {config.retries} retries with other noise\n"
        f"  learning rate {config.learning_rate:g}, beta1 {config.beta1:g}, precision {config.precision}\n"
        "  the saved checkpoints are finite; try a lower --learning-rate in another --workdir"
    )
