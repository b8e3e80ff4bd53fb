"""A run from start to end: the folder, the data, the steps, and what is done when something goes wrong."""

import contextlib
import dataclasses
import math
import re
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np

from dcgan_jax.system import cluster
from dcgan_jax.system import peers
from dcgan_jax.system.cache import cache_compilations, cache_folder
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.config import Config
from dcgan_jax.data.sources import open_source
from dcgan_jax.data.store import prepare
from dcgan_jax.system.errors import InputError, NonFiniteError, Stopped
from dcgan_jax.system.files import need_room, user_path, writing
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import sample
from dcgan_jax.system.signals import HeldSignals
from dcgan_jax.gan.state import create_state, generator_params
from dcgan_jax.gan.step import train_step
from dcgan_jax.run.folder import check_workdir, run_folder


def train(config: Config, workdir: str | Path):
    """Train, or go on training, the run in ``workdir`` until ``config.steps`` steps are taken.

    On all devices that JAX has, of all processes that were joined. In the main thread, SIGINT and
    SIGTERM are held until a step is finished and saved.

    Args:
      config: the run. If the folder holds one already, all but ``MAY_CHANGE`` must be as it was.
      workdir: folder of the run; made if it does not exist. Processes share it.

    Returns:
      The final ``GANState``.

    Raises:
      InputError: bad data or folder, and nothing was written to the run folder; or no room to write,
        and the last checkpoint is whole.
      NonFiniteError: training diverged, with ``config.retries`` other noise streams too.
      Stopped: a signal came; the step is saved. Of several processes all stop, and can only end then.
      LostPeerError: another process of the run has ended.
    """
    workdir = user_path(workdir)
    check_workdir(config, workdir)
    _check_devices(config)
    cache = cache_folder()
    cache_compilations()
    source = open_source(config, cache)
    _check_count(config, source.count)
    store = prepare(source, config, cache)
    _check_count(config, len(store))
    shapes = jax.tree.leaves(jax.eval_shape(lambda: create_state(config)))
    need_room(workdir, sum(x.size * x.dtype.itemsize for x in shapes), "a checkpoint")

    with peers.lost_peers():
        peers.agree({**dataclasses.asdict(config), "images": store.digest, "number of devices": jax.local_device_count()})
    with contextlib.ExitStack() as stack:
        stack.enter_context(peers.ending_together())
        stack.enter_context(peers.lost_peers())
        signals = stack.enter_context(HeldSignals(forward=peers.joined()))
        stack.enter_context(run_folder(config, workdir, store))
        checkpoints = stack.enter_context(Checkpoints(workdir, config))
        stack.enter_context(peers.lost_peers())  # also here: Checkpoints does not wait for whom is lost
        state, attempt, _ = checkpoints.latest(create_state(config))
        signals.hold()
        with writing(workdir):
            peers.start_together()
            while True:
                state = cluster.replicated(state)
                try:
                    return _train_from(state, attempt, config, workdir, store, checkpoints, signals)
                except NonFiniteError as error:
                    # Not to where an interruption saved: a run that nothing disturbed could not go back there.
                    state, before, damaged = checkpoints.latest(create_state(config), due=True)
                    if damaged:  # then to where it was whole, first, and by the noise of that time
                        attempt, how = before, "with the same noise"
                    elif attempt - before < config.retries:
                        attempt += 1
                        how = f"with other noise ({attempt - before} of {config.retries} times)"
                    else:
                        raise NonFiniteError(error.step, error.names, _evidence(error, config)) from error
                    checkpoints.drop_after(int(state.step))
                    print(f"{error}: going back to step {int(state.step)} and on {how}", file=sys.stderr)


def _train_from(state, attempt, config, workdir, store, checkpoints, signals):
    # TensorFlow takes seconds to load: not before all that can be refused has been.
    from dcgan_jax.data.pipeline import device_batches
    from dcgan_jax.run.log import NoLog, RunLog

    start = int(state.step)
    noise_key, sample_key = jax.random.split(jax.random.key(config.seed))
    if attempt:
        noise_key = jax.random.fold_in(noise_key, attempt)
    first_process = jax.process_index() == 0
    where = _where(jax.devices())

    def open_log():
        if not first_process:
            return NoLog()
        return RunLog(workdir, start=start, steps=config.steps, batch_size=config.batch_size)

    def draw():
        return sample(cluster.local(generator_params(state)), sample_key)

    with open_log() as log:
        log.say(
            f"{len(store):,} images of {store.shape[1]}x{store.shape[2]}x{store.shape[3]} from {config.data}; "
            f"{_count(state.generator):,} + {_count(state.discriminator):,} parameters on {where}"
        )
        if start:
            log.say(f"going on from step {start} of {workdir}")
        if start >= config.steps:
            log.say(f"nothing left to do: the run has its {config.steps} steps; --steps N extends it")
            return state
        log.reals(store.take(range(min(20, len(store)))))
        if start == 0:
            log.samples(0, draw())

        late, due = _Late(log), False
        first = None  # the step at whose end all is compiled, and the time then
        images = device_batches(store, config, start=start, sharding=cluster.shardings()[1])
        try:
            for step in range(start + 1, config.steps + 1):
                state, metrics = train_step(state, next(images), noise_key)
                if due:  # while the device computes this step
                    late.record()
                last = step == config.steps
                logged = last or step % config.log_every == 0
                grid = draw() if last or step % config.sample_every == 0 else None
                rate = first and (step - first[0]) * config.batch_size / (time.perf_counter() - first[1])
                late.add(step, metrics, logged, grid, rate)
                due = logged or grid is not None
                if first is None or last:
                    jax.block_until_ready(metrics)
                    seconds = time.perf_counter() - (first[1] if first else 0)
                    first = first or (step, time.perf_counter())
                stop = peers.stop_announced() if peers.joined() else signals.received
                if last or stop or checkpoints.due(step):
                    late.record()  # first: what a checkpoint has behind it is not written again
                    due = False
                    checkpoints.save(step, state, attempt)
                log.advance()
                if stop and not last:
                    log.progress(step, to_uint8(draw()))
                    message = f"stopped after step {step}, which is saved: the same command goes on from there"
                    raise Stopped(signals.received or signal.SIGTERM, message)
        except NonFiniteError as error:
            error.last = late.last
            raise
    if first_process:
        steps, values = config.steps - first[0], late.last[1]
        speed = steps * config.batch_size / seconds if steps else float("nan")
        print(
            f"loss_D {values['loss_D']:.3f}, loss_G {values['loss_G']:.3f}, {speed:.1f} examples/sec on {where}",
            flush=True,
        )
    return state


class _Late:
    """What steps have computed, fetched and written down when the device has gone on to the next."""

    def __init__(self, log):
        self._log = log
        self._pending = []
        self.last = None

    def add(self, step, metrics, logged, grid, rate):
        self._pending.append((step, metrics, logged, grid, rate))

    def record(self):
        """
        Raises:
          NonFiniteError: names the first step with a loss or gradient that is not finite.
        """
        pending, self._pending = self._pending, []
        fetched = jax.device_get([metrics for _, metrics, *_ in pending])
        for (step, _, logged, grid, rate), values in zip(pending, fetched):
            values = {name: float(value) for name, value in values.items()}
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if grid is not None and not np.isfinite(grid).all():
                bad.append("images of the generator")
            if bad:
                raise NonFiniteError(step, bad)
            self.last = step, values
            if logged:
                self._log.metrics(step, values, rate)
            if grid is not None:
                self._log.samples(step, grid)


def _check_count(config, count):
    if count < config.batch_size:
        raise InputError(
            f"batch_size {config.batch_size} is larger than the {count} images of {config.data}: "
            f"use --batch-size {count} or less, or more images"
        )


def _check_devices(config):
    """bfloat16 came to NVIDIA's GPUs with compute capability 8.0; CPUs and TPUs all take it."""
    devices = jax.devices()
    first = devices[0]
    if config.precision == "bf16" and first.platform == "gpu" and float(first.compute_capability) < 8:
        raise InputError(f"precision bf16 is not supported by {first.device_kind}: use --precision float32")
    if config.batch_size % len(devices):
        raise InputError(
            f"batch_size {config.batch_size} cannot be shared equally by {len(devices)} devices: "
            f"use a multiple of {len(devices)}"
        )


def _count(network) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(network.params))


def _where(devices) -> str:
    name = f"{devices[0].platform}:{devices[0].id}"
    return name if len(devices) == 1 else f"{name} and {len(devices) - 1} more"


def _evidence(error, config) -> str:
    """Why a run is given up, and what to try."""
    names = " ".join(error.names)
    signs = {"discriminator": "loss_D|norm_D|D_x|D_G_z1|discriminator", "generator": "loss_G|norm_G|generator"}
    networks = [network for network, sign in signs.items() if re.search(sign, names)]
    lines = [f"{error} ({' and '.join(networks)}), and so with {config.retries} other noise streams"]
    if error.last:
        values = ", ".join(f"{name} {value:.4g}" for name, value in error.last[1].items())
        lines.append(f"  last finite at step {error.last[0]}: {values}")
    lines += [
        f"  learning rate of both networks {config.learning_rate:g}, beta1 {config.beta1:g}, precision {config.precision}",
        "  what is saved is finite; try a lower --learning-rate in another --workdir",
    ]
    return "\n".join(lines)
