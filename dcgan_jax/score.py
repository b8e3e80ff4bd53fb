"""Which pictures are unusual for a run? ``python -m dcgan_jax.score --workdir runs/ --images FOLDER``.

How far each picture is from the nearest one that the run was trained on, in the features of ``evaluate``, and how many
of the run's own pictures are as far from theirs."""

import dataclasses
from pathlib import Path

from dcgan_jax import cli

_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``score``."""

    workdir: Path
    """Folder of the run. Its images must be where they were."""
    images: tuple[Path, ...]
    (
        "Pictures, or folders, .zip or .tar files of them; also .parquet, IDX files and arrays with values as the run "
        "has learned from."
    )
    column: str = ""
    """Of tables, the column of pictures; by default that of the run's own."""
    out: Path | None = None
    """A .csv file for all scores; the 20 most unusual pictures are printed."""


def run(arguments: Arguments) -> None:
    """Score the pictures, and print the most unusual ones.

    Raises:
      InputError: as from ``dcgan_jax.score``.
    """
    from dcgan_jax.run.score import score

    a = arguments
    scores = score(a.workdir, a.images, out=a.out, column=a.column)
    print("distance   share  picture")
    for one in scores[:_SHOWN]:
        copy = "  (a copy of one of the run's)" * one.copy
        print(f"{one.distance:8.3f}  {one.share:6.4f}  {one.picture}{copy}")
    if len(scores) > _SHOWN:
        print(f"and {len(scores) - _SHOWN:,} less unusual ones" + ("" if a.out else ": --out scores.csv has all"))
    rare = sum(one.share <= 0.05 for one in scores)
    print(
        f"share at most .05: {rare:,} of {len(scores):,} pictures; of the run's own kind about {len(scores) / 20:.0f}"
    )
    print("share: how many of the run's own pictures are at least as far from the nearest other one")
    if a.out:
        print(a.out)


def main() -> None:
    """Read the command line and score."""
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
