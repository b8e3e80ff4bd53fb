"""Saving and restoring, by Orbax."""

import contextlib
import dataclasses
import functools
import json
import operator
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.config import Config
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.networks import Generator
from dcgan_jax.gan.objectives import Objective
from dcgan_jax.gan.state import GANState, GeneratorParams, create_state
from dcgan_jax.run.folder import Manifest, RunFolder, thinned
from dcgan_jax.run.history import line_of
from dcgan_jax.share import portable
from dcgan_jax.system.background import Background
from dcgan_jax.system.cache import cache_folder, kept
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import (
    check_temporary,
    read_bytes,
    reading,
    reserve,
    sync,
    write_bytes,
    write_text,
    writing,
)
from dcgan_jax.system.xla import usual_numbers

_KEPT = 10  # how many checkpoints at multiples of keep_every stay


def _orbax() -> ocp.Checkpointer:
    me = jax.process_index()  # the first process alone reads and writes, or whoever calls ``restore``
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


@contextlib.contextmanager
def _plainly(folder: Path) -> Iterator[Path]:
    """A path of an existing folder that Orbax takes as it is.

    In others Orbax reads ``[`` as a pattern, and TensorStore ``\\`` as ``/`` and no names that are not UTF-8.
    """
    if re.fullmatch(r"[\w/., =+@~-]+", str(folder)) or not Path("/proc/self/fd").exists():
        yield folder
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{number}")
    finally:
        os.close(number)


def _write_tree(place: Path, tree: Any) -> None:
    """Write a tree of arrays to the new folder ``place``, and read it back.

    Raises:
      _DamagedError: what was read is not what was written.
    """
    with _plainly(place.parent.absolute()) as parent, _orbax() as orbax:
        orbax.save(parent / place.name, args=ocp.args.PyTreeSave(tree))
    if not jax.tree.all(jax.tree.map(np.array_equal, _read_tree(place, tree), tree)):
        raise _DamagedError("other values were read back than were written")


def _read_tree(place: Path, tree: Any) -> Any:
    """Read a tree of arrays like ``tree``: the same names, shapes and types.

    Raises:
      _DamagedError: there is no such tree.
    """
    to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    arguments = ocp.args.PyTreeRestore(item=tree, restore_args=to_numpy, partial_restore=True)
    try:
        with _plainly(place.absolute()) as path, _orbax() as orbax:
            values = orbax.restore(path, args=arguments)
    except FileNotFoundError as error:
        raise _DamagedError(first_line(error)) from error
    except (OSError, MemoryError):  # which says nothing about the files
        raise
    except Exception as error:  # Orbax and TensorStore raise errors of many classes
        raise _DamagedError(f"Orbax cannot read it: {first_line(error)[:120]}") from error
    wanted, there = ({name: (x.shape, x.dtype) for name, x in _named_leaves(of)} for of in (tree, values))
    if wanted != there:
        different = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        raise _DamagedError(f"{different[0]} has another shape or type")
    return values


class Checkpoints:
    """The checkpoints of one run, ``WORKDIR/checkpoints/STEP``, written by a background thread.

    A checkpoint is complete when it has its manifest: run, step, and the checksum of each file, for Orbax restores
    a flipped bit without an error. The ``keep_newest`` newest stay, the best one, and those at multiples of
    ``keep_every``, which is doubled as often as it takes to keep ten of them at most. Made by the first process of a
    run alone.
    """

    def __init__(self, folder: RunFolder, config: Config, run: str):
        self._folder = folder
        self._config = config
        self._run = run

    def __enter__(self):
        place = self._folder.checkpoints
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            for entry in list(place.iterdir()):
                if not entry.name.isdigit():  # what a killed process had begun to write or to delete
                    with contextlib.suppress(FileNotFoundError):  # Orbax clears up behind a save that failed, too
                        shutil.rmtree(entry)
                elif not self._folder.manifest(int(entry.name)).exists():
                    self._put_aside(int(entry.name), "it has no manifest")
            with tempfile.TemporaryDirectory(dir=place, prefix="0.trial-") as trial:  # not found out at the first save
                _try_out(Path(trial))
        self._background = Background()
        return self

    def __exit__(self, *error):
        with self._background:
            self.wait()

    def save(self, step: int, state: GANState, attempt: int, metrics: dict[str, float]) -> None:
        """Write the state while training goes on.

        Args:
          step: the number of steps taken.
          state: as NumPy arrays that nothing else writes to.
          attempt: how often the run has been rolled back.
          metrics: those of the step, in case the process ends before they are logged.

        Raises:
          InputError: the checkpoint before this one could not be written; names the place and the space needed.
        """
        self.wait()
        self._background.do(self._write, step, serialization.to_state_dict(state), attempt, metrics)

    def _write(self, step, tree, attempt, metrics):
        final = self._folder.manifest(step).parent
        place = final.with_name(f"{step}.partial")  # renamed when its manifest is in it
        leaves = dict(_named_leaves(tree))
        size = sum(leaf.nbytes for leaf in leaves.values())
        reserve(self._folder.path, size, f"the checkpoint of step {step}")  # Orbax fails in hundreds of lines
        _write_tree(place, tree)
        checksums = {}
        for name in _files(place):
            checksums[name] = zlib.crc32(read_bytes(place / name, most=1 << 40))
            sync(place / name)
        shapes = {name: list(leaf.shape) for name, leaf in leaves.items()}
        about = Manifest(self._run, step, attempt, checksums, shapes, metrics)
        write_text(place / self._folder.manifest(step).name, json.dumps(dataclasses.asdict(about)))
        place.rename(final)
        sync(final.parent)
        self._thin()

    def _thin(self):
        steps = self._folder.complete_steps()
        stay = {*steps[: self._config.keep_newest], *thinned(steps, every=self._config.keep_every, most=_KEPT)}
        if (best := self._folder.best_step()) is not None:
            stay.add(best)
        for old in set(steps) - stay:
            place = self._folder.manifest(old).parent
            shutil.rmtree(place.rename(place.with_name(f"{old}.deleted")))  # never half there under its name

    def scored(self, step: int, score: tuple[float, ...]) -> None:
        """Note how good the generator of a saved step is: the highest is the best.

        Raises:
          InputError: it cannot be written.
        """
        self.wait()
        with writing(self._folder.score(step)):
            write_text(self._folder.score(step), json.dumps(score))
            self._thin()  # the best until now may have stayed for its score alone

    def wait(self) -> None:
        """Wait until what ``save`` was given is on the disk.

        Raises:
          InputError: it cannot be written; names the place and the space needed.
        """
        try:
            self._background.wait()
        except (InputError, OSError, ValueError, RuntimeError, _DamagedError) as error:
            keeps = "there is none before it"
            for step in self._folder.complete_steps():
                with contextlib.suppress(InputError, _DamagedError):
                    _checked(self._folder.manifest(step), self._run)
                    keeps = f"that of step {step} is complete"
                    break
            raise InputError(
                f"cannot write a checkpoint to {self._folder.checkpoints}: {first_line(error)}; {keeps}. "
                "Fix this and run the same command to resume"
            ) from error

    def newest(self, state: GANState, *, logged: int | None = None) -> tuple[GANState, int, dict[str, float]]:
        """Read the newest complete checkpoint.

        Damaged ones are named on stderr and moved to ``WORKDIR/damaged``.

        Args:
          state: gives the shapes, and is the answer when there is no checkpoint.
          logged: the last step of metrics.jsonl, if there is one: later checkpoints are passed over.

        Returns:
          The state, as NumPy arrays; how often the run had been rolled back by then; and the metrics of the step, if
          metrics.jsonl has no line of it.

        Raises:
          InputError: there are checkpoints, and all are damaged; or files cannot be read.
        """
        self.wait()
        steps = self._folder.complete_steps()
        if logged is not None:
            every = self._config.log_every
            lines = {step: step - bool(self._metrics(step)) for step in steps}  # a checkpoint may hold its own
            if late := [step for step, end in lines.items() if end - end % every > logged]:
                for step in late:
                    self._put_aside(step, f"metrics.jsonl ends before it, at step {logged}")
                steps = [step for step in steps if step not in late]
        if not steps:
            return state, 0, {}
        tree = serialization.to_state_dict(state)
        saved, about, damaged = _first_complete(self._folder, steps, tree, self._run)
        for step, problem in damaged.items():
            self._put_aside(step, problem)
        unlogged = {} if line_of(self._folder.metrics, about.step) else self._metrics(about.step)
        return _filled(state, saved), about.attempt, unlogged

    def _metrics(self, step):
        try:
            return Manifest.read(self._folder.manifest(step)).metrics
        except (InputError, OSError, ValueError):  # whoever restores it names the damage
            return {}

    def _put_aside(self, step, problem):
        place = _free_name(self._folder.damaged / str(step))
        with writing(place):
            place.parent.mkdir(exist_ok=True)
            (self._folder.checkpoints / str(step)).rename(place)
        print(f"the checkpoint of step {step} is damaged ({problem}) and was moved to {place}", file=sys.stderr)


def _try_out(folder):
    try:
        _write_tree(folder / "tree", {"step": np.arange(2)})
    except _DamagedError as error:
        raise InputError(
            f"{folder.parent.absolute()} cannot hold checkpoints ({error}): give another --workdir, best with letters "
            "and digits alone"
        ) from error


def _free_name(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}.{i}") if i else path for i in range(10**6))
    return next(candidate for candidate in candidates if not candidate.exists())


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
      generator: the network of your own that was given to ``fit``, if it was not its name: that is stored.

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
        if generator is not None:
            raise InputError(f"{workdir} holds its own network: leave out generator=")
        if step == "newest":
            raise InputError(f"{workdir} holds one step alone: leave out the step")
        return portable.load(workdir, step)
    state, about = _restored(workdir, step, ("step", "generator", "ema"), {"generator": generator})
    raw = generator_params(state, ema=False)
    if not ema:
        return raw
    if type(raw.generator) is not Generator:  # the user's own, whose code may have changed
        return generator_params(state)
    written = json.dumps(dataclasses.asdict(about), sort_keys=True).encode()
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
    return _restored(workdir, step, ("step", "generator", "discriminator", "ema", "annealing"), networks)[0]


def _restored(workdir, step, parts, networks):
    """A state whose ``parts`` are read from the checkpoint, and its manifest."""
    folder = RunFolder(workdir)
    state: Any = None
    for _ in range(100):  # a run that goes on deletes checkpoints meanwhile
        config, steps = folder.config(), folder.complete_steps()
        if not steps:
            raise InputError(f"{folder.path} has no checkpoint yet: train it first, or name the folder of a run")
        if step == "best":
            best = folder.best_step()
            wanted_steps = steps if best is None else [best, *(s for s in steps if s != best)]
        else:
            wanted_steps = steps if step == "newest" else [step]
        if wanted_steps[0] not in steps:
            there = ", ".join(map(str, reversed(steps)))
            raise InputError(f"{folder.path} has no checkpoint of step {step}, only {there}")
        if "discriminator" not in parts:  # what only training needs need not be importable
            config = dataclasses.replace(config, discriminator="", objective="", penalty="none")
        images = (folder.images_then() or {}).get("count")
        start = functools.partial(create_state, config, images=images, **networks)
        state = state or jax.eval_shape(start)
        tree = serialization.to_state_dict(state)
        wanted = {name: tree[name] for name in parts}
        try:
            saved, about, damaged = _first_complete(folder, wanted_steps, wanted, folder.run(), alone=False)
        except _GoneError:
            continue
        for bad, problem in damaged.items():
            print(f"the checkpoint of step {bad} is damaged ({problem}); using another", file=sys.stderr)
        if step == "best" and about.step != steps[0]:
            print(f"restoring step {about.step}, the best; the newest is step {steps[0]}", file=sys.stderr)
        return _filled(state, {**tree, **jax.device_put(saved)}), about
    raise InputError(f"{folder.checkpoints} changes faster than it can be read: raise --keep-newest")


def _filled(state: GANState, saved) -> GANState:
    filled: Any = serialization.from_state_dict(state, saved)
    return filled


class _DamagedError(Exception):
    pass


class _GoneError(Exception):
    pass


def _first_complete(folder, steps, tree, run, *, alone=True) -> tuple[Any, Manifest, dict[int, str]]:
    """Read the first of ``steps`` that is as it was written: its values, its manifest, and those passed over.

    Unless this process is ``alone`` with the folder, Orbax reads a copy of the files: they may be deleted meanwhile.

    Raises:
      InputError: none is, or a file cannot be read at all, which does not tell whether it is damaged.
      _GoneError: one was deleted meanwhile.
    """
    if not alone:
        check_temporary()
    damaged = {}
    for step in steps:
        manifest = folder.manifest(step)
        place = manifest.parent.absolute()
        try:
            with contextlib.nullcontext(place) if alone else tempfile.TemporaryDirectory(prefix="dcgan_jax-") as source:
                about = _checked(manifest, run, copy=None if alone else Path(source))
                _check_networks(tree, about.shapes, place)
                with reading(place):
                    return _read_tree(Path(source), tree), about, damaged
        except (_DamagedError, InputError, OSError) as error:
            if not manifest.exists():
                raise _GoneError from None
            if not isinstance(error, _DamagedError):
                raise
            damaged[step] = str(error)
    what = "; ".join(f"step {step} ({problem})" for step, problem in damaged.items())
    raise InputError(
        f"no requested checkpoint in {folder.checkpoints} can be read: {what}. "
        "Bring a copy back, or give another --workdir"
    )


def _named_leaves(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _check_networks(tree, shapes, place):
    """Orbax would fill with fresh values what a checkpoint does not hold."""
    if any(name.startswith("settings/") for name in shapes):
        raise InputError(
            f"{place} was written by dcgan_jax 0.1, whose checkpoints this version cannot read: start a "
            "new run in another --workdir"
        )
    wanted = {name: list(leaf.shape) for name, leaf in _named_leaves(tree)}
    there = {name: shape for name, shape in shapes.items() if name.split("/")[0] in tree}
    if wanted != there:
        different = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        raise InputError(
            f"{place} holds other networks: {different[0]} differs. Give the generator= and discriminator= "
            "that the run was started with"
        )


def _files(place):
    """The names of the files that hold a checkpoint. Orbax keeps times in one that it may write later."""
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    return names - {"_CHECKPOINT_METADATA"}


def _checked(manifest: Path, run: str | None, copy: Path | None = None) -> Manifest:
    """The manifest of a checkpoint whose files are those that were written, and no others.

    Raises:
      _DamagedError: they are not, or it is the checkpoint of another run or step.
    """
    place = manifest.parent
    for path in (place, *place.rglob("*")):
        if not (stat.S_ISREG(mode := path.lstat().st_mode) or stat.S_ISDIR(mode)):
            raise _DamagedError(f"{path.name} is no regular file")
    try:
        about = Manifest.read(manifest)
    except (OSError, ValueError) as error:
        raise _DamagedError(f"{manifest.name}: {first_line(error)}") from None
    if about.step != int(place.name) or run not in (None, about.run):
        raise _DamagedError(f"it is that of step {about.step} of another run or place")
    checksums = about.checksums
    files = _files(place) - {manifest.name, "score.json"}
    if files != checksums.keys():
        raise _DamagedError(f"{min(files ^ checksums.keys())} is missing, or was not saved with it")
    if "manifest.ocdbt" not in files:  # earlier versions did not read back what they wrote
        raise _DamagedError("Orbax never merged its parts: experiments/mend_checkpoints.py does")
    for name, checksum in checksums.items():
        with reading(place / name):
            content = read_bytes(place / name, most=1 << 40)
        if zlib.crc32(content) != checksum:
            raise _DamagedError(f"{name} is not what was saved")
        if copy:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(copy / name, content, synced=False)
    return about
