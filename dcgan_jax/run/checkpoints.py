"""Saving and restoring, by Orbax. The only file that knows it."""

import json
import shutil
import sys
import tempfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    EveryNSteps,
    LatestN,
)

from dcgan_jax.config import Config
from dcgan_jax.gan.state import GANState, GeneratorParams, create_state, generator_params
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import reading, reserve, write_text, writing

_MANIFEST = "manifest.json"


def _manager(folder: RunFolder, **options) -> ocp.CheckpointManager:
    me = jax.process_index()  # the first process alone reads and writes, or whoever calls ``restore``
    return ocp.CheckpointManager(
        folder.checkpoints.absolute(),
        item_handlers=ocp.PyTreeCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(
            create=False,
            enable_async_checkpointing=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me}),
            **options,
        ),
    )


class Checkpoints:
    """The checkpoints of one run, ``WORKDIR/checkpoints/STEP``, written by a thread of their own.

    A checkpoint is complete when it has its manifest: the checksum of each file, for Orbax restores a flipped
    bit without an error. The ``keep_newest`` newest stay, and those at multiples of ``keep_every``. Made by the
    first process of a run alone.
    """

    def __init__(self, folder: RunFolder, config: Config):
        self._folder = folder
        self._config = config
        self._writing: Future | None = None

    def __enter__(self):
        with writing(self._folder.checkpoints):
            self._folder.checkpoints.mkdir(parents=True, exist_ok=True)
            # Whether it can be written is found out now; a kill leaves a name that Orbax removes.
            prefix = "0.orbax-checkpoint-tmp-"
            tempfile.TemporaryDirectory(dir=self._folder.checkpoints, prefix=prefix).cleanup()
        for step in ocp.utils.checkpoint_steps(self._folder.checkpoints.absolute()):
            if not (place := self._folder.checkpoints / str(step) / _MANIFEST).exists():  # of a killed process
                shutil.rmtree(place.parent)
        keep = [LatestN(self._config.keep_newest), EveryNSteps(self._config.keep_every)]
        self._manager = _manager(
            self._folder, preservation_policy=AnyPreservationPolicy(keep), cleanup_tmp_directories=True
        )
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        return self

    def __exit__(self, *error):
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._manager.close()

    def save(self, step: int, state: GANState, attempt: int) -> None:
        """Write the state while training goes on.

        Args:
          step: the number of steps taken.
          state: as NumPy arrays that nobody else writes to.
          attempt: how often the run has been rolled back.

        Raises:
          InputError: the checkpoint before this one could not be written; names place and room needed.
        """
        self.wait()
        self._writing = self._thread.submit(self._write, step, serialization.to_state_dict(state), attempt)

    def _write(self, step, tree, attempt):
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        reserve(self._folder.checkpoints, size, f"the checkpoint of step {step}")  # Orbax fails in hundreds of lines
        self._manager.save(step, args=ocp.args.PyTreeSave(tree))
        place = self._folder.checkpoints / str(step)
        files = [path for path in place.rglob("*") if path.is_file()]
        checksums = {path.relative_to(place).as_posix(): zlib.crc32(path.read_bytes()) for path in files}
        write_text(place / _MANIFEST, json.dumps({"attempt": attempt, "checksums": checksums}))

    def wait(self) -> None:
        """Return when what ``save`` was given is on the disk.

        Raises:
          InputError: it cannot be written; names place and room needed.
        """
        under_way, self._writing = self._writing, None
        if under_way is None:
            return
        try:
            under_way.result()
        except (InputError, OSError, ValueError, RuntimeError) as error:
            complete = _steps(self._folder)
            keeps = f"that of step {complete[0]} is complete" if complete else "there is none before it"
            raise InputError(
                f"cannot write a checkpoint to {self._folder.checkpoints}: {first_line(error)}; {keeps}. "
                "When this is put right, the same command resumes from there"
            ) from error

    def newest(self, state: GANState) -> tuple[GANState, int]:
        """Read the newest complete checkpoint. Damaged ones are named on stderr and moved to ``WORKDIR/damaged``.

        Args:
          state: gives the shapes, and is the answer when there is no checkpoint.

        Returns:
          The state, as NumPy arrays, and how often the run had been rolled back by then.

        Raises:
          InputError: there are checkpoints, and all are damaged; or files cannot be read.
        """
        self.wait()
        if not (steps := _steps(self._folder)):
            return state, 0
        saved, attempt, damaged = _newest_complete(
            self._manager, self._folder, steps, serialization.to_state_dict(state)
        )
        for step, problem in damaged.items():
            place = _free_name(self._folder.damaged / str(step))
            with writing(place):
                place.parent.mkdir(exist_ok=True)
                (self._folder.checkpoints / str(step)).rename(place)
            print(f"the checkpoint of step {step} is damaged ({problem}) and was moved to {place}", file=sys.stderr)
            self._manager.reload()
        return _filled(state, saved), attempt

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)


def _free_name(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}.{i}") if i else path for i in range(10**6))
    return next(candidate for candidate in candidates if not candidate.exists())


def _steps(folder: RunFolder) -> list[int]:
    """The steps of the complete checkpoints, newest first."""
    there = folder.checkpoints
    complete = (path.parent.name for path in there.glob(f"*/{_MANIFEST}"))
    return sorted((int(name) for name in complete if name.isdigit()), reverse=True)


def restore(workdir: str | Path, step: int | None = None, *, generator: nn.Module | None = None) -> GeneratorParams:
    """Read the generator of a run, ready for ``sample``, on this process's first device, whatever wrote it.

    Args:
      workdir: the folder given to ``--workdir``.
      step: which checkpoint; by default the newest that is not damaged (damaged ones are named on stderr).
      generator: the network of your own that was given to ``fit``, if one was.

    Raises:
      InputError: ``workdir`` is no run, has no checkpoint yet, or not the one asked for, or it is damaged.
    """
    state = _restored(workdir, step, ("generator",), {"generator": generator})
    return generator_params(state)


def restore_state(workdir: str | Path, step: int | None = None, **networks: Any) -> GANState:
    """Read all of a run's state: both networks, their optimizers and statistics, and the number of steps.

    Args:
      workdir: as for ``restore``, like ``step``.
      step: as for ``restore``.
      networks: those of your own that were given to ``fit``.

    Raises:
      InputError: as from ``restore``.
    """
    return _restored(workdir, step, ("step", "generator", "discriminator"), networks)


def _restored(workdir, step, parts, networks):
    """A state with those ``parts`` that were asked for from the checkpoint."""
    folder = RunFolder(workdir)
    config, steps = folder.config(), _steps(folder)
    if not steps:
        raise InputError(f"{folder.path} has no checkpoint yet: train it first, or name the folder of a run")
    if step is not None and step not in steps:
        raise InputError(f"{folder.path} has no checkpoint of step {step}, only {', '.join(map(str, reversed(steps)))}")
    state: Any = jax.eval_shape(lambda: create_state(config, **networks))
    tree = serialization.to_state_dict(state)
    with _manager(folder) as manager:
        wanted = {name: tree[name] for name in parts}
        saved, _, damaged = _newest_complete(manager, folder, steps if step is None else [step], wanted)
    for bad, problem in damaged.items():
        print(f"the checkpoint of step {bad} is damaged ({problem}); using the one before", file=sys.stderr)
    return _filled(state, {**tree, **jax.device_put(saved)})


def _filled(state: GANState, saved) -> GANState:
    filled: Any = serialization.from_state_dict(state, saved)
    return filled


def _newest_complete(manager, folder, steps, tree) -> tuple[Any, int, dict[int, str]]:
    """Read the first of ``steps`` that is as it was written: its values, its attempt, and those passed over.

    Raises:
      InputError: none is, or a file cannot be read at all, which does not tell whether it is damaged.
    """
    to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    arguments = ocp.args.PyTreeRestore(item=tree, restore_args=to_numpy, partial_restore=True)
    damaged = {}
    for step in steps:
        try:
            attempt = _checked(folder.checkpoints / str(step))
            return manager.restore(step, args=arguments), attempt, damaged
        except _DamagedError as error:
            damaged[step] = str(error)
    what = "; ".join(f"step {step} ({problem})" for step, problem in damaged.items())
    raise InputError(f"no checkpoint asked for in {folder.checkpoints} can be read: {what}")


class _DamagedError(Exception):
    pass


def _checked(place) -> int:
    """The attempt of a checkpoint whose files are as they were written."""
    try:
        about = json.loads((place / _MANIFEST).read_text())
        checksums, attempt = dict(about["checksums"]), int(about["attempt"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamagedError(f"{_MANIFEST}: {first_line(error)}") from None
    for name, checksum in checksums.items():
        with reading(place / name):
            try:
                content = (place / name).read_bytes()
            except FileNotFoundError:
                raise _DamagedError(f"{name} is missing") from None
        if zlib.crc32(content) != checksum:
            raise _DamagedError(f"{name} is not what was saved")
    return attempt
