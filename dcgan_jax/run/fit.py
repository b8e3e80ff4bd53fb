"""A run from its arguments to its end: the checks, the folder, the data, and another try after a divergence."""

import contextlib
import dataclasses
import math
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dcgan_jax.config import Config, check_epochs
from dcgan_jax.data.build import expected_type
from dcgan_jax.data.detail import features_size
from dcgan_jax.data.pipeline import feeder
from dcgan_jax.data.settle import settle
from dcgan_jax.data.sources import Source, open_source
from dcgan_jax.data.split import check_classes, held_out
from dcgan_jax.data.store import Store, prepare
from dcgan_jax.gan.classes import Classes
from dcgan_jax.gan.objectives import Objective
from dcgan_jax.gan.state import GANState, check_kinds, create_state, with_names
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.hold import held
from dcgan_jax.run.init import absolute, as_started, start_from
from dcgan_jax.run.loop import compile_ahead, train_from
from dcgan_jax.run.writer import NoWriter, OnLog, Writer
from dcgan_jax.system import cluster
from dcgan_jax.system.cache import cache_compilations, writable_cache
from dcgan_jax.system.disk import check_temporary, need_room
from dcgan_jax.system.errors import InputError, NonFiniteError
from dcgan_jax.system.signals import HeldSignals
from dcgan_jax.system.xla import usual_numbers


@usual_numbers()
def fit(
    config: Config,
    workdir: str | Path,
    *,
    epochs: int | None = None,
    generator: nn.Module | str | None = None,
    discriminator: nn.Module | str | None = None,
    objective: Objective | str | None = None,
    on_log: OnLog | None = None,
) -> GANState:
    """Train, or go on training, the run in ``workdir`` until ``config.steps`` steps or ``epochs`` are taken.

    Uses all devices of all joined processes. In the main thread, SIGINT, SIGTERM and SIGHUP wait until the step is
    finished and saved. Where nothing is lost by it, SIGTERM and SIGHUP end the process at once: before the first step,
    in evaluations, and while the report is written.

    Args:
      config: the run. If the folder holds one already, all but ``MAY_CHANGE`` must be as it was. What is ``auto``
        there and settled by the images is what the run has stored; of a new run see ``settle``, and for
        ``features_size`` ``data/detail.py``.
      workdir: folder of the run; made if it does not exist. Only the first process writes there.
      epochs: train until each image was seen so often, in place of ``config.steps``; the run stores the steps that
        this takes.
      generator: a network of your own, as for ``create_state``. Its name, "package.module:Name", is stored with the
        run, as ``Config.generator``, and found again. The object itself is not: give it again to all that takes a run.
      discriminator: likewise.
      objective: losses of your own in place of ``config.loss``, likewise; another object at resume is not noticed.
      on_log: ``on_log(step, metrics, images)`` is called for each line of metrics.jsonl and each grid in samples/, of
        the first process. ``metrics`` is the line without its step, empty if only a grid is due, and without losses at
        step 0, which only a run with ``config.init`` has; ``images`` is the grid, uint8 (H, W, C), or None. One call at
        a time, mostly from another thread, while training goes on. What it raises ends the run, which resumes from its
        last checkpoint; then steps may come a second time.

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
    config, networks = with_names(absolute(config), networks)
    objects = [kind for kind, given in networks.items() if given is not None]
    shapes = _check(config, networks, epochs, on_log)
    cache_compilations()
    folder = RunFolder(workdir)
    config = folder.settled(config)  # at an earlier start
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(HeldSignals(forward=cluster.joined()))
        first = jax.process_index() == 0
        taken = stack.enter_context(held(folder, config, objects)) if first else None
        source = open_source(config, writable_cache())
        config = settle(as_started(config) if first else config, source)
        shapes = shapes or (_shapes(config, networks) if _is_known(config) else None)
        begins = taken and config.init and not folder.complete_steps()
        start = start_from(config, shapes) if begins and shapes else None  # refused before images are decoded
        store, compiling = _opened(source, config, None if folder.begun() else shapes, stack)
        config = _in_steps(_with_features_size(config, store, folder), epochs, store)
        shapes = shapes or _shapes(config, networks, check_classes(config, store) if config.conditional else None)
        start = start or (start_from(config, shapes) if begins else None)
        cluster.agree({**dataclasses.asdict(config), "data": "", "images": store.digest})
        stack.enter_context(cluster.ending_together())
        writer = NoWriter()
        if taken:
            need_room(folder.path, _size(shapes), "a checkpoint")
            run = dataclasses.replace(taken, config=config).begin(store)
            writer = Writer(folder, config, store, run=run, signals=signals, on_log=on_log, start=start)
        stack.enter_context(writer)
        return _with_retries(config, networks, store=store, writer=writer, signals=signals, compiling=compiling)


def _check(config: Config, networks: dict[str, Any], epochs: Any, on_log: Any) -> GANState | None:
    """Refuse before images are looked for what can be refused then; the shapes of the state, if they are known."""
    shapes = None
    if not config.unsettled() and not config.conditional:
        shapes = _shapes(config, networks)
    if epochs is not None:
        check_epochs(epochs)
    if on_log is not None and not callable(on_log):
        raise InputError(f"on_log must be a function of step, metrics and images, not {repr(on_log)[:40]}")
    check_temporary()
    feeder(config)  # or none
    _check_devices(config)
    return shapes if _is_known(config) and not config.init else None  # a model may have heads for another size


def _is_known(config: Config) -> bool:
    """Whether the shapes of the state are known before the images are: how many classes there are, and what heads."""
    return not config.unsettled() and not config.conditional and not _looks_for_detail(config)


def _looks_for_detail(config: Config) -> bool:
    """Whether the images say at which size features see them; smaller ones are seen by their own size alone."""
    return config.features != "none" and config.features_size == "auto" and min(config.image_shape[:2]) >= 64


def _with_features_size(config: Config, store: Store, folder: RunFolder) -> Config:
    """The configuration of a new run with the size at which features see the images in place of ``auto``.

    Of several processes only the first knows what the run has, or the model that it starts from.
    """
    if config.features == "none":
        return config
    size, reason = config.features_size, ""
    if _looks_for_detail(config) and not folder.begun():
        size, reason = features_size(store)
    if cluster.joined():
        cluster.agree({"features": config.features})  # all are here: to send something takes no time now
        first = int(cluster.from_first(np.int32(0 if size == "auto" else size)))
        if config.features_size == "auto" and first != size:
            size, reason = first, ""
    if reason:
        print(f"features_size auto: {size}, {reason}", file=sys.stderr)
    return dataclasses.replace(config, features_size=size)


def _with_retries(config, networks, *, store, writer, signals, compiling):
    """Train; after a divergence go back to the newest checkpoint, and try other noise."""
    signals.hold()
    with signals.nothing_to_save():
        state, attempt, unlogged = _newest(config, networks, store, writer)
    if signals.received and not cluster.joined():
        raise KeyboardInterrupt(signals.received)
    run = {"config": config, "store": store, "writer": writer, "signals": signals, "compiling": compiling}
    while True:
        try:
            return train_from(state, attempt, unlogged, **run)
        except NonFiniteError as error:
            diverged = NonFiniteError(error.step, error.names)  # without the frames, which hold the state
        state, before, unlogged = _newest(config, networks, store, writer)
        if attempt - before >= config.retries:
            raise NonFiniteError(diverged.step, diverged.names, _evidence(diverged, config))
        attempt += 1
        print(
            f"{diverged}: going back to step {int(cluster.local(state.step))} to try other noise "
            f"(retry {attempt - before} of {config.retries})",
            file=sys.stderr,
        )


def _newest(config, networks, store, writer):
    """The newest complete checkpoint, as the first process reads it, on all devices of all; else a new state.

    Also how often the run was rolled back, and the metrics of the step, if the log has no line of them.
    """
    new = create_state(config, images=len(store), classes=store.classes, **networks)
    state, attempt, unlogged = writer.newest(new)
    state, attempt = cluster.from_first((state, attempt))
    return cluster.replicated(state), int(attempt), unlogged


def _size(tree: Any) -> int:
    """The bytes of a tree of arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _shapes(config: Config, networks: dict[str, Any], classes: Classes | None = None) -> GANState:
    """A state with the shapes and types of its arrays in their place."""
    return jax.eval_shape(lambda: create_state(config, classes=classes, **networks))


def _opened(
    source: Source, config: Config, shapes: GANState | None, stack: contextlib.ExitStack
) -> tuple[Store, Future | None]:
    """The images, until the end of ``stack``; and the step of a new run, whose state has these ``shapes``.

    It is compiled in another thread, while the images are decoded. Not for a GPU: programs are tried out there, while
    nothing else may use it.
    """
    compiling = None
    if shapes and jax.default_backend() == "cpu" and not cluster.joined():
        thread = ThreadPoolExecutor(1, "compile")
        stack.callback(thread.shutdown, wait=False)
        compiling = thread.submit(lambda: compile_ahead(shapes, config, source.count, expected_type(source, config)))
    store = prepare(source, config, writable_cache())
    stack.callback(store.close)
    _check_count(config, store)
    if config.device_data:
        _check_memory(store)
    return store, compiling


def _in_steps(config: Config, epochs: int | None, store: Store) -> Config:
    """The configuration with the steps that ``epochs`` take; as it is without."""
    if epochs is None:
        return config
    images = len(held_out(store, config.held_out, conditional=config.conditional)[0])
    config = config.for_epochs(epochs, images=images)
    if jax.process_index() == 0:
        print(f"epochs {epochs}: {config.steps:,} steps of {config.batch_size} of the {images:,} images to train on")
    return config


def _check_count(config, store):
    if len(store) - store.copies < 2:
        only = "one picture" if len(store) == 1 else f"{len(store)} copies of one picture"
        raise InputError(
            f"{config.data} holds {only}, but a network learns what many pictures have in common: give some hundred"
        )


def _check_memory(store):
    """Half of a device's memory is for training. CPUs do not say how much they have."""
    size, device = store.nbytes, jax.local_devices()[0]
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


def _evidence(error: NonFiniteError, config: Config) -> str:
    """Why a run is given up, and what to try."""
    return (
        f"{error}; gave up after {config.retries} retries with other noise\n"
        f"  learning rate {config.learning_rate:g}, beta1 {config.beta1:g}, precision {config.precision}\n"
        "  the saved checkpoints are finite; try a lower --learning-rate in another --workdir"
    )
