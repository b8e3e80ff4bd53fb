"""All devices of all processes: joining, comparing, and the shardings of a data-parallel run.

Each device has its share of a batch and a copy of the state. The program is written for one device, and
XLA adds the sums across devices: gradients, losses and BatchNorm's statistics are those of the whole
batch. Only the first process uses the run folder; it sends the others what it reads.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from dcgan_jax.system.errors import (
    InputError,
    NonFiniteError,
    Stopped,
    first_line,
)

if TYPE_CHECKING:
    from jax.sharding import NamedSharding

HEARTBEAT_SECONDS = 30
"""After so long without a sign of one process, the others end."""
_JOIN_SECONDS = 300
_START_SECONDS = 24 * 3600  # how long one process may prepare its images: if it dies, all end
_TEXT_BYTES = 1 << 14


@dataclasses.dataclass(frozen=True)
class Cluster:
    """How this process finds the others of its run. By default there are none."""

    distributed: bool = False
    """One of several processes started by SLURM, Open MPI, Kubernetes or a TPU pod, which provides the other flags."""
    coordinator: str | None = None
    """HOST:PORT of process 0, the same in every process, if none of these started them."""
    num_processes: int | None = None
    """Number of processes, with --coordinator."""
    process_id: int | None = None
    """Number of this process, from 0, with --coordinator."""

    def __post_init__(self):
        given = [value is not None for value in (self.coordinator, self.num_processes, self.process_id)]
        if self.distributed and any(given):
            raise InputError(
                "--distributed finds the coordinator itself: leave it out, or --coordinator, --num-processes and "
                "--process-id"
            )
        if any(given) and not all(given):
            raise InputError("--coordinator, --num-processes and --process-id belong together: give all three")
        if self.coordinator is None or self.num_processes is None or self.process_id is None:
            return
        port = re.fullmatch(r".+:(\d{1,5})", self.coordinator)
        if not port or not 0 < int(port[1]) < 2**16:
            raise InputError(f"coordinator {self.coordinator!r} is not of the form HOST:PORT, such as 10.0.0.1:1234")
        if self.num_processes < 1:
            raise InputError(f"num_processes {self.num_processes} must be at least 1")
        if not 0 <= self.process_id < self.num_processes:
            raise InputError(
                f"process_id {self.process_id} must lie in [0, num_processes), which is {self.num_processes}"
            )

    def join(self) -> None:
        """Connect to the other processes, before JAX is used. Until then Ctrl-C and SIGTERM end this one at once.

        Raises:
          InputError: no cluster was found, or not all processes joined within five minutes.
        """
        if not self.distributed and self.coordinator is None:
            return
        import jax

        print(f"waiting for the other processes, {_JOIN_SECONDS // 60} minutes at most", file=sys.stderr)
        jax.config.update("jax_enable_preemption_service", True)  # handles SIGTERM from here on
        interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.num_processes,
                self.process_id,
                coordinator_bind_address=self.coordinator,  # the address given, not all interfaces
                initialization_timeout=_JOIN_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            )
            jax.devices()  # the processes tell each other which devices they have
        except ValueError as error:
            raise InputError(
                f"--distributed: neither SLURM, Open MPI, Kubernetes nor a TPU pod was found ({first_line(error)}): "
                "give --coordinator, --num-processes and --process-id in its place"
            ) from None
        except RuntimeError as error:
            raise InputError(
                f"could not join the other processes: {first_line(error)}. Make sure that all were started, with the "
                "same --num-processes and each with its own --process-id"
            ) from None
        finally:
            signal.signal(signal.SIGINT, interrupt)
        agree({"num_processes": self.num_processes})


def joined() -> bool:
    """Whether this is one of several processes. Does not import JAX."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


_meetings = itertools.count()


def meet() -> None:
    """Wait until all processes have called this. All must call it equally often."""
    if joined():
        import jax
        import orbax.checkpoint as ocp

        everybody = set(range(jax.process_count()))  # if named, they wait without a collective, which times out soon
        name = f"dcgan_jax {next(_meetings)}"
        ocp.multihost.sync_global_processes(name, timeout=_START_SECONDS, processes=everybody)


def agree(what: dict[str, Any]) -> None:
    """Wait for all processes, and check that they agree.

    Args:
      what: what must be the same in all; anything that JSON can hold.

    Raises:
      InputError: they differ; the message says in what.
    """
    if not joined():
        return
    import jax
    from jax.experimental import multihost_utils

    devices = Counter(device.process_index for device in jax.devices())
    if len(set(devices.values())) > 1:
        _refuse("number of devices", [devices[process] for process in range(jax.process_count())])
    meet()
    text = json.dumps(what).encode().ljust(_TEXT_BYTES)
    what = json.loads(text)  # as the others' values come back: a tuple as a list
    texts = multihost_utils.process_allgather(np.frombuffer(text, np.uint8))
    values = [json.loads(text.tobytes()) for text in texts]
    for name in what:
        if any(value[name] != what[name] for value in values):
            _refuse(name, [value[name] for value in values])


def _refuse(name, values):
    import jax

    jax.distributed.shutdown()  # all are here: each then ends by itself, with its message and exit code
    theirs = ", ".join(f"{value!r} in process {process}" for process, value in enumerate(values[:8]))
    raise InputError(f"the processes of the run differ in {name}: {theirs}")


def from_first(tree: Any) -> Any:
    """The arrays of ``tree`` as the first process has them, in all."""
    if not joined():
        return tree
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(tree)


_asked = itertools.count()
_stopping = False


def stop_announced() -> bool:
    """Whether all processes stop after this step, because one of them was sent SIGTERM. Call it after each step."""
    from jax.experimental import multihost_utils

    global _stopping
    # JAX needs a count from 0 that never goes back, as the steps of a run may. It answers yes only once.
    _stopping = multihost_utils.reached_preemption_sync_point(next(_asked)) or _stopping
    return _stopping


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Wait for all processes at the end of a block that they end in the same way."""
    try:
        yield
    except (NonFiniteError, Stopped):
        meet()
        raise
    meet()


def leave(code: int) -> NoReturn:
    """End this process at once. JAX would first wait for the others, which wait for this one."""
    import jax

    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(1)  # the others end when it does, and may have messages, too
    os._exit(code)


def shardings() -> tuple["NamedSharding", "NamedSharding"]:
    """The shardings ``(replicated, split)`` on all devices: copied to each, or split along the first axis."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(jax.devices(), ("data",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def replicated(tree: Any) -> Any:
    """Copy each array to all devices of all processes. Every process must have it."""
    import jax

    everywhere = shardings()[0]
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(everywhere, x), tree)


def local(tree: Any) -> Any:
    """This process's first copy of replicated arrays, for programs that run on one device."""
    import jax

    return jax.tree.map(lambda x: x.addressable_data(0), tree)
