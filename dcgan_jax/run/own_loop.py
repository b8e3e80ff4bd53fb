"""Runs whose steps are taken by a loop of the user's own: saved in a folder like any other run, and resumed from it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import serialization

from dcgan_jax.config import Config
from dcgan_jax.data.store import Store
from dcgan_jax.gan.networks import Discriminator, Generator
from dcgan_jax.gan.sampling import sheet
from dcgan_jax.gan.state import GANState, create_state
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import line_of
from dcgan_jax.run.hold import held
from dcgan_jax.run.manifest import Manifest
from dcgan_jax.run.restore import restore_state
from dcgan_jax.run.results import finite_copy
from dcgan_jax.system.errors import InputError, NonFiniteError, extra
from dcgan_jax.system.xla import random_key, usual_numbers


def resume(workdir: str | Path, state: GANState) -> GANState:
    """The newest state that ``save`` or ``fit`` left in a folder; ``state`` itself if there is none yet.

    Args:
      workdir: folder of the run, which need not exist.
      state: of ``create_state``: at step 0, with networks of your own where the run has such.

    Raises:
      InputError: as from ``restore_state``: it is no run's folder, or holds other networks.
    """
    if not RunFolder(workdir).complete_steps():
        return state
    G, D = state.generator.module, state.discriminator.module
    return restore_state(workdir, generator=G, discriminator=D, objective=state.objective)


@usual_numbers()
def save(
    state: GANState, workdir: str | Path, *, config: Config, store: Store, metrics: Mapping[str, float | jax.Array]
) -> None:
    """Save the state of a loop of your own, so that all that takes a run takes its folder.

    Writes a checkpoint, a line of ``metrics.jsonl``, a grid of samples and ``progress.png``, and waits until they are
    on the disk. Older checkpoints go as in ``fit``: see ``Config.keep_newest`` and ``keep_every``. For one process.

    Args:
      state: what ``create_state(config, ...)`` made, after ``state.step`` steps, which must be more than at the last
        call.
      workdir: folder of the run; made if it does not exist.
      config: of the run. If the folder holds one already, all but ``MAY_CHANGE`` must be as it was. What it names as
        ``generator`` and so on is found again; a network given as an object must be given again.
      store: the images, of ``open_store(config)``, with which ``evaluate`` compares.
      metrics: scalars of the step: ``loss_D``, ``loss_G``, and any others.

    Raises:
      InputError: the state is not one of ``config``, a loss is missing, the folder is in use or holds another run or
        this step: then nothing is written; or it cannot be written.
      NonFiniteError: the state or a metric is not finite; nothing is written.
    """
    folder, step = RunFolder(workdir), int(state.step)
    config = folder.settled(config)
    state = jax.tree.map(jnp.asarray, state)  # a loop may count in Python
    values = {name: float(value) for name, value in metrics.items()}
    if missing := sorted({"loss_D", "loss_G"} - values.keys()):
        raise InputError(f"metrics hold no {missing[0]}: give loss_D and loss_G, which the report shows")
    if bad := [name for name, value in values.items() if not math.isfinite(value)]:
        raise NonFiniteError(step, bad)
    if (config.init or config.freeze_layers) and not folder.init.exists():
        raise InputError(
            "init and freeze_layers are for fit, and this state has begun with random weights: leave them out of the "
            "configuration"
        )
    _check_fits(state, config, store)
    copy = finite_copy(step, state)
    with held(folder, config) as taken:
        before = max(folder.complete_steps(), default=None)
        if before is not None and before >= step:
            raise InputError(
                f"{folder.path} has a checkpoint of step {before} already, and this is step {step}: continue from it "
                "by resume(workdir, state), or give another workdir"
            )
        with Checkpoints(folder, config, taken.begin(store)) as checkpoints:
            checkpoints.save(step, copy, 0, values)
        _log(folder, config, store, state, values, before or 0)


def _check_fits(state: GANState, config: Config, store: Store) -> None:
    """Refuse a state that could not be read into one of ``create_state(config)``."""
    own: dict[str, Any] = {"objective": state.objective}
    for kind, built_in in (("generator", Generator), ("discriminator", Discriminator)):
        module = getattr(state, kind).module
        if type(module) is not built_in and not getattr(config, kind):
            own[kind] = module
    fresh = jax.eval_shape(lambda: create_state(config, images=len(store), classes=store.classes, **own))
    shapes = [jax.tree.map(lambda x: (x.shape, str(x.dtype)), serialization.to_state_dict(s)) for s in (state, fresh)]
    if shapes[0] != shapes[1]:
        raise InputError(
            "the state is not one of create_state(config, ...): give the configuration that it was made of"
        )


def _log(folder: RunFolder, config: Config, store: Store, state: GANState, values: dict, before: int) -> None:
    from dcgan_jax.run.log import RunLog, save_reals  # matplotlib takes a while to load

    step = int(state.step)
    with RunLog(folder, config, start=before, images=len(store)) as log:
        if before and line_of(folder.metrics, before) is None:  # the process ended before it was written
            log.metrics(before, Manifest.read(folder.manifest(before)).metrics, None)
        log.metrics(step, values, None)
        with extra(f"samples/{folder.grid(step).name} or progress.png"):
            if not folder.reals.exists():
                save_reals(folder, config, store)
            log.samples(step, sheet(state, jax.random.split(random_key(config.seed))[1]))
