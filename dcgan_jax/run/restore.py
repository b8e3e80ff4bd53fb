"""Reading a run: its generator for samples, or its whole state."""

import contextlib
import dataclasses
import functools
import json
import operator
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.networks import Generator
from dcgan_jax.gan.objectives import Objective
from dcgan_jax.gan.state import GANState, GeneratorParams, create_state
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.manifest import Manifest, read_whole
from dcgan_jax.run.trees import DamagedError, named_leaves, read_tree
from dcgan_jax.share import portable
from dcgan_jax.system.cache import cache_folder, kept
from dcgan_jax.system.disk import check_temporary, reading
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import usual_numbers

Step = int | Literal["best", "newest"]
"""Which checkpoint: that of a step, the one with the highest coverage, or the newest."""


@usual_numbers()
def restore(
    workdir: str | Path, step: Step = "best", *, ema: bool = True, generator: nn.Module | str | None = None
) -> GeneratorParams:
    """Read the generator of a run, ready for ``sample``, onto this process's first device.

    Args:
      workdir: the folder given to ``--workdir``; or what ``export`` made of it: ``generator.safetensors``, or
        ``hf:USER/NAME`` on the Hugging Face Hub.
      step: which checkpoint. The best is the one with the highest coverage while training, and the newest where none
        was evaluated. If it is not the newest, this is said on stderr, and so is a damaged one that is passed over.
      ema: the running average of the weights, with BatchNorm's statistics computed for it from 16,384 latents. The
        cache folder keeps them: the second time is faster. False restores the weights of that step.
      generator: the network of your own that was given to ``fit``, if it was not its name: that is stored. An exported
        file holds only its weights, and needs it.

    Raises:
      InputError: ``workdir`` is not a run, the checkpoint does not exist or is damaged, or an argument has the wrong
        type or makes no sense for an exported file.
    """
    step = _checked_step(step)
    if not isinstance(ema, bool | np.bool_):
        raise InputError(f"ema {ema!r} must be True or False")
    if portable.is_portable(workdir):
        if not ema:
            raise InputError(f"{workdir} holds the averaged weights alone: leave out ema=False (--no-ema)")
        if isinstance(generator, str):
            raise InputError(f"{workdir} holds no settings to make {generator} of: give generator= the module itself")
        if step == "newest":
            raise InputError(f"{workdir} holds one step alone: leave out the step")
        return portable.load(workdir, step, generator=generator)
    state, manifest = _restored(workdir, step, ("step", "generator", "ema"), {"generator": generator})
    raw = generator_params(state, ema=False)
    if not ema:
        return raw
    if type(raw.generator) is not Generator:  # the user's own, whose code may have changed
        return generator_params(state)
    written = json.dumps(dataclasses.asdict(manifest), sort_keys=True).encode()
    statistics = kept(
        cache_folder() / "statistics", [written], lambda: flatten_dict(generator_params(state).batch_stats, sep="/")
    )
    return raw.replace(params=state.ema, batch_stats=unflatten_dict(jax.tree.map(jnp.asarray, statistics), sep="/"))


def _checked_step(step: Any) -> Any:
    """``step`` as "best", "newest" or a plain int.

    Raises:
      InputError: it is none of these.
    """
    if not isinstance(step, str | bool | np.bool_):
        with contextlib.suppress(TypeError):  # not a whole number, of Python's, NumPy's or JAX's
            if (number := operator.index(step)) >= 0:
                return number
    elif step in ("best", "newest"):
        return step
    raise InputError(f'step {step!r} must be "best", "newest", or a whole number of steps, such as 1000')


@usual_numbers()
def restore_state(
    workdir: str | Path,
    step: Step = "newest",
    *,
    generator: nn.Module | str | None = None,
    discriminator: nn.Module | str | None = None,
    objective: Objective | str | None = None,
) -> GANState:
    """Read the whole state of a run: both networks, their optimizers and statistics, and the number of steps.

    Args:
      workdir: as for ``restore``, like ``step``.
      step: as for ``restore``; here the newest by default.
      generator: the network of your own that was given to ``fit``, if it was not its name: that is stored.
      discriminator: likewise.
      objective: likewise; the state trains on with it.

    Raises:
      InputError: as from ``restore``.
    """
    step = _checked_step(step)
    if portable.is_portable(workdir):
        raise InputError(f"{workdir} holds a generator alone, which restore reads: give the folder of a run")
    networks = {"generator": generator, "discriminator": discriminator, "objective": objective}
    return _restored(workdir, step, None, networks)[0]


def _restored(workdir, step, parts, networks):
    """A state whose ``parts``, by default all, are read from the checkpoint, and its manifest."""
    folder = RunFolder(workdir)
    state: Any = None
    for _ in range(100):  # a run that goes on deletes checkpoints meanwhile
        config, steps = folder.config(), folder.complete_steps()
        wanted_steps = _candidates(folder, step, steps)
        if parts and "discriminator" not in parts:  # what only training needs need not be importable
            config = dataclasses.replace(config, discriminator="", objective="", penalty="none", features="none")
            config = dataclasses.replace(config, freeze_layers=0)  # of the run's own, which may have more
        images = (folder.images_then() or {}).get("count")
        if state is None:
            made = functools.partial(create_state, config, images=images, classes=folder.learned(config), **networks)
            state = jax.eval_shape(made)
        tree = serialization.to_state_dict(state)
        wanted = {name: tree[name] for name in parts or tree}
        try:
            saved, manifest, damaged = first_whole(folder, wanted_steps, exactly(wanted), folder.run(), alone=False)
        except _GoneError:
            continue
        _say_damaged(damaged)
        if step == "best" and manifest.step != steps[0]:
            best = ", the best" if manifest.step == wanted_steps[0] else ""
            print(f"restoring step {manifest.step}{best}; the newest is step {steps[0]}", file=sys.stderr)
        return filled(state, {**tree, **jax.device_put(saved)}), manifest
    raise _changing(folder)


def _say_damaged(damaged: dict[int, str]) -> None:
    """Name the steps whose checkpoints are passed over, and why."""
    for step, problem in damaged.items():
        print(f"the checkpoint of step {step} is damaged ({problem}); using another", file=sys.stderr)


def _candidates(folder: RunFolder, step: Step, steps: list[int]) -> list[int]:
    """The steps to try, in their order, of the complete ones, newest first.

    Raises:
      InputError: there are none, or not this one.
    """
    if not steps:
        raise InputError(f"{folder.path} has no checkpoint yet: train it first, or name the folder of a run")
    if step == "newest":
        return steps
    if step == "best":
        scores = folder.scores()
        ranked = sorted(scores, key=lambda step: (scores[step], -step), reverse=True)
        return [*ranked, *(other for other in steps if other not in scores)]
    if step not in steps:
        choices = ", ".join(map(str, reversed(steps)))
        raise InputError(f"{folder.path} has no checkpoint of step {step}, only {choices}")
    return [step]


def read_arrays(
    workdir: str | Path, step: Step, wanted: Callable[[dict[str, tuple[int, ...]]], dict[str, Any]]
) -> tuple[dict[str, np.ndarray], Manifest]:
    """Read arrays of a checkpoint by their names alone, without the code of its networks.

    Args:
      workdir: the folder of a run.
      step: as for ``restore``.
      wanted: from the shapes of all arrays, by their names, to the shapes and types of those to read.

    Returns:
      They, and the manifest of the checkpoint. A damaged one that is passed over is named on stderr.

    Raises:
      InputError: there is no such run or checkpoint, or it is damaged; and what ``wanted`` raises.
    """
    folder = RunFolder(workdir)

    def tree(manifest: Manifest, _: Path) -> Any:
        arrays = wanted({name: tuple(shape) for name, shape in manifest.shapes.items()})
        return unflatten_dict(arrays, sep="/")

    for _ in range(100):  # a run that goes on deletes checkpoints meanwhile
        folder.config()  # or there is no run
        steps = _candidates(folder, step, folder.complete_steps())
        try:
            saved, manifest, damaged = first_whole(folder, steps, tree, folder.run(), alone=False)
        except _GoneError:
            continue
        _say_damaged(damaged)
        return dict(named_leaves(saved)), manifest
    raise _changing(folder)


def _changing(folder: RunFolder) -> InputError:
    return InputError(f"{folder.checkpoints} changes faster than it can be read: raise --keep-newest")


def filled(state: GANState, saved: Any) -> GANState:
    """The state with the arrays of a tree that was saved."""
    state_with_arrays: Any = serialization.from_state_dict(state, saved)
    return state_with_arrays


class _GoneError(Exception):
    """A checkpoint was deleted while it was read: a run goes on there."""


Wanted = Callable[[Manifest, Path], Any]
"""From the manifest of a checkpoint, and its place for messages, to a tree of the arrays to read."""


def exactly(tree: Any) -> Wanted:
    """Wants these arrays, and refuses a checkpoint in which they have other names or shapes."""

    def wanted(manifest: Manifest, place: Path) -> Any:
        manifest.check_networks(tree, place)
        return tree

    return wanted


def first_whole(
    folder: RunFolder, steps: list[int], wanted: Wanted, run: str | None, *, alone: bool = True
) -> tuple[Any, Manifest, dict[int, str]]:
    """Read the first of ``steps`` that is as it was written.

    Args:
      wanted: which arrays of it.
      alone: whether no other process writes to the folder. If one may, Orbax reads a copy of the files.

    Returns:
      Its values, its manifest, and what is wrong with those passed over.

    Raises:
      InputError: none is, or a file cannot be read at all, which does not tell whether it is damaged.
      _GoneError: it was deleted meanwhile.
    """
    if not alone:
        check_temporary()
    damaged = {}
    for step in steps:
        path = folder.manifest(step)
        place = path.parent.absolute()
        try:
            with contextlib.nullcontext(place) if alone else tempfile.TemporaryDirectory(prefix="dcgan_jax-") as source:
                manifest = read_whole(path, run, copy=None if alone else Path(source))
                tree = wanted(manifest, place)
                with reading(place):
                    return read_tree(Path(source), tree), manifest, damaged
        except (DamagedError, InputError, OSError) as error:
            if not path.exists():
                raise _GoneError from None
            if not isinstance(error, DamagedError):
                raise
            damaged[step] = str(error)
    what = "; ".join(f"step {step} ({problem})" for step, problem in damaged.items())
    raise InputError(
        f"no requested checkpoint in {folder.checkpoints} can be read: {what}. "
        "Bring a copy back, or give another --workdir"
    )
