"""What a run writes and prints: metrics.jsonl, TensorBoard, the progress bar, sample grids, loss curves."""

import contextlib
import importlib
import io
import json
import math
import os
import platform
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

import dcgan_jax
from dcgan_jax.config import Config
from dcgan_jax.data.store import Store
from dcgan_jax.gan import conv_amx
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import COLUMNS
from dcgan_jax.run.board import Board
from dcgan_jax.run.doctor import Finding, best, findings
from dcgan_jax.run.folder import RunFolder, thinned
from dcgan_jax.run.history import cut
from dcgan_jax.run.verdict import in_short, summary
from dcgan_jax.system.disk import writing
from dcgan_jax.system.errors import printable
from dcgan_jax.system.files import read_bytes, write_text
from dcgan_jax.system.progress import SECONDS, kernel, say_progress, watched
from dcgan_jax.views.curves import save_progress
from dcgan_jax.views.grid import grid, save_png, visible

GRIDS = 200  # how many sample grids a run may have


def say(message: str) -> None:
    """Print a line above the progress bar, at once, where a file or a container takes it too."""
    tqdm.write(printable(message))
    sys.stdout.flush()


def save_reals(folder: RunFolder, config: Config, store: Store) -> None:
    """Save the first 20 images, or fewer, as 4x5: the chapter's first plot of its data."""
    with writing(folder.reals):
        folder.samples.mkdir(parents=True, exist_ok=True)
        reals = visible(store.take_uint8(range(min(20, len(store)))), config.show)
        save_png(folder.reals, grid(reals, columns=5))


class _Live:
    """In a notebook, shows a picture below the cell, in place of the one before; elsewhere does nothing."""

    def __init__(self):
        self._display = importlib.import_module("IPython.display") if kernel() else None
        self._handle = None

    def show(self, path):
        if self._display:
            buffer = io.BytesIO()  # it stays in the notebook's file
            with Image.open(io.BytesIO(read_bytes(path))) as image:
                image.thumbnail((600, 700))
                image.convert("RGB").quantize(128).save(buffer, "PNG")
            picture = self._display.Image(buffer.getvalue())
            if self._handle is None:
                self._handle = self._display.display(picture, display_id=True)
            else:
                self._handle.update(picture)


class RunLog:
    """Writes to one run folder, whose data set has ``images`` images; only the first process of a run makes one.

    It first removes what an interrupted run wrote after step ``start``, the number of steps already
    taken.

    Raises:
      InputError: all methods, when something cannot be written.
    """

    def __init__(self, folder: RunFolder, config: Config, *, start: int, images: int):
        self._folder, self._config, self._images = folder, config, images
        self._timings = folder.timings() if start else []
        cut(folder.metrics, start)
        self._history = folder.history()
        self._said = {finding.name for finding in self._findings()}
        with writing(folder.samples):
            folder.samples.mkdir(parents=True, exist_ok=True)
            for path in folder.samples.iterdir():
                if (sheet := re.fullmatch(r"step_(\d+)\.png", path.name)) and int(sheet[1]) > start:
                    path.unlink()
        with contextlib.ExitStack() as opened:
            with writing(folder.metrics):
                self._metrics = opened.enter_context(folder.metrics.open("a", buffering=1))
            self._board = Board(folder.board, self._history.lines, folder.grids())
            opened.pop_all()  # closed at the end of the run
        self._bar = None
        self._said_where = time.monotonic()
        self._began = time.perf_counter()
        units = config.precision == "bf16" and conv_amx.fit(config.batch_size, config.outer_width)
        self._timing = {"start": start, **machine(), "matrix_units": units and conv_amx.usable()}
        self._live = _Live()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()
        with writing(self._folder.metrics):
            self._metrics.close()
        self._board.close()

    def sync(self) -> None:
        """Have the metrics on the disk: a checkpoint that is saved later has them behind it."""
        with writing(self._folder.metrics):
            os.fsync(self._metrics.fileno())

    def advance(self, step: int) -> None:
        """Move the progress bar to ``step``. Its clock starts with the first call, after compilation."""
        size = self._config.batch_size
        if self._bar is None:
            self._bar = tqdm(
                total=self._config.steps * size,
                initial=step * size,
                unit="img",
                unit_scale=True,
                dynamic_ncols=True,
                disable=not watched(),
            )
        else:
            self._bar.update(step * size - self._bar.n)

    def metrics(self, step: int, values: dict[str, float], images_per_second: float | None) -> None:
        """Record the metrics of a step.

        The speed goes to TensorBoard only: metrics.jsonl is the same for every run of a configuration."""
        line = {"step": step, **values}
        with writing(self._folder.metrics):
            self._metrics.write(json.dumps(line) + "\n")
        self._history.add(line)
        if self._bar is not None and "loss_D" in line:
            self._bar.set_postfix(loss_D=f"{values['loss_D']:.3f}", loss_G=f"{values['loss_G']:.3f}")
        if not watched():
            self._say_where(line, images_per_second or 0)
        if "kid" in values:
            say(f"step {step}: {in_short(line)}")
            for finding in self._findings():
                if finding.name not in self._said:  # once is enough
                    self._said.add(finding.name)
                    say(f"step {step}: {finding.text}")
        speed = {"images_per_second": images_per_second} if images_per_second else {}
        self._board.scalars(step, {**values, **speed})

    def _say_where(self, line, images_per_second):
        """A line for each evaluation, for the end, and else one in half a minute."""
        step, last, now = line["step"], self._config.steps, time.monotonic()
        if "kid" in line or step == last or now - self._said_where >= SECONDS:
            self._said_where = now
            losses = ", ".join(f"{name} {line[name]:.3f}" for name in ("loss_D", "loss_G") if name in line)
            left = (last - step) * self._config.batch_size
            say_progress(
                f"step {step:,} of {last:,}{losses and f': {losses}'}", left=left, per_second=images_per_second
            )

    def _findings(self) -> list[Finding]:
        return findings(self._history.lines, images=self._images)

    def summary(self) -> list[str]:
        """What there is to say at the end: the best step, how good it is, what is wrong, and what to do next."""
        history = self._history
        return summary(history.lines, self._config, images=self._images, evaluations=history.evaluations)

    def other_arithmetic(self) -> str:
        """What the run began with that is another now and rounds differently, as text; empty if nothing is, or it is
        not known."""
        began, now = (_arithmetic(start) for start in ((self._timings or [{}])[0], self._timing))
        names = [name for name in now if began.get(name, now[name]) != now[name]]
        return ", ".join(f"{name} {began[name]} (now {now[name]})" for name in names)

    def timing(self, step: int, images_per_second: float | None) -> None:
        """Record in timing.json how long this start of the run has taken up to ``step``, and on what machine."""
        seconds = round(time.perf_counter() - self._began, 1)
        now = {**self._timing, "step": step, "seconds": seconds, "images_per_second": images_per_second}
        with writing(self._folder.timing):
            write_text(self._folder.timing, json.dumps([*self._timings, now], indent=1) + "\n")

    def samples(self, step: int, images: jax.Array) -> np.ndarray:
        """Save images (N, H, W, C) in [-1, 1], those of ``sheet``, as a grid, and the curves above some of them.

        Returns:
          The grid: uint8 (H, W, C).
        """
        sheet = grid(visible(to_uint8(images), self._config.show), columns=COLUMNS)
        path, every = self._folder.grid(step), self._config.sample_every
        with writing(path):
            save_png(path, sheet)
            self._thin_grids()
        if step <= 5 * every or thinned([step], every=every, most=GRIDS // 2):  # ever more seldom
            self._board.picture(step, path)
        if self._history.lines:  # no empty axes
            self.progress(step, images)
        return sheet

    def _thin_grids(self):
        grids = self._folder.grids()
        steps = list(grids)
        if len(steps) > GRIDS:
            stay = {*steps[:5], steps[-1], *thinned(steps, every=self._config.sample_every, most=GRIDS // 2)}
            for step, path in grids.items():
                if step not in stay:
                    path.unlink()

    def progress(self, step: int, images: jax.Array) -> None:
        """Save the curves so far above the first 3x7 images (N, H, W, C) in [-1, 1]; of a conditional run, whose rows
        are classes, above 7 of each row of the first six."""
        if self._config.conditional:
            images = images.reshape(-1, COLUMNS, *images.shape[1:])[:6, :7].reshape(-1, *images.shape[1:])
        else:
            images = images[:21]
        names = ("step", "loss_D", "loss_G", "kid", "kid_floor")
        curves = {name: [line.get(name, math.nan) for line in self._history.lines] for name in names}
        top = best(evaluated)["step"] if (evaluated := self._history.evaluated) else 0
        sheet = grid(visible(to_uint8(images), self._config.show), columns=7)
        with writing(self._folder.progress):
            save_progress(self._folder.progress, curves, sheet, step=step, best=top)
        self._live.show(self._folder.progress)


def _arithmetic(start):
    """What decides how the sums of a run are rounded, of one of its starts."""
    versions = start.get("versions", {})
    return {
        **{name: versions[name] for name in ("dcgan_jax", "jax", "jaxlib") if name in versions},
        **({"processor": start["processor"]} if "processor" in start else {}),
        **({"matrix units": "used" if start["matrix_units"] else "not used"} if "matrix_units" in start else {}),
    }


def machine() -> dict[str, Any]:
    """The hardware and the versions that a run uses."""
    names = Path("/proc/cpuinfo")  # elsewhere Python knows the name
    models = (
        re.findall("model name\\s*: (.*)", read_bytes(names, start=1 << 16).decode(errors="replace"))
        if names.exists()
        else []
    )
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "versions": {
            "Python": platform.python_version(),
            "dcgan_jax": dcgan_jax.__version__,  # also of a checkout that is not installed
            **{name: version(name) for name in ("jax", "jaxlib", "flax", "optax")},
        },
    }
