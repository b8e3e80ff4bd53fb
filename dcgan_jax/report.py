"""Show a run as one page, or two runs side by side: ``python -m dcgan_jax.report --workdir runs/``.

The page is a single file that loads nothing, so it can be passed on. ``train`` writes it at the end of a run too."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError, first_line

if TYPE_CHECKING:
    from dcgan_jax.views.report import Run


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``report``."""

    workdir: Path
    """Folder of the run."""
    against: Path | None = None
    """Folder of a second run, shown beside it with the same axes."""
    out: Path | None = None
    """The file to write; by default report.html in the run's folder, or comparison.html for two runs."""


def report(arguments: Arguments) -> None:
    """Write the page.

    Raises:
      InputError: a folder is no run, or the file cannot be written.
    """
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.run.report import write_page
    from dcgan_jax.system.cache import cache_compilations

    cache_compilations()
    folder = RunFolder(arguments.workdir)
    out = RunFolder.output(arguments.out or (folder.comparison if arguments.against else folder.report))
    runs = [_described(workdir) for workdir in (arguments.workdir, arguments.against) if workdir is not None]
    write_page(out, runs)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser")


def _described(workdir: Path) -> "Run":
    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.run.report import describe

    folder = RunFolder(workdir)
    folder.config()  # no run at all is an error; one whose generator cannot be restored still has a report
    params, why = None, ""
    try:
        params = restore(workdir)
    except InputError as error:
        why = f"No generator to draw with: {first_line(error)}."
    return describe(folder, params, why=why)


def main() -> None:
    """Read the command line and write the page."""
    cli.run(report, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
