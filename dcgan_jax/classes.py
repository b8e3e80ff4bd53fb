"""``python -m dcgan_jax.evaluate --classes``: which of the labelled classes a run draws well, and how often."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import write_text, writing

if TYPE_CHECKING:
    from dcgan_jax.data.store import Store
    from dcgan_jax.metrics.classes import ClassFigures
    from dcgan_jax.metrics.evaluate import Figures
    from dcgan_jax.run.folder import RunFolder

_COLUMNS = {
    "share": ("share %", 100),
    "junk": ("junk %", 100),
    "kid": ("KID", 1),
    "fd": ("FD", 1),
    "precision": ("precision", 1),
    "coverage": ("coverage", 1),
}


def evaluate_classes(
    folder: "RunFolder", store: "Store", draws: list[Callable[[], np.ndarray]], *, step: int, names: tuple[str, ...]
) -> None:
    """Print a table of the classes, the best first, and write ``classes.json`` and ``classes.png``.

    Args:
      folder: of the run.
      store: the images that it was trained on.
      draws: draw a set of samples each, uint8 (N, H, W, C).
      step: of the checkpoint that draws.
      names: what the labels 0, 1, ... are called; empty where the labels are names already.

    Raises:
      InputError: fewer than 2 or more than 20 labels, too few images of one, or something cannot be written.
    """
    from dcgan_jax.metrics.classes import Sorted, compare
    from dcgan_jax.metrics.classifier import classifier
    from dcgan_jax.metrics.features import features, store_features
    from dcgan_jax.system.cache import cache_folder
    from dcgan_jax.views.classes import REALS, SAMPLES, Row, save_classes

    names = _names(store.label_names, names)
    judge, vectors = classifier(store, cache_folder()), store_features(store, cache_folder())
    sets, shown = [], {}
    for draw in draws:
        images = draw()
        named, sure = judge.name(images)
        sets.append(Sorted(features(images), named, sure < judge.threshold))
        shown = shown or {label: images[named == label][:SAMPLES] for label in range(len(names))}
    junk, ranked = compare(judge, vectors, sets)

    rows = []
    for label, figures in ranked:
        reals = judge.train[judge.labels[judge.train] == label]
        reals = store.take(np.random.default_rng(label).choice(reals, REALS, replace=False))
        share, kid = figures["share"], figures.get("kid")
        excess = (kid.value - kid.floor, kid.low - kid.floor, kid.high - kid.floor) if kid else (np.nan, np.nan, np.nan)
        span = share.value, share.low, share.high
        rows.append(Row(names[label], reals, shown[label], span, share.floor, excess))
    sentence = _sentence(names, ranked)
    found = {
        "step": step,
        "n": junk.n,
        "classifier": {
            "accuracy": judge.accuracy(),
            "held_out": len(judge.held_out),
            "labels": names,
            "confusion": judge.confusion().tolist(),
            "threshold": judge.threshold,
        },
        "junk": junk._asdict(),
        "classes": [
            {"name": names[of.label], **{name: figure._asdict() for name, figure in of.figures.items()}}
            for of in ranked
        ],
        "finding": sentence,
    }
    print(f"step {step}: {len(sets)} sets of {junk.n} samples; the classifier names {judge.accuracy():.1%} of")
    print(f"{len(judge.held_out)} held-out images rightly; junk: {_span(junk, 100)} % of the samples")
    print(f"{_table(names, ranked)}\n{sentence}")
    with writing(folder.path):
        write_text(folder.classes, json.dumps(found, indent=2) + "\n")
        save_classes(folder.classes_picture, rows, step=step)
    print(f"{folder.classes.name} and {folder.classes_picture.name} in {folder.path}")


def _names(labels, names):
    if names and sorted(labels) != sorted(map(str, range(len(names)))):
        have = ", ".join(sorted(labels)[:12]) + ", …" * (len(labels) > 12)
        raise InputError(
            f"class_names: {len(names)} names for the labels {have}: give one name for each of the labels 0, 1, …, or "
            "none where the labels are names already"
        )
    return tuple(names[int(label)] for label in labels) if names else labels


def _span(figure: "Figures", scale: float) -> str:
    value, low, high = (f"{x * scale:.3g}" for x in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high}; reals {figure.floor * scale:.3g})"


def _table(names: tuple[str, ...], ranked: "list[ClassFigures]") -> str:
    """Each value beside what real images get."""
    heads = [part for head, _ in _COLUMNS.values() for part in (head, "reals")]
    rows = [["", *heads, "n"]]
    for label, figures in ranked:
        cells = []
        for name, (_, scale) in _COLUMNS.items():
            of = figures.get(name)
            cells += [f"{of.value * scale:.3g}", f"{of.floor * scale:.3g}"] if of else ["", ""]
        rows.append([names[label], *cells, str(figures["kid"].n) if "kid" in figures else "too few"])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join([f"{row[0]:<{widths[0]}}", *map("{:>{}}".format, row[1:], widths[1:])]) for row in rows]
    return "\n".join(lines)


def _sentence(names: tuple[str, ...], ranked: "list[ClassFigures]") -> str:
    """The answer: which class works best, which worst, which is hardly drawn."""
    known = [of for of in ranked if "kid" in of.figures]
    if len(known) < 2:
        return "Too few samples of each class to tell which works best: train longer, or give a larger --num."
    best, worst = (
        f"{names[of.label]} (KID {of.excess():.3g} over its floor, FD "
        f"{of.figures['fd'].value / of.figures['fd'].floor:.3g} times its floor)"
        for of in (known[0], known[-1])
    )
    text = f"{best} works best, {worst} works worst."
    if few := [names[of.label] for of in ranked if of.figures["share"].high < of.figures["share"].floor / 2]:
        text += f" Drawn less than half as often as among the images: {', '.join(few)}."
    return text
