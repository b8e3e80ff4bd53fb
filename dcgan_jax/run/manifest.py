"""``manifest.json`` of a checkpoint: it tells a whole checkpoint from a damaged one."""

import dataclasses
import stat
import zlib
from pathlib import Path
from typing import Any

from dcgan_jax.run.trees import DamagedError, named_leaves
from dcgan_jax.system.disk import reading, writing
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import parse_json, read_bytes, write_bytes
from dcgan_jax.system.schema import checked

SCORE = "score.json"
"""The file beside a manifest that says how good the checkpoint is."""
_MOST = 16 << 20  # bytes of a manifest
_LARGEST = 1 << 40  # bytes of a file of a checkpoint


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds.

    Attributes:
      run: the name of the run.
      step: the number of steps taken.
      attempt: how often the run had been rolled back.
      checksums: CRC-32 of each other file, by its name. Orbax restores a flipped bit without an error.
      shapes: of each array, by its name.
      metrics: those of the step; of earlier versions none.
      logged: the step of the last line of metrics.jsonl that was written before it, 0 if there was none; of 0.2.0 None.
      score: how good the generator is, as earlier versions wrote it: see ``RunFolder.score``.
    """

    run: str
    step: int
    attempt: int
    checksums: dict[str, int]
    shapes: dict[str, list[int]]
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    score: list[float] | None = None
    logged: int | None = None

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """
        Raises:
          ValueError: it is damaged.
          InputError: it is no regular file, or too large.
          OSError: it cannot be read.
        """
        return checked(cls, parse_json(read_bytes(path, most=_MOST)), "manifest")

    def check_networks(self, tree: Any, place: Path) -> None:
        """Refuse the checkpoint in ``place`` if its arrays are not those of ``tree``, which may be a part of a state.

        Orbax would fill with fresh values what a checkpoint does not hold.

        Raises:
          InputError: names the first that differs.
        """
        if any(name.startswith("settings/") for name in self.shapes):
            raise InputError(
                f"{place} was written by dcgan_jax 0.1, whose checkpoints this version cannot read: start a "
                "new run in another --workdir"
            )
        wanted = {name: list(leaf.shape) for name, leaf in named_leaves(tree)}
        saved = {name: shape for name, shape in self.shapes.items() if name.split("/")[0] in tree}
        if wanted != saved:
            different = sorted(name for name in wanted.keys() | saved.keys() if wanted.get(name) != saved.get(name))
            raise InputError(
                f"{place} holds other networks: {different[0]} differs. Give the generator= and discriminator= "
                "that the run was started with"
            )


def checksums(place: Path) -> dict[str, int]:
    """CRC-32 of each file that holds a checkpoint, by its name."""
    return {name: zlib.crc32(_content(place / name)) for name in _files(place)}


def read_whole(path: Path, run: str | None, *, copy: Path | None = None) -> Manifest:
    """The manifest of a checkpoint whose files are those that were written, and no others.

    Args:
      run: the name that it must have; None if it is not known.
      copy: a folder to copy the files to.

    Raises:
      DamagedError: they are not, or it is the checkpoint of another run or step.
    """
    place = path.parent
    for entry in (place, *place.rglob("*")):
        if not (stat.S_ISREG(mode := entry.lstat().st_mode) or stat.S_ISDIR(mode)):
            raise DamagedError(f"{entry.name} is no regular file")
    try:
        with reading(path):
            manifest = Manifest.read(path)
    except ValueError as error:
        raise DamagedError(f"{path.name}: {first_line(error)}") from None
    if manifest.step != int(place.name) or run not in (None, manifest.run):
        raise DamagedError(f"it is that of step {manifest.step} of another run or place")
    names = _files(place) - {path.name, SCORE}
    if names != manifest.checksums.keys():
        raise DamagedError(f"{min(names ^ manifest.checksums.keys())} is missing, or was not saved with it")
    if "manifest.ocdbt" not in names:  # earlier versions did not read back what they wrote
        raise DamagedError("Orbax never merged its parts: experiments/mend_checkpoints.py does")
    for name, checksum in manifest.checksums.items():
        with reading(place / name):
            content = _content(place / name)
        if zlib.crc32(content) != checksum:
            raise DamagedError(f"{name} is not what was saved")
        if copy:
            with writing(copy):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                write_bytes(copy / name, content, synced=False)
    return manifest


def _files(place: Path) -> set[str]:
    """The names of all files but the one in which Orbax keeps times, which it may write later."""
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    return names - {"_CHECKPOINT_METADATA"}


def _content(path: Path) -> bytes:
    return read_bytes(path, most=_LARGEST)
