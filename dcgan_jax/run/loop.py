"""The steps of a run."""

import contextlib
import itertools
import signal
from collections.abc import Iterator
from concurrent.futures import Future

import jax
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data.pipeline import batches
from dcgan_jax.data.store import Store
from dcgan_jax.gan.augment import probability
from dcgan_jax.gan.state import GANState
from dcgan_jax.gan.step import compile_step, train_step, train_steps
from dcgan_jax.metrics.monitor import LEAST
from dcgan_jax.run.results import Results
from dcgan_jax.run.schedule import steps_until_due
from dcgan_jax.run.writer import NoWriter
from dcgan_jax.system import cluster
from dcgan_jax.system.cache import keep_compiled
from dcgan_jax.system.errors import Stopped
from dcgan_jax.system.signals import HeldSignals
from dcgan_jax.system.xla import random_key, usual_numbers

_AT_ONCE = 25  # steps: sending them takes some ms, and a stop waits for two such groups


def train_from(
    state: GANState,
    attempt: int,
    unlogged: dict[str, float],
    *,
    config: Config,
    store: Store,
    writer: NoWriter,
    signals: HeldSignals,
    compiling: Future | None = None,
) -> GANState:
    """Train from a checkpoint, or the first state, to the last step.

    Args:
      attempt: how often the run was rolled back; each attempt has other noise.
      unlogged: the metrics of the state's step, if the log has no line of them.
      compiling: ``compile_ahead`` of this run, if another thread does that.

    Raises:
      NonFiniteError: training diverged.
      Stopped: a signal came; the step is saved.
    """
    step = int(cluster.local(state.step))
    noise_key, sample_key = jax.random.split(random_key(config.seed))
    if attempt:
        noise_key = jax.random.fold_in(noise_key, attempt)
    results = Results(config, writer, attempt=attempt, key=sample_key, measurable=len(store) >= LEAST)
    with writer.log(step, state), results:
        with signals.nothing_to_save():
            results.begin(step, state, unlogged)
        if step < config.steps:
            with signals.nothing_to_save():
                if compiling:
                    compiling.result()
            images = batches(store, config, start=step, sharding=cluster.shardings()[1])
            state = _train(state, step, images, noise_key, config, results, signals)
        writer.wait()
    results.end(state)
    return state


def _train(state, step, images, key, config, results, signals):
    metrics, at_most, compiling = None, steps_per_dispatch(config), signals.nothing_to_save()
    while step < config.steps:
        previous, count = metrics, steps_until_due(step, config, at_most)
        with compiling:
            state, metrics = _advanced(state, images, key, count, at_most, config)
            jax.block_until_ready(metrics if previous is None else previous)  # a stop waits for one dispatch
        if previous is None:
            keep_compiled()
            compiling = contextlib.nullcontext()
        step += count
        results.taken(range(step - count + 1, step + 1), metrics)
        told = cluster.stop_announced() if cluster.joined() else bool(signals.received)
        stop = told and step < config.steps  # after the last step all is done as ever
        results.after(step, state, stop=stop)
        if stop:
            results.stopped(step, state)
            message = f"stopped after step {step}, which is saved: the same command resumes from there"
            raise Stopped(signals.received or signal.SIGTERM, message)
    return state


def _advanced(state: GANState, images: Iterator[jax.Array], key, count: int, at_most: int, config: Config):
    """The state after ``count`` more steps, and their metrics."""
    if at_most > 1:
        batches = list(itertools.islice(images, count))
        return train_steps(state, batches, key, at_most=at_most, deterministic=config.deterministic)
    return train_step(state, next(images), key, deterministic=config.deterministic)


@usual_numbers()
def compile_ahead(shapes: GANState, config: Config, images: int, type_: str) -> None:
    """Compile the step that ``train_from`` takes, in another thread than it and before it.

    Args:
      shapes: ``jax.ShapeDtypeStruct`` in place of the arrays of a state of the run.
      images: how many there are to train on.
      type_: that of the images in their store.
    """
    everywhere, split = cluster.shardings()
    shapes = shapes.replace(augments=probability(config.augment, images) > 0)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), shapes)
    shape = (config.batch_size, *shapes.image_shape)
    batch = jax.ShapeDtypeStruct(shape, np.dtype(type_), sharding=split)
    at_most = steps_per_dispatch(config)
    compile_step(shapes, batch, random_key(0), at_most=at_most, deterministic=config.deterministic)


def steps_per_dispatch(config: Config) -> int:
    """How many steps at most are sent to the device at once. A resumed run must not change it: another number rounds
    differently."""
    on_cpu = jax.devices()[0].platform == "cpu"
    if config.dispatch == "single" or (config.dispatch == "auto" and on_cpu):
        return 1
    return max(count for count in range(1, _AT_ONCE + 1) if config.log_every % count == 0)
