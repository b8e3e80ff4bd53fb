"""Saving and restoring, by Orbax. The only file that knows it."""

import contextlib
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

from dcgan_jax.system import peers
from dcgan_jax.config import Config
from dcgan_jax.system.errors import InputError, LostPeerError, NonFiniteError, first_line
from dcgan_jax.system.files import need_room, reading, user_path, writing
from dcgan_jax.gan.networks import Latent
from dcgan_jax.system.quiet import said_once, settle
from dcgan_jax.gan.state import GANState, GeneratorParams, create_state

FOLDER = "checkpoints"
DAMAGED = "damaged"
_TRIAL = "0.orbax-checkpoint-tmp-"  # which Orbax removes, should this process be killed


class Checkpoints:
    """The checkpoints of one run, ``WORKDIR/checkpoints/STEP``, written in the background.

    A checkpoint appears under its name only when it is whole. The ``keep_newest`` newest stay, the newest
    that is due, and those at multiples of ``keep_every``; the newest also stands for the best, as long as
    nothing measures quality.
    """

    def __init__(self, workdir: Path, config: Config):
        self._workdir = Path(workdir)
        self._folder = self._workdir / FOLDER
        self._config = config
        self._were_due: dict[int, bool] = {}

    def due(self, step: int) -> bool:
        """Whether a run that nothing disturbs saves this step."""
        return step % self._config.checkpoint_every == 0 or step % self._config.keep_every == 0

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Orbax's question which checkpoints stay."""
        steps = sorted(checkpoint.step for checkpoint in checkpoints)
        stay = {*steps[-self._config.keep_newest :], *list(filter(self._was_due, steps))[-1:]}
        return [c.step in stay or c.step % self._config.keep_every == 0 for c in checkpoints]

    def _was_due(self, step):
        """``due`` as it was when the step was saved: its settings may have been others."""
        if step not in self._were_due:
            about = self._manager.metadata(step).custom_metadata or {}  # damaged, perhaps
            self._were_due[step] = about.get("due", self.due(step))
        return self._were_due[step]

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(said_once())
            if jax.process_index() == 0:
                with writing(self._folder):
                    self._folder.mkdir(parents=True, exist_ok=True)
                    tempfile.TemporaryDirectory(dir=self._folder, prefix=_TRIAL).cleanup()
            self._manager = ocp.CheckpointManager(
                self._folder.absolute(),
                item_handlers=ocp.PyTreeCheckpointHandler(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=self,
                    cleanup_tmp_directories=True,
                    # Made in the background, a folder that cannot be made is waited for.
                    async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
                ),
            )
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def _close(self, _, error, __):
        if not isinstance(error, LostPeerError):  # with whom alone the write under way could end
            with self._explained(None):
                self._manager.close()

    def save(self, step: int, state: GANState, attempt: int = 0) -> None:
        """Copy the state and write it in the background. A step that is already saved is left alone.

        Args:
          step: the number of steps taken.
          attempt: how often the run has been rolled back.

        Raises:
          NonFiniteError: something in the state is not finite; nothing is saved.
          InputError: this checkpoint, or the one before, cannot be written; names place and room needed.
        """
        if self._manager.latest_step() == step:
            return
        tree = serialization.to_state_dict(state)
        checksums, size, bad = {}, 0, set()
        for name, leaf in _named_leaves(tree):
            leaf = np.asarray(leaf)
            checksums[name] = zlib.crc32(leaf)
            size += leaf.nbytes
            if not np.isfinite(leaf).all():
                bad.add(name.split("/")[0])
        if bad:
            raise NonFiniteError(step, [f"the state of the {network}" for network in sorted(bad)])
        self._were_due[step] = self.due(step)
        with self._explained(step):
            need_room(self._folder, size, f"the checkpoint of step {step}")
            self._manager.save(
                step,
                args=ocp.args.PyTreeSave(tree),
                custom_metadata={"attempt": attempt, "due": self._were_due[step], "checksums": checksums},
            )

    @contextlib.contextmanager
    def _explained(self, step):
        try:
            yield
        except (InputError, OSError, ValueError, RuntimeError) as error:
            if jax.process_count() > 1 and not isinstance(error, (InputError, OSError)):
                raise
            whole = [s for s in ocp.utils.checkpoint_steps(self._folder.absolute()) if s != step]
            keeps = f"that of step {max(whole)} is whole" if whole else "there is none before it"
            raise InputError(
                f"cannot write a checkpoint to {self._folder}: {first_line(error)}; {keeps}. "
                "When this is mended, the same command goes on from there"
            ) from error

    def latest(self, state: GANState, *, due: bool = False) -> tuple[GANState, int, bool]:
        """The newest checkpoint that is not damaged, on this process's first device; the same to all processes.

        Damaged ones are named on stderr and moved to ``WORKDIR/damaged``.

        Args:
          state: gives the shapes, and is the answer when there is no checkpoint.
          due: pass over those that only an interruption made.

        Returns:
          The state, how often the run had been rolled back by then, and whether newer ones were damaged.

        Raises:
          InputError: there are checkpoints, and all are damaged; or files cannot be read, or not by all.
        """
        with self._explained(None):
            self._manager.wait_until_finished()
        steps = sorted(self._manager.all_steps(), reverse=True)
        # As the first process lists them: others may see an older state of a network's disk.
        steps = peers.exchange([step for step in steps if not due or self._was_due(step)])[0]
        if not steps:
            return state, 0, False
        saved, attempt, damaged = _newest_whole(self._folder, steps, serialization.to_state_dict(state))
        found = peers.exchange(sorted(damaged))
        if any(other != found[0] for other in found):
            raise InputError(
                f"the processes of the run do not read the same from {self._folder}: damaged for each are {found}; "
                "look to it that all have the same files"
            )
        if damaged:
            if jax.process_index() == 0:
                self._put_aside(damaged)
            peers.exchange("put aside")
            self._manager.reload()
        return serialization.from_state_dict(state, saved), attempt, bool(damaged)

    def _put_aside(self, damaged):
        aside = self._workdir / DAMAGED
        with writing(aside):
            aside.mkdir(exist_ok=True)
            for step, problem in damaged.items():
                place = next(p for i in range(10**6) if not (p := aside / f"{step}{f'.{i}' * (i > 0)}").exists())
                (self._folder / str(step)).rename(place)
                print(f"the checkpoint of step {step} is damaged ({problem}) and was moved to {place}", file=sys.stderr)

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of later steps."""
        with self._explained(None):
            for later in self._manager.all_steps():
                if later > step:
                    self._manager.delete(later)


def check_folder(workdir: Path) -> None:
    """
    Raises:
      InputError: ``workdir`` or its checkpoint folder is something else than a run's.
    """
    folder = Path(workdir) / FOLDER
    for path in (Path(workdir), folder):
        with reading(path):
            if path.exists() and not path.is_dir():
                raise InputError(f"{path} is a file, not the folder of a run: give another --workdir")
    with reading(folder):
        if not folder.is_dir():
            return
        # A checkpoint that is being written or deleted goes by other names, and may go while this looks.
        entries = [path for path in folder.iterdir() if not path.name.split(".")[0].isdigit() or path.is_file()]
        strange = sorted(path.name for path in entries if path.exists())
        if strange:
            raise InputError(f"{folder} is not a checkpoint folder: it holds {strange[0]!r}; give another --workdir")


def restore(workdir: str | Path, step: int | None = None) -> GeneratorParams:
    """The generator of a run, ready for ``sample``, on this process's first device, whatever wrote it.

    Args:
      workdir: the folder given to ``--workdir``.
      step: which checkpoint; by default the newest that is not damaged (damaged ones are named on
        stderr).

    Raises:
      InputError: ``workdir`` is no run, has no checkpoint yet, or not the one asked for, or it is damaged.
    """
    workdir = user_path(workdir)
    check_folder(workdir)
    config = Config.load(workdir / "config.json")
    folder = workdir / FOLDER
    steps = ocp.utils.checkpoint_steps(folder.absolute()) if folder.is_dir() else []
    if not steps:
        raise InputError(f"{workdir} has no checkpoint yet: train it first, or name the folder of a run")
    if step is not None and step not in steps:
        raise InputError(f"{workdir} has no checkpoint of step {step}, only {', '.join(map(str, sorted(steps)))}")
    shapes = serialization.to_state_dict(jax.eval_shape(lambda: create_state(config)))
    tree = {"generator": {name: shapes["generator"][name] for name in ("params", "batch_stats")}}
    wanted = sorted(steps, reverse=True) if step is None else [step]
    with said_once():
        saved, _, damaged = _newest_whole(folder, wanted, tree)
    for bad, problem in damaged.items():
        print(f"the checkpoint of step {bad} is damaged ({problem}); using the one before", file=sys.stderr)
    return GeneratorParams(**saved["generator"], latent=Latent(config.latent_dim, config.latent))


def _newest_whole(folder, steps, tree) -> tuple[Any, int, dict[int, str]]:
    """Read the first of ``steps`` that is as it was written, by this process alone: its values, on the first
    device; its attempt; and those passed over.

    Raises:
      InputError: none is, or a file cannot be read at all, which does not tell whether it is whole.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), tree)
    arguments = ocp.args.PyTreeRestore(
        item=target, restore_args=ocp.checkpoint_utils.construct_restore_args(target), partial_restore=True
    )
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    damaged = {}
    with ocp.CheckpointManager(
        folder.absolute(),
        item_handlers=ocp.PyTreeCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone),
    ) as manager:
        for step in steps:
            try:
                about = manager.metadata(step).custom_metadata
                checksums, attempt = about["checksums"], about["attempt"]
                saved = manager.restore(step, args=arguments)
                changed = [name for name, x in _named_leaves(saved) if zlib.crc32(np.asarray(x)) != checksums[name]]
                if not changed:
                    return saved, attempt, damaged
                damaged[step] = f"{changed[0]} is not what was saved"
            except (MemoryError, jax.errors.JaxRuntimeError):
                raise
            except Exception as error:  # Orbax, TensorStore and JSON raise anything on bad bytes; each is named
                settle()
                _require_readable(folder / str(step))
                damaged[step] = f"{type(error).__name__}: {first_line(error)}"[:120]
    what = "; ".join(f"step {step} ({problem})" for step, problem in damaged.items())
    raise InputError(f"no checkpoint asked for in {folder} can be read: {what}")


def _require_readable(folder):
    def refuse(error):
        raise error

    with reading(folder):
        for place, _, names in os.walk(folder, onerror=refuse):
            for name in names:
                Path(place, name).read_bytes()


def _named_leaves(tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf
