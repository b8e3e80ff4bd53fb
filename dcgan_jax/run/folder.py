"""The folder of a run: whether it is one, whose it is, and what it was started with."""

import contextlib
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from dcgan_jax.system import peers
from dcgan_jax.run.checkpoints import FOLDER, check_folder
from dcgan_jax.config import Config
from dcgan_jax.data.sources import BY_NAME
from dcgan_jax.data.store import Store
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import locked, reading, user_path, write_text, writing

IMAGES = "images.json"
_TOKEN = ".shared-"
_SEEN_SECONDS = 60  # how long a network's disk may hide what another machine has written


def check_workdir(config: Config, workdir: Path) -> None:
    """
    Raises:
      InputError: ``workdir`` holds a run of another configuration, or is no run's folder. A run may
        differ in the fields of ``config.MAY_CHANGE``; more ``steps`` extend it.
    """
    check_folder(workdir)
    data = user_path(config.data)
    if config.data not in BY_NAME and data.is_dir() and workdir.resolve().is_relative_to(data.resolve()):
        raise InputError(f"{workdir} lies among the images of {data}, and its pictures would be learned too: give another --workdir")
    if (workdir / "config.json").exists():
        if different := config.differences(Config.load(workdir / "config.json")):
            raise InputError(
                f"{workdir} holds a run with another configuration: {', '.join(different)}; "
                "give these as they were, or another --workdir"
            )
    elif (workdir / FOLDER).is_dir():
        raise InputError(f"{workdir} has checkpoints but no config.json: give another --workdir")


@contextlib.contextmanager
def run_folder(config: Config, workdir: Path, store: Store) -> Iterator[None]:
    """Hold the folder, with the configuration in it. Of several processes the first does this for all.

    Raises:
      InputError: it is in use, holds another run, or is not one folder for all processes.
    """
    if jax.process_index() > 0:
        _require_shared(workdir, peers.exchange(None)[0])
        yield
        return
    in_use = f"{workdir} is in use by another process: wait until it ends, or give another --workdir"
    with locked(workdir / ".lock", refusal=in_use):
        check_workdir(config, workdir)  # again: somebody may have been quicker
        _check_images(config, workdir, store)
        settings = workdir / "config.json"
        steps = Config.load(settings).steps if settings.exists() else 0
        with writing(workdir):
            for left in workdir.glob(f"{_TOKEN}*"):  # by a killed process
                left.unlink()
            with tempfile.NamedTemporaryFile(dir=workdir, prefix=_TOKEN) as token:
                _require_shared(workdir, peers.exchange(Path(token.name).name)[0])
            write_text(workdir / IMAGES, json.dumps({"count": len(store), "sha256": store.digest}) + "\n")
            write_text(settings, dataclasses.replace(config, steps=max(steps, config.steps)).to_json())
        yield


def _require_shared(workdir, token):
    """
    Raises:
      InputError: a process does not see in ``workdir`` what the first has put there.
    """
    end = time.monotonic() + _SEEN_SECONDS
    while not (found := (workdir / token).exists()) and time.monotonic() < end:
        time.sleep(1)
        if workdir.parent.is_dir():
            os.listdir(workdir.parent)  # so that a network's disk looks anew
    seen = peers.exchange(found)
    if not all(seen):
        raise InputError(f"process {seen.index(False)} has another {workdir}: all processes need one folder that they share")


def _check_images(config, workdir, store):
    """
    Raises:
      InputError: the run in ``workdir`` has learned other images.
    """
    path = workdir / IMAGES
    if not path.exists():
        return
    try:
        with reading(path):
            about = json.loads(path.read_text())
        count, digest = about["count"], about["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {error}): delete it, if the images are the same") from None
    if digest != store.digest:
        raise InputError(
            f"{config.data} has other images than when {workdir} was started ({len(store)} now, {count} then): bring "
            f"those back, give another --workdir, or delete {path} to go on with these"
        )
