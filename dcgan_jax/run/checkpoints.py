"""The checkpoints of a run: written while it trains, kept, and read when it goes on."""

import contextlib
import dataclasses
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from flax import serialization

from dcgan_jax.config import Config
from dcgan_jax.gan.state import GANState
from dcgan_jax.run.folder import RunFolder, thinned
from dcgan_jax.run.history import last_step, line_of
from dcgan_jax.run.manifest import Manifest, checksums, read_whole
from dcgan_jax.run.restore import exactly, filled, first_whole
from dcgan_jax.run.trees import DamagedError, named_leaves, write_tree
from dcgan_jax.system.background import Background
from dcgan_jax.system.disk import reserve, writing
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import sync, write_text

KEPT = 10  # how many checkpoints at multiples of keep_every stay
_UNFINISHED = r"\d+\.(partial.*|deleted|orbax-checkpoint-tmp.*|trial-.*)"
"""What a killed process had begun to write, to delete or to try. Other names are of the user, such as 500.copy."""


class Checkpoints:
    """The checkpoints of one run, ``WORKDIR/checkpoints/STEP``, written by a background thread.

    A checkpoint is complete when it has its manifest. The ``keep_newest`` newest stay, the best one, and those at
    multiples of ``keep_every``, which is doubled as often as it takes to keep ten of them at most. Made by the first
    process of a run alone.
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
                if re.fullmatch(_UNFINISHED, entry.name):
                    with contextlib.suppress(FileNotFoundError):  # Orbax clears up behind a save that failed, too
                        shutil.rmtree(entry)
                elif entry.name.isdigit() and not self._folder.manifest(int(entry.name)).exists():
                    self._put_aside(int(entry.name), "is damaged (it has no manifest)")
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
        logged = last_step(self._folder.metrics) or 0
        self._background.do(self._write, step, serialization.to_state_dict(state), attempt, metrics, logged)

    def _write(self, step, tree, attempt, metrics, logged):
        final = self._folder.manifest(step).parent
        place = final.with_name(f"{step}.partial")  # renamed when its manifest is in it
        leaves = dict(named_leaves(tree))
        size = sum(leaf.nbytes for leaf in leaves.values())
        reserve(self._folder.path, size, f"the checkpoint of step {step}")  # Orbax fails in hundreds of lines
        write_tree(place, tree)
        sums = checksums(place)
        for path in (*place.rglob("*"), place):
            sync(path)
        shapes = {name: list(leaf.shape) for name, leaf in leaves.items()}
        manifest = Manifest(self._run, step, attempt, sums, shapes, metrics, logged=logged)
        write_text(place / self._folder.manifest(step).name, json.dumps(dataclasses.asdict(manifest)))
        place.rename(final)
        sync(final.parent)
        self._thin()

    def _thin(self):
        steps = self._folder.complete_steps()
        stay = {*steps[: self._config.keep_newest], *thinned(steps, every=self._config.keep_every, most=KEPT)}
        if (best := self._folder.best_step()) is not None:
            stay.add(best)
        for old in set(steps) - stay:
            place = self._folder.manifest(old).parent
            place = place.rename(place.with_name(f"{old}.deleted"))  # never half there under its name
            shutil.rmtree(place, ignore_errors=True)  # a reader may hold a file of it: the next start deletes the rest

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
          logged: the last step of metrics.jsonl, if there is one. Checkpoints that had later lines behind them are
            passed over, and moved to ``WORKDIR/damaged`` too.

        Returns:
          The state, as NumPy arrays; how often the run had been rolled back by then; and the metrics of the step, if
          metrics.jsonl has no line of it.

        Raises:
          InputError: there are checkpoints, and all are damaged, or later than metrics.jsonl; or files cannot be read.
        """
        self.wait()
        steps = self._folder.complete_steps()
        late = [step for step in steps if logged is not None and self._logged_before(step) > logged]
        if steps and late == steps:
            raise InputError(
                f"{self._folder.metrics} ends at step {logged}, before all checkpoints ({min(late)} to {max(late)}): "
                "bring back the one that belongs to them, or delete it to go on without its curves"
            )
        for step in late:
            self._put_aside(step, f"is later than metrics.jsonl, which ends at step {logged},")
        if not (steps := [step for step in steps if step not in late]):
            return state, 0, {}
        tree = serialization.to_state_dict(state)
        saved, manifest, damaged = first_whole(self._folder, steps, exactly(tree), self._run)
        for step, problem in damaged.items():
            self._put_aside(step, f"is damaged ({problem})")
        unlogged = {} if line_of(self._folder.metrics, manifest.step) else manifest.metrics
        return filled(state, saved), manifest.attempt, unlogged

    def _logged_before(self, step):
        """The step of the last line of metrics.jsonl when the checkpoint was written."""
        try:
            manifest = Manifest.read(self._folder.manifest(step))
        except (InputError, OSError, ValueError):  # whoever restores it names the damage
            return 0
        if manifest.logged is None:  # of 0.2.0, which held its own line or had it behind it
            end = step - bool(manifest.metrics)
            return end - end % self._config.log_every
        return manifest.logged

    def _put_aside(self, step, problem):
        place = _free_name(self._folder.damaged / str(step))
        with writing(place):
            place.parent.mkdir(exist_ok=True)
            (self._folder.checkpoints / str(step)).rename(place)
        print(f"the checkpoint of step {step} {problem} and was moved to {place}", file=sys.stderr)


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
