"""A tree of arrays as files, by Orbax."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dcgan_jax.system.errors import first_line


class DamagedError(Exception):
    """What was read is not what was written."""


def named_leaves(tree: Any) -> Iterator[tuple[str, Any]]:
    """The name of each array, such as ``generator/params/...``, and the array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _orbax() -> ocp.Checkpointer:
    me = jax.process_index()  # the first process alone reads and writes, or whoever calls ``restore``
    alone = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone)


@contextlib.contextmanager
def _plainly(folder: Path) -> Iterator[Path]:
    """A path of an existing folder that Orbax takes as it is.

    In others Orbax reads ``[`` as a pattern, and TensorStore ``\\`` as ``/`` and no names that are not UTF-8.
    """
    if re.fullmatch(r"[\w/., =+@~-]+", str(folder)) or not Path("/proc/self/fd").exists():
        yield folder
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        yield Path(f"/proc/self/fd/{number}")
    finally:
        os.close(number)


def write_tree(place: Path, tree: Any) -> None:
    """Write a tree of arrays to the new folder ``place``, and read it back.

    Raises:
      DamagedError: what was read is not what was written.
    """
    with _plainly(place.parent.absolute()) as parent, _orbax() as orbax:
        orbax.save(parent / place.name, args=ocp.args.PyTreeSave(tree))
    if not jax.tree.all(jax.tree.map(np.array_equal, read_tree(place, tree), tree)):
        raise DamagedError("other values were read back than were written")


def read_tree(place: Path, tree: Any) -> Any:
    """Read a tree of arrays like ``tree``: the same names, shapes and types.

    Raises:
      DamagedError: there is no such tree.
    """
    to_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    arguments = ocp.args.PyTreeRestore(item=tree, restore_args=to_numpy, partial_restore=True)
    try:
        with _plainly(place.absolute()) as path, _orbax() as orbax:
            values = orbax.restore(path, args=arguments)
    except FileNotFoundError as error:
        raise DamagedError(first_line(error)) from error
    except (OSError, MemoryError):  # which says nothing about the files
        raise
    except Exception as error:  # Orbax and TensorStore raise errors of many classes
        raise DamagedError(f"Orbax cannot read it: {first_line(error)[:120]}") from error
    wanted, read = ({name: (x.shape, x.dtype) for name, x in named_leaves(part)} for part in (tree, values))
    if wanted != read:
        different = sorted(name for name in wanted.keys() | read.keys() if wanted.get(name) != read.get(name))
        raise DamagedError(f"{different[0]} has another shape or type")
    return values
