"""Train a DCGAN: ``python -m dcgan_jax.train --workdir runs/``.

The same command resumes a run that stopped; --workdir alone is enough then. Exit codes: 0 done, 2 an error that
you can fix, 3 diverged, 75 another process of the run was lost, 129, 130 and 143 stopped by a
closed terminal, Ctrl-C and SIGTERM.
"""

import argparse
import dataclasses
import functools
import sys
from pathlib import Path

from dcgan_jax import cli
from dcgan_jax.config import SETTINGS, Config
from dcgan_jax.recipes import RECIPES, described, suited, suited_channels
from dcgan_jax.system.cluster import Cluster
from dcgan_jax.system.disk import user_path
from dcgan_jax.system.errors import InputError, shell_word
from dcgan_jax.system.memory import keep_freed_memory

_FIRST_WORDS = (
    "the pictures are read and the networks compiled, which takes up to a minute on two cores until the first steps, "
    "and less at later starts"
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``train``."""

    workdir: Path
    """Folder of the run: its configuration, metrics, samples and checkpoints."""
    epochs: int | None = None
    (
        "How often each image is seen, in place of --steps: the steps are epochs times the images to train on, "
        "divided by the batch size, rounded up."
    )
    config: Config = Config()
    cluster: Cluster = Cluster()


def run(arguments: Arguments, note: str = "") -> None:
    """Train on all devices of all processes of the cluster, after ``note``."""
    print(f"starting: {note}{_FIRST_WORDS}", file=sys.stderr, flush=True)  # what follows takes a while to say anything
    arguments.cluster.join()
    from dcgan_jax.run.fit import fit  # here, so that `--help` and wrong flags answer at once

    fit(arguments.config, arguments.workdir, epochs=arguments.epochs)
    where = arguments.workdir
    print(f"where to look: {where}/report.html in a browser; {where}/progress.png; {where}/samples/")
    print(f"more pictures: python -m dcgan_jax.generate --workdir {shell_word(where)} --num 64 --out pictures/")


def main(recipe: str | None = None, description: str | None = None) -> None:
    """Read the command line and train.

    Flags not given have the values of the run in the folder if there is one, else of the recipe; without one, of that
    which suits the data.
    """
    keep_freed_memory()
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    peek.add_argument("--workdir", default="", nargs="?")
    peek.add_argument("--recipe", default=recipe, nargs="?")
    peek.add_argument("--data", default=Config.data, nargs="?")
    for name in ("--steps", "--epochs"):
        peek.add_argument(name, default=argparse.SUPPRESS, nargs="?")
    given, _ = peek.parse_known_args()
    chosen = given.recipe if given.recipe in RECIPES else recipe or suited(given.data)  # a wrong name is refused below
    config = dataclasses.replace(RECIPES[chosen].config, channels=suited_channels(given.data))
    before = None
    if given.workdir:
        with cli.endings():
            settings = user_path(given.workdir) / SETTINGS
            before = Config.load(settings) if settings.exists() else None
    recipes = f"{description or __doc__}\nRecipes, for --recipe:\n{described()}"
    arguments = cli.parse(Arguments, description=recipes, config=before or config)
    note = f"recipe {chosen}, for pictures of your own (--recipe classic is the chapter's DCGAN); "
    told = given.recipe is None and before is None and chosen != "classic"
    with cli.endings():
        if "steps" in given and "epochs" in given:
            raise InputError("--steps and --epochs both say when to end: give one of them")
    cli.run(functools.partial(run, note=note if told else ""), arguments)


if __name__ == "__main__":
    main()
