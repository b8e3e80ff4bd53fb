"""Evaluations as lines of text, as the command prints them."""

from collections.abc import Iterator, Sequence

from dcgan_jax.metrics.evaluate import labels
from dcgan_jax.run.classes import Classes
from dcgan_jax.run.doctor import findings
from dcgan_jax.run.evaluation import Evaluation
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.measure import SETS
from dcgan_jax.run.verdict import advice, at_best, judge, of_evaluation, unusual


def evaluation_lines(evaluation: Evaluation) -> Iterator[str]:
    """A table, how far the samples are from the images, and which figures are unusual."""
    yield f"step {evaluation.step}: {SETS} sets of {evaluation.n} samples against {evaluation.n} real images"
    if "alpha_mean" in evaluation.figures:
        yield "transparent pictures are compared as they look on black and on white, both together"
    rows = [["", "value", "low", "high", "floor", "n"]]
    better = ["better"]
    for name, figure in evaluation.figures.items():
        label, good = labels(evaluation.features)[name]
        numbers = (figure.value, figure.low, figure.high, figure.floor)
        rows.append([label, *(f"{x:.4g}" for x in numbers), str(figure.n)])
        better.append(good)
    for line, good in zip(_aligned(rows), better, strict=True):
        yield f"{line}  {good}"
    if fid := evaluation.fid:
        yield f"FID of {fid.n} samples against all {fid.reals} images: {fid.value:.4g}"
    measured = of_evaluation(evaluation)
    yield str(judge(measured))
    for text in unusual(measured):
        yield f"unusual: {text}"


def health_lines(folder: RunFolder, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    """What is wrong with the run, and what to do next."""
    lines, images = folder.read_metrics(), (folder.images_then() or {}).get("count", 0)
    for finding in findings(lines, images=images):
        yield finding.text
    measured = at_best(lines, list(evaluations)) or [of_evaluation(evaluations[-1])]
    if text := advice(lines, folder.config(), images=images, measured=measured):
        yield f"what to do next: {text}"


def class_lines(result: Classes) -> Iterator[str]:
    """A table with a row for each class, and which is best and worst."""
    judged, junk = result.classifier, result.junk
    yield f"step {result.step}: {SETS} sets of {result.n} samples, compared in {result.features} features"
    yield f"the classifier names {judged['accuracy']:.1%} of {judged['held_out']} held-out images rightly"
    value, low, high, floor = (f"{100 * x:.3g}" for x in (junk.value, junk.low, junk.high, junk.floor))
    yield f"junk: {value} ({low} to {high}; reals {floor}) % of the samples"
    yield from _conditional_lines(result)
    columns = {"share": ("share %", 100), "accuracy": ("right %", 100)}
    columns = columns if result.accuracy else {"share": columns["share"]}
    columns |= {"junk": ("junk %", 100), "kid": ("KID", 1), "fd": ("FD", 1)}
    columns |= {"precision": ("precision", 1), "coverage": ("coverage", 1)}
    rows = [["", *(part for head, _ in columns.values() for part in (head, "reals")), "n"]]
    for name, figures in result.classes:
        cells = []
        for column, (_, scale) in columns.items():
            figure = figures.get(column)
            cells += [f"{figure.value * scale:.3g}", f"{figure.floor * scale:.3g}"] if figure else ["", ""]
        rows.append([name, *cells, str(figures["kid"].n) if "kid" in figures else "too few"])
    yield from _aligned(rows)
    yield result.finding


def _conditional_lines(result: Classes) -> Iterator[str]:
    """How well a conditional run draws the class that it is asked for."""
    if not (result.accuracy and result.learned):
        return
    right, learned = (
        f"{100 * one.value:.3g} ({100 * one.low:.3g} to {100 * one.high:.3g}; {which} {100 * one.floor:.3g}) %"
        for one, which in ((result.accuracy, "reals"), (result.learned, "from reals"))
    )
    yield f"the classifier names {right} of the samples as they were asked for"
    yield f"a classifier that learned from samples names {learned} of the held-out images rightly"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Lines with the first column left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join([f"{row[0]:<{widths[0]}}", *map("{:>{}}".format, row[1:], widths[1:])]) for row in rows]
