"""The folder of a run: its file names, and what they say."""

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from dcgan_jax.config import SETTINGS, Config
from dcgan_jax.data.planes import Scale
from dcgan_jax.data.store import Store
from dcgan_jax.gan.classes import NO_CLASSES, Classes
from dcgan_jax.run.history import History
from dcgan_jax.run.manifest import SCORE, Manifest
from dcgan_jax.system.disk import reading, user_path
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import parse_json, read_bytes, write_text
from dcgan_jax.system.schema import checked

_TRIES = 3  # of an evaluation that ends the process


@dataclasses.dataclass(frozen=True)
class _Classes:
    """``Classes`` of a conditional run, and the SHA-256 of the labels of all images."""

    names: list[str]
    counts: list[int]
    sha256: str


@dataclasses.dataclass(frozen=True)
class _Images:
    """``images.json``."""

    count: int
    sha256: str
    run: str
    objects: list[str] | None = None
    classes: _Classes | None = None
    values: Scale | None = None


@dataclasses.dataclass(frozen=True)
class _Start:
    """One of the starts in ``timing.json``. Those of earlier versions have less."""

    start: int = 0
    step: int = 0
    seconds: float = 0.0
    images_per_second: float | None = None
    device: str = ""
    devices: int = 1
    processes: int = 1
    processor: str = ""
    cores: int | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    matrix_units: bool = False


def described(store: Store) -> dict[str, Any]:
    """The classes of images as ``images.json`` holds them: ``names``, ``counts``, and the ``sha256`` of all labels."""
    classes = store.classes
    sha256 = hashlib.sha256(store.labels.tobytes()).hexdigest()
    return {"names": list(classes.names), "counts": list(classes.counts), "sha256": sha256}


def thinned(steps: list[int], *, every: int, most: int) -> list[int]:
    """Those ``steps`` that are multiples of ``every``, doubled as often as it takes to have at most ``most`` of them.

    Which they are depends on the latest step only, so that a run that was interrupted keeps the same.
    """
    while max(steps, default=0) // every > most:
        every *= 2
    return [step for step in steps if step % every == 0]


class RunFolder:
    """The paths of all files of a run.

    Raises:
      InputError: the path cannot be used.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        self.settings = self.path / SETTINGS
        self.images = self.path / "images.json"
        self.init = self.path / "init.json"
        self.metrics = self.path / "metrics.jsonl"
        self.board = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.reals = self.samples / "reals.png"
        self.progress = self.path / "progress.png"
        self.checkpoints = self.path / "checkpoints"
        self.damaged = self.path / "damaged"
        self.skipped = self.path / "skipped.txt"
        self.evaluation = self.path / "evaluation.json"
        self.evaluation_picture = self.path / "evaluation.png"
        self.classes = self.path / "classes.json"
        self.classes_picture = self.path / "classes.png"
        self.pairs = self.path / "pairs.png"
        self.best = self.path / "best.png"
        self.random = self.path / "random.png"
        self.timing = self.path / "timing.json"
        self.report = self.path / "report.html"
        self.measuring = self.path / "measuring.json"
        self.comparison = self.path / "comparison.html"
        self.lock = self.path / ".lock"

    @staticmethod
    def output(text: str | Path) -> Path:
        """The file or folder that a command is to write, as a user may name it.

        Raises:
          InputError: it cannot be used, or is one of a run's own, which only the run itself writes.
        """
        path = user_path(text)
        for place in (path.resolve(), path.parent.resolve() / path.name):  # a link is replaced, a folder's is followed
            for parent in place.parents:
                run = RunFolder(parent)
                if place.relative_to(parent).parts[0] in run.own() and run.settings.exists() and run.begun():
                    raise InputError(f"{path} belongs to the run in {parent}: give --out another name")
        return path

    def own(self) -> set[str]:
        """The names in the folder that only the run itself, ``evaluate`` and ``--classes`` write."""
        places = {*vars(self).values()} - {self.path, self.report, self.comparison}
        return {place.relative_to(self.path).parts[0] for place in places}

    def begun(self) -> bool:
        """Whether something is there that a run writes besides its settings."""
        return any(place.exists() for place in (self.images, self.metrics, self.checkpoints))

    def grid(self, step: int) -> Path:
        """The sample grid of a step."""
        return self.samples / f"step_{step:06d}.png"

    def config(self) -> Config:
        """The settings of the run.

        Raises:
          InputError: there is no run here, or its settings are damaged.
        """
        self.check()
        return Config.load(self.settings)

    def settled(self, config: Config) -> Config:
        """The same, with what an earlier start here has settled in place of ``auto``: see ``data/settle.py`` and
        ``data/detail.py``.

        Raises:
          InputError: the path cannot be the folder of a run, or its settings are damaged.
        """
        if not config.unsettled() and "auto" not in (config.bits, config.width, config.features_size):
            return config
        self.check()
        return config.as_settled(self.config()) if self.settings.exists() else config

    def grids(self) -> dict[int, Path]:
        """The sample grids that there are, by step, in order."""
        names = ((path, path.stem.removeprefix("step_")) for path in self.samples.glob("step_*.png"))
        return dict(sorted((int(step), path) for path, step in names if step.isdigit()))

    def manifest(self, step: int) -> Path:
        """The file that makes the checkpoint of a step complete."""
        return self.checkpoints / str(step) / "manifest.json"

    def score(self, step: int) -> Path:
        """The file that says how good the checkpoint of a step is: written after it, when it has been measured."""
        return self.manifest(step).with_name(SCORE)

    def try_measuring(self, step: int) -> bool:
        """Note that a step is going to be measured, unless the process has ended in this so often that it is no use."""
        tries = 0
        with contextlib.suppress(OSError, ValueError):
            before, count = checked(list[int], parse_json(read_bytes(self.measuring)))
            tries = count if before == step else 0
        if tries >= _TRIES:
            return False
        write_text(self.measuring, json.dumps([step, tries + 1]))
        return True

    def measured(self) -> None:
        """Note that the process has not ended in what ``try_measuring`` noted."""
        self.measuring.unlink()

    def is_reported(self) -> bool:
        """Whether there is a report that was written after the newest checkpoint."""
        if not self.report.exists() or not (steps := self.complete_steps()):
            return False
        return self.report.stat().st_mtime_ns >= self.manifest(steps[0]).stat().st_mtime_ns

    def complete_steps(self) -> list[int]:
        """The steps of the complete checkpoints, newest first."""
        names = (path.parent.name for path in self.checkpoints.glob(f"*/{self.manifest(0).name}"))
        return sorted((int(name) for name in names if name.isdigit()), reverse=True)

    def scores(self) -> dict[int, tuple[float, ...]]:
        """The score of each complete checkpoint that was evaluated, by its step.

        Raises:
          InputError: one cannot be read.
        """
        scores = {}
        for step in self.complete_steps():
            score = self._score(step) or self._score_of_manifest(step)
            if score:
                scores[step] = tuple(score)
        return scores

    def _score(self, step):
        path = self.score(step)
        try:
            with reading(path):
                return checked(list[float], parse_json(read_bytes(path)), "score") if path.exists() else None
        except ValueError as error:
            raise InputError(
                f"{path} is damaged ({first_line(error)}): bring a copy back, or delete it, and that step counts as "
                "not evaluated"
            ) from None

    def _score_of_manifest(self, step):
        with contextlib.suppress(InputError, OSError, ValueError):  # restore names the damage
            return Manifest.read(self.manifest(step)).score
        return None

    def best_step(self) -> int | None:
        """The step of the complete checkpoint with the highest score; None if none was evaluated."""
        scores = self.scores()
        return max(scores, key=lambda step: (scores[step], -step), default=None)

    def history(self) -> History:
        """What is kept of ``metrics.jsonl``.

        Raises:
          InputError: a line is damaged; names it.
        """
        return History.read(self.metrics)

    def read_metrics(self) -> list[dict]:
        """Lines of ``metrics.jsonl``, oldest first: of a long run a part (see ``History``).

        Raises:
          InputError: a line is damaged; names it.
        """
        return self.history().lines

    def read_json(self, path: Path) -> Any:
        """What a JSON file of the run holds that a report shows; None if it does not exist.

        Raises:
          InputError: it cannot be read, or is damaged.
        """
        try:
            with reading(path):
                return parse_json(read_bytes(path)) if path.exists() else None
        except ValueError as error:
            raise InputError(f"{path} is damaged ({first_line(error)}): delete it") from None

    def timings(self) -> list[dict]:
        """What each start of the run took and on what machine, oldest first, as far as it is known.

        Raises:
          InputError: ``timing.json`` is damaged.
        """
        starts = self.read_json(self.timing) or []
        try:
            checked(list[_Start], starts, "timing")
        except ValueError as error:
            raise InputError(f"{self.timing} is damaged ({first_line(error)}): delete it") from None
        return starts

    def check(self) -> None:
        """Refuse a path that cannot be the folder of a run.

        Raises:
          InputError: names what does not belong there.
        """
        for path in (self.path, self.checkpoints):
            with reading(path):
                if path.exists() and not path.is_dir():
                    raise InputError(f"{path} is a file, not the folder of a run: give another --workdir")
        with reading(self.checkpoints):
            # A checkpoint that is being written or deleted has another name, and may disappear during this check.
            entries = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
            strange = [p.name for p in entries if not p.name.split(".")[0].isdigit() or p.is_file()]
        if strange:
            raise InputError(
                f"{self.checkpoints} is not a checkpoint folder: it holds {min(strange)!r}; give another --workdir"
            )

    def run(self) -> str | None:
        """The name of the run, or None if that cannot be told; without images.json it is that of its checkpoints."""
        if then := self.images_then():
            return then["run"]
        for step in self.complete_steps():
            with contextlib.suppress(InputError, OSError, ValueError):
                return Manifest.read(self.manifest(step)).run
        return None

    def check_images(self, store: Store, data: str, *, remedy: str) -> None:
        """Refuse other images than those that the run was trained on.

        Args:
          data: where they are from, for the message.
          remedy: what to do.

        Raises:
          InputError: these are others; or ``images.json`` is damaged.
        """
        then = self.images_then() or {}
        if then and then["sha256"] != store.digest:
            count = f"{len(store)} now, {then['count']} then"
            raise InputError(f"{data} has other images than when {self.path} was started ({count}): {remedy}")
        if (classes := then.get("classes")) and classes != described(store):
            raise InputError(f"{data} has other labels than when {self.path} was started: {remedy}")

    def learned(self, config: Config) -> Classes:
        """Those that the run learns, as they were when it began; none of a run that is not conditional.

        Raises:
          InputError: ``images.json``, which says them, is missing or damaged.
        """
        if not config.conditional:
            return NO_CLASSES
        if not (classes := (self.images_then() or {}).get("classes")):
            raise InputError(
                f"{self.images} does not say which classes this conditional run learns: bring a copy back, or resume "
                "training, which writes it"
            )
        return Classes(tuple(classes["names"]), tuple(classes["counts"]), config.class_sampling == "balanced")

    def images_then(self) -> dict | None:
        """``count`` and ``sha256`` of the images that the run was trained on; None if they are not known.

        Also ``run``, its name; ``objects``: which of ``OWN`` it got as objects, None if that is not known; and
        ``classes`` of a conditional run, as ``described`` returns them.

        Raises:
          InputError: ``images.json`` cannot be read, or is damaged.
        """
        if not self.images.exists():
            return None
        try:
            with reading(self.images):
                images = parse_json(read_bytes(self.images))
            return dataclasses.asdict(checked(_Images, images, "images"))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.images} is damaged ({type(error).__name__}: {error}): delete it if the images have not changed"
            ) from None
