"""A run from start to end: the folder, the data, the steps, and the handling of errors."""

import contextlib
import dataclasses
import functools
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
from dcgan_jax.data.sources import open_source
from dcgan_jax.data.store import Store, prepare
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.objectives import Objective
from dcgan_jax.gan.sampling import sample
from dcgan_jax.gan.state import (
    GANState,
    check_kinds,
    count_parameters,
    create_state,
)
from dcgan_jax.gan.step import train_step, train_steps
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.doctor import score
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import last_step
from dcgan_jax.system import cluster
from dcgan_jax.system.background import Background
from dcgan_jax.system.cache import cache_compilations, writable_cache
from dcgan_jax.system.errors import InputError, NonFiniteError, Stopped
from dcgan_jax.system.files import check_temporary, need_room
from dcgan_jax.system.signals import HeldSignals
from dcgan_jax.system.xla import random_key, usual_numbers

_FIRST_PICTURES = (25, 50, 100, 200)  # so that there is something to look at within a minute
_AT_ONCE = 25  # steps: sending them takes some ms, and a stop waits for two such groups


@usual_numbers()
def fit(
    config: Config,
    workdir: str | Path,
    *,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    objective: Objective | None = None,
) -> GANState:
    """Train, or go on training, the run in ``workdir`` until ``config.steps`` steps are taken.

    Uses all devices of all joined processes. In the main thread, SIGINT, SIGTERM and SIGHUP are held until a
    step is finished and saved.

    Args:
      config: the run. If the folder holds one already, all but ``MAY_CHANGE`` must be as it was.
      workdir: folder of the run; made if it does not exist. Only the first process writes there.
      generator: a network of your own, as for ``create_state``. Not stored with the run: give it when it resumes.
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
    check_temporary()
    folder = RunFolder(workdir)
    _check_devices(config)
    cache_compilations()
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(HeldSignals(forward=cluster.joined()))
        first = jax.process_index() == 0
        there = stack.enter_context(folder.held(config)) if first else None
        store = _open_store(config)
        stack.callback(store.close)
        cluster.agree({**dataclasses.asdict(config), "data": "", "images": store.digest})
        stack.enter_context(cluster.ending_together())
        checkpoints = None
        if first:
            _check_room(config, folder, networks)
            run = folder.begin(config, there, store)
            checkpoints = stack.enter_context(Checkpoints(folder, config, run))
        state, attempt = _newest(config, folder, checkpoints, networks, len(store))
        signals.hold()
        while True:
            try:
                return _train_from(state, attempt, config, folder, store, checkpoints, signals)
            except NonFiniteError as error:
                diverged = NonFiniteError(error.step, error.names)  # without the frames, which hold the state
            state, before = _newest(config, folder, checkpoints, networks, len(store))
            if attempt - before >= config.retries:
                raise NonFiniteError(diverged.step, diverged.names, _evidence(diverged, config))
            attempt += 1
            print(
                f"{diverged}: going back to step {int(cluster.local(state.step))} to try other noise "
                f"(retry {attempt - before} of {config.retries})",
                file=sys.stderr,
            )


def _open_store(config: Config) -> Store:
    cache = writable_cache()
    store = prepare(open_source(config, cache), config, cache)
    _check_count(config, store)
    if config.device_data:
        _check_memory(store)
    return store


def _newest(config, folder, checkpoints, networks, images):
    """The newest complete checkpoint, as the first process reads it, on all devices of all; else a new state."""
    state, attempt = create_state(config, images=images, **networks), 0
    if checkpoints:
        state, attempt = checkpoints.newest(state, logged=last_step(folder.metrics))
    state, attempt = cluster.from_first((state, attempt))
    return cluster.replicated(state), int(attempt)


def _train_from(state, attempt, config, folder, store, checkpoints, signals):
    # TensorFlow takes seconds to load: import it only after all checks.
    from dcgan_jax.data.pipeline import device_batches
    from dcgan_jax.metrics.monitor import LEAST, Monitor
    from dcgan_jax.run.log import RunLog, say
    from dcgan_jax.run.report import write_report

    start = int(cluster.local(state.step))
    noise_key, sample_key = jax.random.split(random_key(config.seed))
    if attempt:
        noise_key = jax.random.fold_in(noise_key, attempt)
    where = _where(jax.devices())

    @functools.cache
    def monitor():
        return Monitor(store, held_out_images=config.held_out)

    def draw():
        return sample(cluster.local(state), sample_key)

    with contextlib.ExitStack() as stack:
        log = None
        if checkpoints:
            log = stack.enter_context(RunLog(folder, config, start=start, images=len(store)))
            say(
                f"{len(store):,} images of {store.shape[1]}x{store.shape[2]}x{store.shape[3]} from {config.data}; "
                f"{count_parameters(state.generator.params):,} + {count_parameters(state.discriminator.params):,} "
                f"parameters on {where}"
            )
            if start:
                say(f"resuming from step {start} of {folder.path}")
            if start >= config.steps:
                say(f"nothing left to do: the run is at step {start}; a larger --steps extends it")
            log.reals(store.take(range(min(20, len(store)))))
            if start == 0:
                log.samples(0, draw())
        if start >= config.steps:
            return state
        behind = stack.enter_context(Background())
        record = _Record(log)
        images = device_batches(store, config, start=start, sharding=cluster.shardings()[1])
        pending, metrics, compiled, step = [], None, None, start
        at_most, fixed = _dispatched(config), config.deterministic
        while step < config.steps:
            previous, count = metrics, _until_something_is_due(step, config, at_most)
            if at_most > 1:
                some = list(itertools.islice(images, count))
                state, metrics = train_steps(state, some, noise_key, at_most=at_most, deterministic=fixed)
            else:
                state, metrics = train_step(state, next(images), noise_key, deterministic=fixed)
            pending.append((range(step + 1, step + count + 1), metrics))
            step += count
            jax.block_until_ready(previous)  # one dispatch ahead of the device, so that a stop waits for one
            if compiled is None:
                jax.block_until_ready(metrics)
                compiled, first = time.perf_counter(), step
            stop = cluster.stop_announced() if cluster.joined() else signals.received
            last = step == config.steps
            line = last or step % config.log_every == 0
            pictures = last or step % config.sample_every == 0 or step in _FIRST_PICTURES
            evaluated = config.evaluates(step) and len(store) >= LEAST
            saved = last or stop or evaluated or step % config.checkpoint_every == 0 or step % config.keep_every == 0
            if line or pictures or saved:
                behind.wait()
                if last:
                    jax.block_until_ready(metrics)
                seconds = time.perf_counter() - compiled
                rate = (step - first) * config.batch_size / seconds if step > first else None
                quality = monitor()(cluster.local(state)) if log and evaluated else {}
                behind.do(record, pending, line or evaluated, draw() if pictures else None, rate, quality)
                pending = []
            if saved:
                behind.wait()  # a resumed run does not log the steps before its checkpoint again
                copy = finite_copy(step, state)
                if log and checkpoints:
                    log.sync()
                    log.timing(step, rate)
                    checkpoints.save(step, copy, attempt, score(quality) if "kid" in quality else None)
            if log:
                log.advance(step)
            if stop and not last:
                if log:
                    log.progress(step, draw())
                message = f"stopped after step {step}, which is saved: the same command resumes from there"
                raise Stopped(signals.received or signal.SIGTERM, message)
        if checkpoints:
            checkpoints.wait()
    if log:
        for line in log.summary():
            print(line)
        write_report(folder, generator_params(cluster.local(state), num=1024))
        values = record.last
        print(
            f"loss_D {values['loss_D']:.3f}, loss_G {values['loss_G']:.3f}, "
            f"{f'{rate:.1f} examples/sec ' if rate else ''}on {where}",
            flush=True,
        )
    return state


def _dispatched(config):
    """How many steps at most are sent to the device at once. A resumed run must not change it: another number rounds
    differently."""
    on_cpu = jax.devices()[0].platform == "cpu"
    if config.dispatch == "single" or (config.dispatch == "auto" and on_cpu):
        return 1
    return max(count for count in range(1, _AT_ONCE + 1) if config.log_every % count == 0)


def _until_something_is_due(step, config, at_most):
    """How many steps can be taken after ``step`` before something is to be written, at most ``at_most``."""

    def due(end):
        intervals = config.log_every, config.sample_every, config.checkpoint_every, config.keep_every
        return end in _FIRST_PICTURES or config.evaluates(end) or any(end % interval == 0 for interval in intervals)

    ends = range(step + 1, min(step + at_most, config.steps) + 1)
    return next((end for end in ends if due(end)), ends[-1]) - step


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


class _Record:
    """Fetches the results of steps, and logs them.

    Attributes:
      last: the newest metrics.
    """

    def __init__(self, log):
        self._log = log
        self.last: dict[str, float] = {}

    def __call__(self, pending, line, images, rate, quality):
        """
        Raises:
          NonFiniteError: names the first step with a loss or gradient that is not finite.
        """
        for steps, metrics in jax.device_get(pending):
            for i, step in enumerate(steps):
                values = {name: float(np.atleast_1d(value)[i]) for name, value in metrics.items()}
                if bad := [name for name, value in values.items() if not math.isfinite(value)]:
                    raise NonFiniteError(step, bad)
                self.last = values
        if bad := [name for name, value in quality.items() if not math.isfinite(value)]:
            raise NonFiniteError(step, bad)
        if images is not None and not np.isfinite(images).all():
            raise NonFiniteError(step, ["images of the generator"])
        if self._log and line:
            self._log.metrics(step, {**values, **quality}, rate)
        if self._log and images is not None:
            self._log.samples(step, images)


def _check_room(config, folder, networks):
    shapes = jax.tree.leaves(jax.eval_shape(lambda: create_state(config, **networks)))
    need_room(folder.path, sum(x.size * x.dtype.itemsize for x in shapes), "a checkpoint")


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
            "leave out --device-data"
        )


def _check_devices(config):
    """NVIDIA GPUs support bfloat16 from compute capability 8.0; CPUs and TPUs all do."""
    devices = jax.devices()
    first = devices[0]
    if config.precision == "bf16" and first.platform == "gpu" and float(first.compute_capability) < 8:
        raise InputError(f"precision bf16 is not supported by {first.device_kind}: use --precision float32")
    if config.batch_size % len(devices):
        raise InputError(
            f"batch_size {config.batch_size} cannot be shared equally by {len(devices)} devices: "
            f"use a multiple of {len(devices)}"
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
