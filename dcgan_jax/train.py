"""Train a DCGAN: ``python -m dcgan_jax.train --workdir runs/``.

The same command resumes a run that stopped; --workdir alone is enough then. Exit codes: 0 done, 2 an error that
you can fix, 3 diverged, 75 another process of the run was lost, 129, 130 and 143 stopped by a
closed terminal, Ctrl-C and SIGTERM.
"""

import dataclasses
from pathlib import Path

from dcgan_jax import cli
from dcgan_jax.config import Config
from dcgan_jax.system.cluster import Cluster


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``train``."""

    workdir: Path
    """Folder of the run: its configuration, metrics, samples and checkpoints."""
    config: Config = Config()
    cluster: Cluster = Cluster()


def run(arguments: Arguments) -> None:
    """Train on all devices of all processes of the cluster."""
    arguments.cluster.join()
    from dcgan_jax.run.loop import fit  # here, so that `--help` and wrong flags answer at once

    fit(arguments.config, arguments.workdir)
    where = arguments.workdir
    print(f"look at {where}/report.html, {where}/progress.png and {where}/samples/; for more pictures:")
    print(f"  python -m dcgan_jax.generate --workdir {where} --num 64 --out pictures/")


def main(recipe: Config | None = None, description: str | None = None) -> None:
    """Read the command line and train. Flags not given have the values of the run in the folder, or of ``recipe``."""
    description = description or __doc__
    arguments = cli.parse(Arguments, description=description, config=recipe or Config())
    if recipe is None:
        from dcgan_jax.run.folder import RunFolder

        with cli.endings():
            if there := RunFolder(arguments.workdir).config_if_there():
                arguments = cli.parse(Arguments, description=description, config=there)
    cli.keep_memory()
    cli.run(run, arguments)


if __name__ == "__main__":
    main()
