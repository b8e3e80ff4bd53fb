"""All devices of all processes: joining a cluster, the shardings of a data-parallel run, and agreement.

Each device has its share of a batch and a copy of the state. XLA adds the sums across devices that
the program, written for one device, implies: gradients, losses and BatchNorm's statistics are those
of the whole batch.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

from dcgan_jax.errors import InputError, LostPeerError, first_line

HEARTBEAT_SECONDS = 30
"""A process that is not heard of for so long is given up, and the others end."""
_JOIN_SECONDS = 300
_PREPARE_SECONDS = 24 * 3600
_LOST = re.compile("gloo|nccl|coordination|heartbeat|barrier|connection|unavailable|deadline|peer", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How this process finds the others of its run. By default there are none."""

    distributed: bool = False
    """One of several processes started by SLURM, Open MPI, Kubernetes or a TPU pod, which tells the rest."""
    coordinator: str | None = None
    """HOST:PORT of process 0, the same in every process, where none of these started them."""
    num_processes: int | None = None
    """How many processes, with --coordinator."""
    process_id: int | None = None
    """Which of them this is, from 0, with --coordinator."""

    def __post_init__(self):
        given = [value is not None for value in (self.coordinator, self.num_processes, self.process_id)]
        if any(given) and not all(given):
            raise InputError("--coordinator, --num-processes and --process-id belong together: give all three")
        if self.coordinator is not None:
            if self.distributed:
                raise InputError("--distributed finds the coordinator itself: leave out the one or the other")
            if not re.fullmatch(r".+:\d{1,5}", self.coordinator):
                raise InputError(f"coordinator {self.coordinator!r} is not of the form HOST:PORT, such as 10.0.0.1:1234")
            if self.num_processes < 1 or not 0 <= self.process_id < self.num_processes:
                raise InputError(f"process_id {self.process_id} must lie in [0, num_processes), which is {self.num_processes}")

    def join(self) -> None:
        """Connect to the other processes, before JAX is used.

        Raises:
          InputError: no cluster was found, or not all came within five minutes.
        """
        if not self.distributed and self.coordinator is None:
            return
        import jax

        print(f"waiting for the other processes, {_JOIN_SECONDS // 60} minutes at most", file=sys.stderr)
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.num_processes,
                self.process_id,
                initialization_timeout=_JOIN_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except ValueError as error:
            raise InputError(
                f"--distributed: neither SLURM, Open MPI, Kubernetes nor a TPU pod was found ({error}): "
                "give --coordinator, --num-processes and --process-id"
            ) from None
        except RuntimeError as error:
            raise InputError(f"could not join the other processes: {first_line(error)}") from None


def joined() -> bool:
    """Whether this is one of several processes. Does not import JAX."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def leave(code: int, together: bool) -> NoReturn:
    """Exit with ``code``: ``together`` with the other processes, if there are any, or without waiting for
    them, who may be gone or know nothing of it."""
    if joined() and not together:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise SystemExit(code)


def shardings():
    """Where arrays live on the mesh of all devices: ``(replicated, split)``, copied to each or split
    along the first axis."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(jax.devices(), ("data",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def local(tree: Any) -> Any:
    """This process's first copy of replicated arrays, for programs that run on one device."""
    import jax

    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def agree(what: dict[str, str]) -> None:
    """Wait for all processes, however long one takes to prepare its images, and compare.

    Raises:
      InputError: another process has other values; names the first that differ.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    # Collectives give up after half a minute. JAX has this barrier, but no public name for it.
    from jax._src import distributed

    distributed.global_state.client.wait_at_barrier("prepared", _PREPARE_SECONDS * 1000)
    for name, value in what.items():
        digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
        digests = multihost_utils.process_allgather(digest)
        if len(np.unique(digests, axis=0)) > 1:
            raise InputError(f"the processes of the run do not have the same {name}")


_asked = itertools.count()


def stop_announced() -> bool:
    """Whether this is the step after which all processes stop, because one of them was sent SIGTERM.

    To be asked by each process that has joined, after each step.
    """
    from jax.experimental import multihost_utils

    # JAX counts from 0 and never back, as a run that is resumed or rolled back does not.
    return multihost_utils.reached_preemption_sync_point(next(_asked))


@contextlib.contextmanager
def peers() -> Iterator[None]:
    """
    Raises:
      LostPeerError: what failed in the block is the connection to another process.
    """
    import jax

    try:
        yield
    except (ValueError, RuntimeError) as error:  # JAX's collectives raise either
        if jax.process_count() == 1 or not _LOST.search(str(error)):
            raise
        raise LostPeerError(
            f"another process of the run was lost: {first_line(error)}. Start all of them again: "
            "they go on from the last checkpoint"
        ) from error
