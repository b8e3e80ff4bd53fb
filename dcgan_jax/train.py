"""Train a DCGAN: ``python -m dcgan_jax.train --workdir runs/``.

The same command again goes on where the last one stopped. Exit codes: 0 done, 2 something to mend,
3 diverged, 75 another process of the run was lost, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import dataclasses
from pathlib import Path

from dcgan_jax import cli
from dcgan_jax.system.cluster import Cluster
from dcgan_jax.config import Config


@dataclasses.dataclass(frozen=True)
class Arguments:
    workdir: Path
    """Folder of the run: its configuration, metrics, samples and checkpoints."""
    config: Config = Config()
    cluster: Cluster = Cluster()


def run(arguments: Arguments) -> None:
    """Train on all devices of all processes of the cluster."""
    arguments.cluster.join()
    from dcgan_jax.run.loop import train  # here, so that `--help` and mistakes answer at once

    train(arguments.config, arguments.workdir)


def main(default: Config = Config(), description: str | None = None) -> None:
    """The command line, with ``default`` giving the values of the flags that are not set."""
    arguments = cli.parse(Arguments, description=description or __doc__, config=default)
    cli.keep_memory()
    cli.run(run, arguments)


if __name__ == "__main__":
    main()
