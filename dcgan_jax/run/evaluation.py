"""How good the images of a run are: measured, saved in its folder, and loaded again."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from dcgan_jax.data.store import Store, open_store
from dcgan_jax.gan.pixels import to_uint8
from dcgan_jax.gan.sampling import sample
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.metrics import imagenet as imagenet_features
from dcgan_jax.metrics import inception as inception_features
from dcgan_jax.metrics.distances import frechet_distance
from dcgan_jax.metrics.evaluate import LABELS, Figures, Reals, labels
from dcgan_jax.metrics.features import CIFAR, FeatureSet, store_features
from dcgan_jax.run.checkpoints import Step, restore
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import line_of
from dcgan_jax.system.cache import cache_compilations, cache_folder
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import parse_json, read_text, reading, write_text, writing
from dcgan_jax.system.progress import progress
from dcgan_jax.system.ranges import SEED
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.evaluation import save_evaluation
from dcgan_jax.views.grid import grid, save_png

SETS = 3
"""Sets of samples for each checkpoint, which give the range of a figure."""
FEATURES = ("CIFAR", "ImageNet", "Inception")
"""The names of all sets of features that images are compared in."""
NUM = 5000
"""Samples in each set, unless there are fewer real images to compare with."""
_SHOWN, _PIECE = 64, 512
_MOST = 200_000  # samples in a set: their features take up to 2 GB
_OF_PIXELS = ("swd", "mean", "deviation")  # the same in all features
_LARGEST = 16 << 20  # bytes of evaluation.json or classes.json


class FID(NamedTuple):
    """The Fréchet distance in Inception's features of ``n`` samples against all ``reals`` images, as in papers."""

    value: float
    n: int
    reals: int


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Samples of one checkpoint compared with real images in one set of features.

    Attributes:
      features: in which they are compared, one of ``FEATURES``.
      step: of the checkpoint.
      n: samples in each of three sets, and real images that they are compared with.
      figures: each metric by its name in ``metrics.evaluate.LABELS``: value, floor, low, high, n.
      fid: only with Inception's features.
      seed: of the noise and of the halves of the images; None where an older file does not say.
      ema: whether the weights were averaged; None where an older file does not say.
    """

    features: str
    step: int
    n: int
    figures: Mapping[str, Figures]
    fid: FID | None = None
    seed: int | None = None
    ema: bool | None = None

    def key(self) -> tuple:
        """A later evaluation with this key takes the place of an earlier one; others stay beside it."""
        return self.step, FEATURES.index(self.features), self.ema is False

    def to_json(self) -> dict[str, Any]:
        """As ``evaluation.json`` holds it."""
        about = {"step": self.step, "n": self.n, "features": self.features, "ema": self.ema, "seed": self.seed}
        fid = {"fid": self.fid._asdict()} if self.fid else {}
        return {**about, **fid, "metrics": {name: figure._asdict() for name, figure in self.figures.items()}}


def load_evaluations(path: Path) -> list[Evaluation]:
    """All evaluations that an ``evaluation.json`` holds, by step and features; none if there is no such file.

    Raises:
      InputError: it cannot be read, or is not as ``evaluate`` writes it.
    """
    with named_damage(path):
        values = read_json(path, default=[])
        if not isinstance(values, list):
            raise ValueError("no list of evaluations")
        found = {one.key(): one for one in map(_evaluation, values)}
    return [found[key] for key in sorted(found)]


def save_evaluations(path: Path, new: Sequence[Evaluation]) -> None:
    """Add evaluations to an ``evaluation.json``, in the place of those with the same step, features and weights.

    Raises:
      InputError: what is there is damaged, or it cannot be written.
    """
    everything = {one.key(): one for one in [*load_evaluations(path), *new]}
    with writing(path):
        write_text(path, json.dumps([everything[key].to_json() for key in sorted(everything)], indent=2) + "\n")


@contextlib.contextmanager
def named_damage(path: Path) -> Iterator[None]:
    """Turn a ValueError of the block, what is wrong with the content of ``path``, into one that says what to do.

    Raises:
      InputError: from a ValueError, or because the file cannot be read.
    """
    try:
        with reading(path):
            yield
    except ValueError as error:
        raise InputError(f"{path} is damaged ({first_line(error)}): delete it, and evaluate again") from None


def read_json(path: Path, *, default: Any) -> Any:
    """What a JSON file of at most 16 MiB holds; ``default`` if there is none."""
    return parse_json(read_text(path, most=_LARGEST)) if path.exists() else default


def field(values: Any, name: str, kind: type) -> Any:
    """``values[name]``, if that is a ``kind``: an int from 0 to 2**53, a finite float or int, a short text, and so on.

    Raises:
      ValueError: it is not.
    """
    value: Any = values.get(name) if isinstance(values, dict) else None
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    fine = type(value) is kind
    fine = fine and (kind is not int or 0 <= value < 2**53) and (kind is not float or math.isfinite(value))
    if not fine or (kind is str and len(str(value)) > 1000):
        raise ValueError(f"{name} is missing or not as evaluate writes it")
    return value


def read_figures(values: Any) -> Figures:
    """A metric with its floor, range and n.

    Raises:
      ValueError: one of them is missing, or no finite number.
    """
    value, floor, low, high = (field(values, name, float) for name in ("value", "floor", "low", "high"))
    return Figures(value, floor, low, high, field(values, "n", int))


def read_features(values: Any) -> str:
    """Which features a file names; the first versions had one set only, and no name for it.

    Raises:
      ValueError: they are not known.
    """
    features = field({"features": CIFAR.name, **values}, "features", str)
    if features not in FEATURES:
        raise ValueError(f"unknown features {features[:50]!r}")
    return features


def _evaluation(values: Any) -> Evaluation:
    figures = {name: read_figures(one) for name, one in field(values, "metrics", dict).items()}
    if unknown := sorted(figures.keys() - LABELS.keys()):
        raise ValueError(f"unknown metric {unknown[0][:50]!r}")
    fid = None
    if "fid" in values:
        about = field(values, "fid", dict)
        fid = FID(field(about, "value", float), field(about, "n", int), field(about, "reals", int))
    return Evaluation(
        read_features(values),
        field(values, "step", int),
        field(values, "n", int),
        figures,
        fid,
        seed=None if values.get("seed") is None else field(values, "seed", int),
        ema=None if values.get("ema") is None else field(values, "ema", bool),
    )


class Known(NamedTuple):
    """A figure with all that must be said of it.

    Attributes:
      metric: its short name, such as ``fd`` or ``loss_G``.
      key: the same for programs: as in metrics.jsonl, or with the features of an evaluation before it: ``ImageNet/fd``.
      name: its full one, such as "FD (CIFAR features), while training".
      value, floor: of the samples, and of real images where that is known.
    """

    metric: str
    key: str
    name: str
    value: float
    floor: float | None = None

    def row(self) -> tuple[str, str, str]:
        """As texts: name, value, floor."""
        return self.name, f"{self.value:.4g}", "" if self.floor is None else f"{self.floor:.4g}"


def figures_of_step(folder: RunFolder, step: int) -> list[Known]:
    """What is known of the averaged weights of a step: losses and so on, each metric once for each set of features.

    Of CIFAR features the last evaluation counts, else what was measured while training.

    Raises:
      InputError: metrics.jsonl or evaluation.json is damaged.
    """
    line = line_of(folder.metrics, step) or {}
    evaluations = [x for x in load_evaluations(folder.evaluation) if x.step == step and x.ema is not False]
    known = []
    evaluated = any(one.features == CIFAR.name for one in evaluations)
    for name, value in line.items():
        if name in LABELS and not evaluated:
            text = f"{_named(name, CIFAR.name)}, while training"
            known.append(Known(name, name, text, value, line.get(f"{name}_floor")))
        elif name not in LABELS and name != "step" and name.removesuffix("_floor") not in LABELS:
            known.append(Known(name, name, name, value))
    for one in evaluations:
        known += [
            Known(name, f"{one.features}/{name}", f"{_named(name, one.features)}, {one.n:,} samples", value, floor)
            for name, (value, floor, *_) in one.figures.items()
        ]
        if one.fid:
            text = f"FID, {one.fid.n:,} samples against {one.fid.reals:,} images"
            known.append(Known("fid", "Inception/fid", text, one.fid.value))
    return known


def _named(name, features):
    label = labels(features)[name][0]
    return label if "features" in label or name in _OF_PIXELS else f"{label} ({features} features)"


def evaluate(
    workdir: str | Path,
    step: Step = "best",
    *,
    num: int = NUM,
    features: Literal["cifar", "imagenet"] = "cifar",
    inception: str | Path | None = None,
    ema: bool = True,
    seed: int = 0,
    generator: nn.Module | str | None = None,
) -> Evaluation:
    """Measure how good the samples of one checkpoint are, as ``python -m dcgan_jax.evaluate`` does.

    Also adds the result to ``evaluation.json`` of the run, and writes ``evaluation.png`` and ``pairs.png``.

    Args:
      workdir: the folder of the run.
      step: which checkpoint, as for ``restore``.
      num: samples in each of three sets, at least 6; as many real images, at most half of those there are.
      features: images are compared in those of the built-in CIFAR-10 classifier, or of EfficientNet-Lite0, which are
        stricter and need the extra "imagenet".
      inception: the file ``classify_image_graph_def.pb``, to compare in Inception's features; gives the FID too.
      ema: average the weights, as for ``restore``.
      seed: of the noise and of the halves of the images, in [0, 2**32).
      generator: as for ``restore``.

    Raises:
      InputError: an argument is out of its range, the run cannot be restored, its images are others or too few, or
        something cannot be read or written.
    """
    options = {"num": num, "features": features, "inception": inception, "ema": ema, "seed": seed}
    return evaluate_steps(workdir, [step], **options, generator=generator)[0]


def evaluate_steps(
    workdir: str | Path,
    steps: Sequence[Step],
    *,
    num: int = NUM,
    features: str = "cifar",
    inception: str | Path | None = None,
    ema: bool = True,
    seed: int = 0,
    generator: nn.Module | str | None = None,
) -> list[Evaluation]:
    """``evaluate`` for several checkpoints, which are compared with the same images; by step, each once."""
    chosen = feature_set(features, inception)
    check(num=num, seed=seed)
    cache_compilations()
    folder = RunFolder(workdir)
    load_evaluations(folder.evaluation)  # a damaged one is named before the work
    generators = restored(folder, steps, ema=ema, generator=generator)
    with contextlib.closing(images_of(folder)) as store:
        vectors = store_features(store, cache_folder(), chosen)
        reals = Reals(store.take, vectors, features=chosen, num=num, groups=store.labels, seed=seed)
        sets, images, of_images = _compared(generators, reals, seed)
        pairs = reals.closest(images, of_images, num=_SHOWN // 2)
    evaluations = []
    for step, params in generators.items():
        fid = None
        if inception:  # as papers do it: against all real images
            samples = np.concatenate([chosen.vectors(piece) for piece in pieces(params, SETS, num, seed=seed)])
            fid = FID(frechet_distance(vectors, samples), len(samples), len(vectors))
        evaluations.append(Evaluation(chosen.name, step, reals.n, reals.figures(sets[step]), fid, seed, ema))
    save_evaluations(folder.evaluation, evaluations)
    with writing(folder.path):
        save_png(folder.pairs, grid(pairs.reshape(-1, *pairs.shape[2:]), columns=8))
        newest, picture = evaluations[-1].step, folder.evaluation_picture
        save_evaluation(picture, reals.images[:_SHOWN], images[:_SHOWN], pairs, step=newest)
    return evaluations


def _compared(generators, reals, seed):
    """What ``Reals.compare`` says of three sets of each generator, and the images and features of the last set."""
    jobs = [(step, number) for step in generators for number in range(SETS)]
    last = {}

    def one_set(job):
        step, number = job
        images = draw(generators[step], number, reals.n, seed=seed)
        vectors = reals.features.vectors(images)
        if job == jobs[-1]:
            last.update(images=images, vectors=vectors)
        return reals.compare(images, vectors)

    sets: dict[int, list[dict[str, float]]] = {step: [] for step in generators}
    with ThreadPool(2) as threads:  # two at a time: neither drawing nor comparing keeps all cores busy
        measured = progress(threads.imap(one_set, jobs), "sets of samples", total=len(jobs), unit="set")
        for (step, _), values in zip(jobs, measured, strict=True):
            sets[step].append(values)
    return sets, last["images"], last["vectors"]


def check(*, num: int, seed: int) -> None:
    """Refuse what cannot be drawn.

    Raises:
      InputError: fewer than 6 samples, more than their features have room for, or a seed outside [0, 2**32).
    """
    if num < 6:
        raise InputError(f"num {num} must be at least 6")
    if num > _MOST:
        raise InputError(f"num {num} is more than {_MOST:,}, whose features are all in memory at once: give fewer")
    SEED("seed", seed)


def feature_set(features: str, inception: str | Path | None = None) -> FeatureSet:
    """The features that are called so, or those of the graph.

    Raises:
      InputError: there are none of this name, they are not installed, or the graph cannot be read.
    """
    if features not in ("cifar", "imagenet"):
        raise InputError(f"features {features!r} are unknown: choose cifar or imagenet")
    if inception and features != "cifar":
        raise InputError("--inception has features of its own: leave out --features")
    if inception:
        return inception_features.inception(Path(inception))
    return imagenet_features.imagenet() if features == "imagenet" else CIFAR


def restored(
    folder: RunFolder, steps: Sequence[Step], *, ema: bool, generator: nn.Module | str | None = None
) -> dict[int, GeneratorParams]:
    """The generators of some checkpoints by step, in order; the same step only once."""
    found: dict[int, GeneratorParams] = {}
    for step in steps:
        params = restore(folder.path, step, ema=ema, generator=generator)
        assert params.step is not None  # a run's
        found[int(params.step)] = params
    return dict(sorted(found.items()))


def images_of(folder: RunFolder) -> Store:
    """The images that the run was trained on.

    Raises:
      InputError: they cannot be read, or are others now.
    """
    config, then = folder.config(), folder.images_then()
    store = open_store(config)
    if then and store.digest != then["sha256"]:
        raise InputError(
            f"{config.data} has other images than {folder.path} was trained on ({len(store)} now, {then['count']} "
            "then): restore those to evaluate the run"
        )
    return store


def pieces(params: GeneratorParams, number: int, num: int, *, seed: int) -> Iterator[np.ndarray]:
    """Set ``number`` of the samples of a seed, a few hundred at a time: uint8 (n, H, W, C)."""
    key = jax.random.fold_in(random_key(seed), number)
    for start in range(0, num, _PIECE):
        yield to_uint8(sample(params, jax.random.fold_in(key, start), min(_PIECE, num - start)))


def draw(params: GeneratorParams, number: int, num: int, *, seed: int) -> np.ndarray:
    """All ``pieces`` in one array: for as many as there are real images in memory."""
    return np.concatenate(list(pieces(params, number, num, seed=seed)))
