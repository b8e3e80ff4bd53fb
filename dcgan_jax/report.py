"""Show a run as one page, or two runs side by side: ``python -m dcgan_jax.report --workdir runs/``.

The page is a single file that loads nothing, so it can be passed on. ``train`` writes it at the end of a run too."""

import dataclasses
from pathlib import Path

from dcgan_jax import cli


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``report``."""

    workdir: Path
    """Folder of the run."""
    against: Path | None = None
    """Folder of a second run, shown beside it: which is better, and the curves of both over each other."""
    out: Path | None = None
    """The file to write; by default report.html in the run's folder, or comparison.html for two runs."""


def run(arguments: Arguments) -> None:
    """Write the page and name it with its size.

    Raises:
      InputError: a folder is no run, something in it is damaged, or the file cannot be written.
    """
    from dcgan_jax.run.report import report

    out = report(arguments.workdir, against=arguments.against, out=arguments.out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser")


def main() -> None:
    """Read the command line and write the page."""
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
