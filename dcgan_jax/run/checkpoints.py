"""The checkpoints of a run: written while it trains, kept, and read when it goes on."""

import contextlib
import dataclasses
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from flax import serialization

from dcgan_jax.config import Config
from dcgan_jax.gan.state import GANState
from dcgan_jax.run.folder import RunFolder, thinned
from dcgan_jax.run.history import line_of
from dcgan_jax.run.manifest import Manifest, checksums, read_whole
from dcgan_jax.run.restore import filled, first_whole
from dcgan_jax.run.trees import DamagedError, named_leaves, write_tree
from dcgan_jax.system.background import Background
from dcgan_jax.system.disk import reserve, writing
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import sync, write_text

_KEPT = 10  # how many checkpoints at multiples of keep_every stay


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
        leaves = dict(named_leaves(tree))
        size = sum(leaf.nbytes for leaf in leaves.values())
        reserve(self._folder.path, size, f"the checkpoint of step {step}")  # Orbax fails in hundreds of lines
        write_tree(place, tree)
        sums = checksums(place)
        for name in sums:
            sync(place / name)
        shapes = {name: list(leaf.shape) for name, leaf in leaves.items()}
        manifest = Manifest(self._run, step, attempt, sums, shapes, metrics)
        write_text(place / self._folder.manifest(step).name, json.dumps(dataclasses.asdict(manifest)))
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
        except (InputError, OSError, ValueError, RuntimeError, DamagedError) as error:
            keeps = "there is none before it"
            for step in self._folder.complete_steps():
                with contextlib.suppress(InputError, DamagedError):
                    read_whole(self._folder.manifest(step), self._run)
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
        saved, manifest, damaged = first_whole(self._folder, steps, tree, self._run)
        for step, problem in damaged.items():
            self._put_aside(step, problem)
        unlogged = {} if line_of(self._folder.metrics, manifest.step) else self._metrics(manifest.step)
        return filled(state, saved), manifest.attempt, unlogged

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
        write_tree(folder / "tree", {"step": np.arange(2)})
    except DamagedError as error:
        raise InputError(
            f"{folder.parent.absolute()} cannot hold checkpoints ({error}): give another --workdir, best with letters "
            "and digits alone"
        ) from error


def _free_name(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}.{i}") if i else path for i in range(10**6))
    return next(candidate for candidate in candidates if not candidate.exists())
