"""What a run tells: metrics.jsonl, TensorBoard, the progress bar, sample grids, loss curves."""

import contextlib
import errno
import json
import math
import re
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import reading, write_text, writing
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.views.grid import grid, save_png

METRICS, BOARD, SAMPLES, PROGRESS = "metrics.jsonl", "tensorboard", "samples", "progress.png"


def read_metrics(workdir: Path) -> list[dict]:
    """The lines of ``metrics.jsonl``, oldest first; none if there is no such file.

    A last line without its end, which a killed run can leave, does not count.

    Raises:
      InputError: a line is damaged; names it.
    """
    path = Path(workdir) / METRICS
    lines = []
    with reading(path):
        texts = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            values = json.loads(text)
            lines.append({"step": int(values.pop("step")), **{name: float(value) for name, value in values.items()}})
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise InputError(f"{path}, line {number} is damaged ({type(error).__name__}: {error}): remove it") from None
    return lines


class NoLog:
    """The log of a process that is not the first of its run: takes the calls of a ``RunLog`` and does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        return lambda *_: None


class RunLog:
    """Writes into one run folder.

    Opened at ``start``, the number of steps already taken, it first drops what an interrupted run
    wrote beyond that step.

    Raises:
      InputError: from all of its methods, when something cannot be written.
    """

    def __init__(self, workdir: Path, *, start: int, steps: int, batch_size: int):
        self._folder = Path(workdir)
        kept = [line for line in read_metrics(workdir) if line["step"] <= start]
        with self._writing(SAMPLES):
            (self._folder / SAMPLES).mkdir(parents=True, exist_ok=True)
            for path in (self._folder / SAMPLES).iterdir():
                if (sheet := re.fullmatch(r"step_(\d+)\.png", path.name)) and int(sheet[1]) > start:
                    path.unlink()
        self._curves = {name: [line.get(name, math.nan) for line in kept] for name in ("step", "loss_D", "loss_G")}
        with self._writing(METRICS):
            write_text(self._folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
            self._metrics = open(self._folder / METRICS, "a", buffering=1)
        with self._writing(BOARD):
            self._board = tf.summary.create_file_writer(str(self._folder / BOARD))
        self._bar = tqdm(
            total=steps * batch_size, initial=start * batch_size, unit="img", unit_scale=True, dynamic_ncols=True,
            disable=start >= steps,
        )  # fmt: skip
        self._batch_size = batch_size
        self._compiled = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()
        with self._writing(METRICS):
            self._metrics.close()
        with self._writing(BOARD):
            self._board.close()

    @contextlib.contextmanager
    def _writing(self, name):
        with writing(self._folder / name):
            try:
                yield
            except tf.errors.OpError as error:  # which does not tell its number
                number = errno.ENOSPC if "No space left" in error.message else errno.EIO
                raise OSError(number, error.message.splitlines()[0]) from error

    def say(self, message: str) -> None:
        """Print a line above the progress bar."""
        self._bar.write(printable(message))

    def advance(self) -> None:
        """Count one step on the progress bar. Its clock starts after the first, which compiles."""
        if self._compiled:
            self._bar.update(self._batch_size)
        else:
            self._compiled = True
            self._bar.initial += self._batch_size
            self._bar.n = self._bar.last_print_n = self._bar.initial
            self._bar.unpause()

    def metrics(self, step: int, values: dict[str, float], images_per_second: float | None) -> None:
        """Record the metrics of a step. The speed goes to TensorBoard only: metrics.jsonl holds nothing
        that a second run of the same configuration would not repeat."""
        with self._writing(METRICS):
            self._metrics.write(json.dumps({"step": step, **values}) + "\n")
        for name in self._curves:
            self._curves[name].append(values.get(name, step))
        self._bar.set_postfix(loss_D=f"{values['loss_D']:.3f}", loss_G=f"{values['loss_G']:.3f}")
        with self._writing(BOARD), self._board.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            if images_per_second:
                tf.summary.scalar("images_per_second", images_per_second)

    def reals(self, images: np.ndarray) -> None:
        """Save up to 20 uint8 images of the data set as 4x5: the chapter's first look at its data."""
        self._save(f"{SAMPLES}/reals.png", grid(images[:20], columns=5))

    def samples(self, step: int, images) -> None:
        """Save generated images (N, H, W, C) in [-1, 1] as a grid, and the curves above the first 3x7."""
        images = to_uint8(images)
        sheet = grid(images, columns=8)
        self._save(f"{SAMPLES}/step_{step:06d}.png", sheet)
        with self._writing(BOARD), self._board.as_default(step=step):
            tf.summary.image("samples", sheet[None])
        self.progress(step, images)

    def progress(self, step: int, images: np.ndarray) -> None:
        """Save the curves so far above a grid of uint8 images (N, H, W, C)."""
        from matplotlib.figure import Figure  # no pyplot: no global state, no display

        figure = Figure(figsize=(7, 8), layout="constrained")
        curves, pictures = figure.subplots(2, 1, height_ratios=(1, 1.2))
        curves.plot(self._curves["step"], self._curves["loss_D"], label="discriminator")
        curves.plot(self._curves["step"], self._curves["loss_G"], "--", label="generator")
        curves.set(xlabel="step", ylabel="loss")
        curves.legend()
        curves.grid(alpha=0.3)
        pictures.imshow(grid(images[:21], columns=7), cmap="gray", vmin=0, vmax=255)
        pictures.set_title(f"step {step}")
        pictures.axis("off")
        with self._writing(PROGRESS):
            figure.savefig(self._folder / PROGRESS, dpi=110)

    def _save(self, name, sheet):
        with self._writing(name):
            save_png(self._folder / name, sheet)
