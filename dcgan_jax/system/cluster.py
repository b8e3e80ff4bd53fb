"""All devices of all processes: joining a cluster, and the shardings of a data-parallel run.

Each device has its share of a batch and a copy of the state. XLA adds the sums across devices that
the program, written for one device, implies: gradients, losses and BatchNorm's statistics are those
of the whole batch.
"""

import dataclasses
import re
import socket
import sys
import threading
from concurrent.futures import Future
from typing import Any

from dcgan_jax.system import peers
from dcgan_jax.system.errors import InputError, first_line

HEARTBEAT_SECONDS = 30
"""A process that is not heard of for so long is given up, and the others end."""
_JOIN_SECONDS = 300


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
            port = re.fullmatch(r".+:(\d{1,5})", self.coordinator)
            if not port or not 0 < int(port[1]) < 2**16:
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
        import jax  # noqa: F401 - by the main thread, for which a signal may look into it

        if self.process_id == 0:
            _check_port(int(self.coordinator.rpartition(":")[2]))
        print(f"waiting for the other processes, {_JOIN_SECONDS // 60} minutes at most", file=sys.stderr)
        connected = Future()
        threading.Thread(target=self._connect, args=(connected,), daemon=True).start()
        try:
            connected.result()  # here Ctrl-C is taken, as it is not by JAX
        except ValueError as error:
            raise InputError(
                f"--distributed: neither SLURM, Open MPI, Kubernetes nor a TPU pod was found ({error}): "
                "give --coordinator, --num-processes and --process-id"
            ) from None
        except RuntimeError as error:
            raise InputError(f"could not join the other processes: {first_line(error)}") from None
        peers.watch()

    def _connect(self, connected):
        import jax

        jax.config.update("jax_enable_preemption_service", False)  # comes in peers.start_together
        try:
            jax.distributed.initialize(
                self.coordinator,
                self.num_processes,
                self.process_id,
                initialization_timeout=_JOIN_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                shutdown_timeout_seconds=HEARTBEAT_SECONDS,
            )
            connected.set_result(None)
        except Exception as error:  # for the main thread
            connected.set_exception(error)


def _check_port(port):
    """JAX would share the port with another process 0, and each would get some of the others."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise InputError(
            f"port {port} cannot be had for the coordinator ({error.strerror}): is there another process 0? "
            "Give each process its own --process-id, or all another port"
        ) from None


def shardings():
    """Where arrays live on the mesh of all devices: ``(replicated, split)``, copied to each or split
    along the first axis."""
    import jax
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(jax.devices(), ("data",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


def replicated(tree: Any) -> Any:
    """A copy of each array on all devices of all processes, each of which has it."""
    import jax

    everywhere = shardings()[0]
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(everywhere, x), tree)


def local(tree: Any) -> Any:
    """This process's first copy of replicated arrays, for programs that run on one device."""
    import jax

    return jax.tree.map(lambda x: x.addressable_data(0), tree)
