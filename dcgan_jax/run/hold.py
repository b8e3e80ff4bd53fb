"""Taking the folder of a run: one process at a time, with the settings and the images that it was started with."""

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

from dcgan_jax.config import BY_NAME, Config
from dcgan_jax.data.sources import absolute
from dcgan_jax.data.store import Store
from dcgan_jax.recipes import check_meant
from dcgan_jax.run.folder import RunFolder, described
from dcgan_jax.system.disk import user_path, writing
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import locked, write_text


@dataclasses.dataclass(frozen=True)
class Held:
    """A folder that this process has for itself.

    Attributes:
      config: the settings that it is to be trained with.
      before: those of the run in it, if there is one.
      objects: which of ``OWN`` are given as objects, whose names are not stored; None if that is not known.
    """

    folder: RunFolder
    config: Config
    before: Config | None
    objects: Collection[str] | None

    def begin(self, store: Store) -> str:
        """Write down the settings and which images they are.

        Returns:
          The name of the run, which its checkpoints carry.

        Raises:
          InputError: the run was trained on other images, or the folder cannot be written.
        """
        folder, config = self.folder, self.config
        run = folder.run() or uuid.uuid4().hex
        objects = (folder.images_then() or {}).get("objects") if self.objects is None else sorted(self.objects)
        images = {"count": len(store), "sha256": store.digest, "run": run, "objects": objects}
        images["values"] = store.scale._asdict()
        if config.conditional:
            images["classes"] = described(store)
        if self.before:
            others = f"give another --workdir, or delete {folder.images} to continue with these"
            folder.check_images(store, config.data, remedy=f"restore those, {others}")
        with writing(folder.path):
            if store.skipped:
                write_text(folder.skipped, "".join(f"{line}\n" for line in store.skipped))
            else:
                folder.skipped.unlink(missing_ok=True)
            write_text(folder.images, json.dumps(images) + "\n")
            steps = max(config.steps, self.before.steps if self.before else 0)
            settings = dataclasses.replace(config, steps=steps, data=absolute(config.data))
            write_text(folder.settings, settings.to_json())
        return run


@contextlib.contextmanager
def held(folder: RunFolder, config: Config, objects: Collection[str] | None = None) -> Iterator[Held]:
    """Lock the folder, created if it does not exist.

    If the block ends before ``begin``, what was created is removed.

    Raises:
      InputError: it is in use, not a run's, or holds a run with other settings or ``objects``. A run may differ in
        the fields of ``config.MAY_CHANGE``; more ``steps`` extend it.
    """
    folder.check()
    new = [path for path in (folder.lock, folder.path, *folder.path.absolute().parents) if not path.exists()]
    in_use = f"{folder.path} is in use by another process: wait until it ends, or give another --workdir"
    with locked(folder.lock, refusal=in_use):
        try:
            yield Held(folder, config, _settings_before(folder, config, objects), objects)
        finally:
            if not folder.settings.exists():
                for path in new:
                    with contextlib.suppress(OSError):  # something else has been put there
                        path.unlink() if path == folder.lock else path.rmdir()


def _settings_before(folder: RunFolder, config: Config, objects: Collection[str] | None) -> Config | None:
    _check_outside(folder.path, config.data)
    if not folder.settings.exists():
        for path in (folder.checkpoints, folder.metrics, folder.samples, folder.progress):
            if path.exists():
                raise InputError(f"{path} exists, but no config.json beside it: give another --workdir")
        check_meant(config)
        return None
    before = Config.load(folder.settings)
    if different := config.differences(before):
        raise InputError(
            f"{folder.path} holds a run with another configuration: {', '.join(different)}; "
            "leave these flags out, or give another --workdir"
        )
    _check_objects(folder, objects)
    saved = 2 * min(before.checkpoint_every, before.keep_every)  # the first save has ended before the second begins
    lines = folder.read_metrics()
    if lines and not folder.complete_steps() and (lines[-1]["step"] > saved or not folder.checkpoints.is_dir()):
        raise InputError(
            f"{folder.metrics} is there, but no checkpoint of the run: bring {folder.checkpoints} back, or delete "
            f"{folder.metrics} to start the run anew"
        )
    return before


def _check_objects(folder: RunFolder, objects: Collection[str] | None) -> None:
    """Losses given as an object leave no trace in the state: without this a run would go on with others."""
    then = (folder.images_then() or {}).get("objects")
    if objects is None or then is None:
        return
    if missing := sorted(set(then) - set(objects)):
        raise InputError(
            f"{folder.path} holds a run that fit() was given {missing[0]}= for: give it again, or another --workdir. "
            f'A name, {missing[0]}="package.module:Name", would have been stored with the run'
        )
    if new := sorted(set(objects) - set(then)):
        raise InputError(f"{folder.path} holds a run without {new[0]}=: leave it out, or give another --workdir")


def _check_outside(path: Path, data: str) -> None:
    images = user_path(data)
    if data not in BY_NAME and images.is_dir() and path.resolve().is_relative_to(images.resolve()):
        raise InputError(
            f"{path} is inside the image folder {images}, and its pictures would be used for training: "
            "give another --workdir"
        )
