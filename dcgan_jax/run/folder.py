"""The folder of a run: every name in it, its lock, and the checks of what is there."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from dcgan_jax.config import Config
from dcgan_jax.data.sources import BY_NAME
from dcgan_jax.data.store import Store
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import locked, reading, user_path, write_text, writing


class RunFolder:
    """Where everything of a run lies.

    Raises:
      InputError: the path cannot be one.
    """

    def __init__(self, path: str | Path):
        self.path = user_path(path)
        self.settings = self.path / "config.json"
        self.images = self.path / "images.json"
        self.metrics = self.path / "metrics.jsonl"
        self.board = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.reals = self.samples / "reals.png"
        self.progress = self.path / "progress.png"
        self.checkpoints = self.path / "checkpoints"
        self.damaged = self.path / "damaged"
        self.skipped = self.path / "skipped.txt"
        self._lock = self.path / ".lock"

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

    def config_if_there(self) -> Config | None:
        """The settings of the run, or None if there is none yet."""
        return self.config() if self.settings.exists() else None

    def check(self) -> None:
        """Refuse what cannot be the folder of a run.

        Raises:
          InputError: names what is in the way.
        """
        for path in (self.path, self.checkpoints):
            with reading(path):
                if path.exists() and not path.is_dir():
                    raise InputError(f"{path} is a file, not the folder of a run: give another --workdir")
        with reading(self.checkpoints):
            # A checkpoint that is being written or deleted goes by another name, and may go while this looks.
            entries = self.checkpoints.iterdir() if self.checkpoints.is_dir() else ()
            strange = [p.name for p in entries if not p.name.split(".")[0].isdigit() or p.is_file()]
        if strange:
            raise InputError(
                f"{self.checkpoints} is not a checkpoint folder: it holds {min(strange)!r}; give another --workdir"
            )

    @contextlib.contextmanager
    def held(self, config: Config) -> Iterator[Config | None]:
        """Hold the folder, made if it does not exist, and give the settings of the run that is there, if one is.

        If the block ends before ``begin``, nothing is left of it that was not there.

        Raises:
          InputError: it is in use, no run's, or holds a run with other settings. A run may differ in the fields of
            ``config.MAY_CHANGE``; more ``steps`` extend it.
        """
        self.check()
        new = [path for path in (self._lock, self.path, *self.path.absolute().parents) if not path.exists()]
        in_use = f"{self.path} is in use by another process: wait until it ends, or give another --workdir"
        try:
            with locked(self._lock, refusal=in_use):
                yield self._settings_there(config)
        finally:
            if not self.settings.exists():
                for path in new:
                    with contextlib.suppress(OSError):  # another run has begun beside it
                        path.unlink() if path == self._lock else path.rmdir()

    def _settings_there(self, config):
        data = user_path(config.data)
        if config.data not in BY_NAME and data.is_dir() and self.path.resolve().is_relative_to(data.resolve()):
            raise InputError(
                f"{self.path} lies among the images of {data}, and its pictures would be learned too: "
                "give another --workdir"
            )
        if self.settings.exists():
            there = Config.load(self.settings)
            if different := config.differences(there):
                raise InputError(
                    f"{self.path} holds a run with another configuration: {', '.join(different)}; "
                    "leave these flags out, or give another --workdir"
                )
            if self.metrics.exists() and not self.checkpoints.is_dir():
                raise InputError(
                    f"{self.metrics} is there, but no checkpoints: bring {self.checkpoints} back, or delete "
                    f"{self.metrics} to start the run anew"
                )
            return there
        for path in (self.checkpoints, self.metrics, self.samples, self.progress):
            if path.exists():
                raise InputError(f"{path} is there, but no config.json beside it, as of a run: give another --workdir")
        return None

    def begin(self, config: Config, there: Config | None, store: Store) -> None:
        """Write down the settings and which images they are.

        Raises:
          InputError: the run has learned other images, or the folder cannot be written.
        """
        about = {"count": len(store), "sha256": store.digest}
        if self.images.exists() and (then := self._images_then())["sha256"] != store.digest:
            raise InputError(
                f"{config.data} has other images than when {self.path} was started ({len(store)} now, {then['count']} "
                f"then): bring those back, give another --workdir, or delete {self.images} to go on with these"
            )
        with writing(self.path):
            if store.skipped:
                write_text(self.skipped, "".join(f"{line}\n" for line in store.skipped))
            write_text(self.images, json.dumps(about) + "\n")
            steps = max(config.steps, there.steps if there else 0)
            write_text(self.settings, dataclasses.replace(config, steps=steps).to_json())

    def _images_then(self):
        try:
            with reading(self.images):
                about = json.loads(self.images.read_text())
            return {"count": about["count"], "sha256": about["sha256"]}
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.images} is damaged ({type(error).__name__}: {error}): delete it, if the images are the same"
            ) from None
