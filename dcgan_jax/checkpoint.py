"""Saving and restoring, by Orbax. The only file that knows it."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp
from flax import serialization

from dcgan_jax.config import Config, InputError
from dcgan_jax.models import Latent
from dcgan_jax.state import GANState, GeneratorParams, create_state

FOLDER = "checkpoints"
KEEP = 3


class Checkpoints:
    """The checkpoints of one run, ``WORKDIR/checkpoints/STEP``, written in the background.

    A checkpoint appears under its name only when it is whole.
    """

    def __init__(self, workdir: Path):
        self._manager = ocp.CheckpointManager(
            (Path(workdir) / FOLDER).absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEEP, cleanup_tmp_directories=True, enable_async_checkpointing=True
            ),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()  # waits for the write under way

    def save(self, step: int, state: GANState) -> None:
        """Copy the state and write it in the background. A step that is already saved is left alone."""
        if self._manager.latest_step() != step:
            self._manager.save(step, args=ocp.args.StandardSave(serialization.to_state_dict(state)))

    def latest(self, state: GANState) -> GANState:
        """The newest checkpoint in the shape of ``state``, or ``state`` itself if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return state
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(_target(serialization.to_state_dict(state))))
        return serialization.from_state_dict(state, saved)


def _target(tree):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def check_folder(workdir: Path) -> None:
    """
    Raises:
      InputError: ``workdir`` or its checkpoint folder is something else than a run's.
    """
    folder = Path(workdir) / FOLDER
    for path in (Path(workdir), folder):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, not the folder of a run: give another --workdir")
    if folder.is_dir():
        strange = sorted(p.name for p in folder.iterdir() if not (p.is_dir() and p.name.split(".")[0].isdigit()))
        if strange:
            raise InputError(f"{folder} is not a checkpoint folder: it holds {strange[0]!r}; give another --workdir")


def restore(workdir: str | Path, step: int | None = None) -> GeneratorParams:
    """The generator of a run, ready for ``sample``.

    Args:
      workdir: the folder given to ``--workdir``.
      step: which checkpoint; the newest by default.

    Raises:
      InputError: ``workdir`` is no run, has no checkpoint yet, or not the one asked for.
    """
    workdir = Path(workdir).expanduser()
    check_folder(workdir)
    config = Config.load(workdir / "config.json")
    folder = workdir / FOLDER
    steps = ocp.utils.checkpoint_steps(folder.absolute()) if folder.is_dir() else []
    if not steps:
        raise InputError(f"{workdir} has no checkpoint yet: train it first, or name the folder of a run")
    step = max(steps) if step is None else step
    if step not in steps:
        raise InputError(f"{workdir} has no checkpoint of step {step}, only {', '.join(map(str, sorted(steps)))}")
    shapes = serialization.to_state_dict(jax.eval_shape(lambda: create_state(config)))
    target = _target({"generator": {name: shapes["generator"][name] for name in ("params", "batch_stats")}})
    with ocp.PyTreeCheckpointer() as reader:
        saved = reader.restore(
            (folder / str(step) / "default").absolute(),
            args=ocp.args.PyTreeRestore(
                item=target,
                restore_args=ocp.checkpoint_utils.construct_restore_args(target),
                partial_restore=True,
            ),
        )
    return GeneratorParams(**saved["generator"], latent=Latent(config.latent_dim, config.latent))
