"""Bring back a run whose path had ``[``, ``]`` or ``\\``: ``python experiments/mend_checkpoints.py RUN COPY``.

Earlier versions could not read the checkpoints that they wrote there: Orbax did not find its own parts, and never
merged them. All numbers are in these parts. They become the checkpoint in COPY, a new folder whose path has no such
characters, and get new checksums. RUN stays as it is. At the end each checkpoint is read.
"""

import json
import shutil
import sys
import zlib
from pathlib import Path

from dcgan_jax import restore_state
from dcgan_jax.run.folder import RunFolder


def mend(place: Path, written: Path) -> None:
    """Make a checkpoint whole.

    Args:
      place: the copy of the checkpoint.
      written: where it was, before it was renamed.
    """
    # TensorStore took ``\\`` for ``/``, and wrote the parts to a folder beside the run.
    elsewhere = Path(str(written).replace("\\", "/")).with_name(f"{written.name}.partial.orbax-checkpoint-tmp")
    if not (parts := place / "ocdbt.process_0").exists():
        shutil.copytree(elsewhere / parts.name, parts)
    if not (place / "manifest.ocdbt").exists():
        for path in list(parts.iterdir()):
            path.rename(place / path.name)
        parts.rmdir()
    manifest = place / "manifest.json"
    about = json.loads(manifest.read_text())
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "_CHECKPOINT_METADATA"]
    files.remove(manifest)
    about["checksums"] = {path.relative_to(place).as_posix(): zlib.crc32(path.read_bytes()) for path in files}
    manifest.write_text(json.dumps(about))


def main(run: Path, copy: Path) -> None:
    """Copy the run, make its checkpoints whole, and read them."""
    shutil.copytree(run, copy)
    for step in RunFolder(copy).complete_steps():
        mend(RunFolder(copy).manifest(step).parent, RunFolder(run.absolute()).manifest(step).parent)
        print(f"step {int(restore_state(copy, step).step)} is whole")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
