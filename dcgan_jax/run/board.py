"""What TensorBoard shows of a run, written without TensorFlow."""

import contextlib
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from tensorboardX import RecordWriter  # pyright: ignore[reportMissingImports]
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore  # made when imported
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore  # made when imported

from dcgan_jax.system.disk import writing
from dcgan_jax.system.files import read_bytes

_OURS = ".dcgan_jax"  # the end of the name of our files: others may lie beside them
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # by the kind of colours of a PNG file
_GRIDS = 10  # from earlier starts: TensorBoard shows no more unless told otherwise


class Board:
    """The event file of a run, written anew at each start.

    It begins with what is kept of the metrics and the samples of earlier starts, and replaces their files, which may go
    on after the step that the run resumes from. Of these events TensorBoard shows the time of this start.

    Args:
      folder: made if it does not exist. Files of other programs in it stay.
      lines: the metrics so far, each with its ``step``.
      grids: the PNG files of samples so far, by step. Ten of them are shown.

    Raises:
      InputError: all methods, when it cannot be written.
    """

    def __init__(self, folder: Path, lines: Iterable[Mapping[str, float]], grids: Mapping[int, Path]):
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            before = list(folder.glob(f"events.out.tfevents.*{_OURS}"))
            name = f"events.out.tfevents.{time.time_ns()}{_OURS}"
            self._file = RecordWriter(str(folder.absolute() / name))  # of a relative path it may make an address
            try:
                self._begin(lines, grids)
            except BaseException:
                with contextlib.suppress(OSError):  # the same again
                    self._file.close()
                raise
            for path in before:
                path.unlink()

    def _begin(self, lines, grids):
        self._file.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        for line in lines:
            self._add(int(line["step"]), _scalars(line))
        steps = list(grids)
        for i in sorted({*np.linspace(0, len(steps) - 1, min(_GRIDS, len(steps))).round().astype(int).tolist()}):
            self._add(steps[i], _picture(grids[steps[i]]))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with writing(self._folder):
            self._file.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a step, by name."""
        with writing(self._folder):
            self._add(step, _scalars(values))
            self._file.flush()

    def picture(self, step: int, path: Path) -> None:
        """Add a PNG file."""
        with writing(self._folder):
            self._add(step, _picture(path))
            self._file.flush()

    def _add(self, step, values):
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._file.write(event.SerializeToString())


def _scalars(values):
    return [Summary.Value(tag=name, simple_value=value) for name, value in values.items() if name != "step"]


def _picture(path):
    png = read_bytes(path)
    if len(png) < 26 or png[:8] != b"\x89PNG\r\n\x1a\n":  # damaged: left out
        return []
    (width, height), channels = struct.unpack(">II", png[16:24]), _CHANNELS.get(png[25], 3)
    shown = Summary.Image(width=width, height=height, colorspace=channels, encoded_image_string=png)
    return [Summary.Value(tag="samples", image=shown)]
