"""How good the images of a run are: samples of its checkpoints, compared with its images."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

import flax.linen as nn
import jax
import numpy as np

from dcgan_jax.data.store import Store
from dcgan_jax.gan.pixels import group_numbers, to_uint8
from dcgan_jax.gan.sampling import sample, sample_labels
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.metrics import imagenet as imagenet_features
from dcgan_jax.metrics import inception as inception_features
from dcgan_jax.metrics.distances import frechet_distance
from dcgan_jax.metrics.evaluate import Reals
from dcgan_jax.metrics.features import CIFAR, FeatureSet, store_features
from dcgan_jax.run.best import best_of
from dcgan_jax.run.evaluation import FID, Evaluation, load_evaluations, save_evaluations
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.images import images_of
from dcgan_jax.run.restore import Step, restore
from dcgan_jax.system.cache import cache_compilations, cache_folder
from dcgan_jax.system.disk import writing
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.progress import progress
from dcgan_jax.system.ranges import SEED
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.evaluation import save_evaluation
from dcgan_jax.views.grid import grid, save_png, visible

SETS = 3
"""Sets of samples for each checkpoint, which give the range of a figure."""
NUM = 5000
"""Samples in each set, unless there are fewer real images to compare with."""
BEST = 0.1
"""The share that is kept of what is drawn for best.png."""
_SHOWN, _PIECE = 64, 512
_MOST = 200_000  # samples in a set: their features take up to 2 GB


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

    Also adds the result to ``evaluation.json`` of the run, and writes ``evaluation.png`` and ``pairs.png``, and of the
    newest step ``best.png`` and ``random.png``: 64 images of ``dcgan_jax.best``, and 64 at random.

    Args:
      workdir: the folder of the run.
      step: which checkpoint, as for ``restore``.
      num: samples in each of three sets, at least 6; as many real images, at most half of those there are.
      features: images are compared in those of the built-in CIFAR-10 classifier, or of EfficientNet-Lite2 ("imagenet"),
        which are stricter and need the extra "imagenet".
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
    check_samples(num=num, seed=seed)
    cache_compilations()
    folder = RunFolder(workdir)
    load_evaluations(folder.evaluation)  # a damaged one is named before the work
    generators = restored(folder, steps, ema=ema, generator=generator)
    with contextlib.closing(images_of(folder)) as store:
        _say_groups(store.shape[3])
        vectors = store_features(store, cache_folder(), chosen)
        reals = Reals(store.take_uint8, vectors, features=chosen, num=num, groups=store.labels, seed=seed)
        sets, images, of_images = _compared(generators, reals, seed)
        pairs = reals.closest(images, of_images, num=_SHOWN // 2)
        chosen_ones = _best_and_random(folder, list(generators.values())[-1], store, seed)
    evaluations = []
    for step, params in generators.items():
        fid = None
        if inception:  # as papers do it: against all real images
            samples = np.concatenate([chosen.vectors(piece) for piece in pieces(params, SETS, num, seed=seed)])
            fid = FID(frechet_distance(vectors, samples), len(samples), len(vectors))
        evaluations.append(Evaluation(chosen.name, step, reals.n, reals.figures(sets[step]), fid, seed, ema))
    save_evaluations(folder.evaluation, evaluations)
    shown = [visible(some, folder.config().show) for some in (reals.images[:_SHOWN], images[:_SHOWN], pairs)]
    with writing(folder.path):
        save_png(folder.pairs, grid(shown[2].reshape(-1, *shown[2].shape[2:]), columns=8))
        for path, some in zip((folder.best, folder.random), chosen_ones, strict=True):
            save_png(path, grid(visible(some, folder.config().show), columns=8))
        save_evaluation(folder.evaluation_picture, *shown, step=evaluations[-1].step)
    return evaluations


def _best_and_random(
    folder: RunFolder, params: GeneratorParams, store: Store, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """What ``generate --best`` draws, and as many that are not chosen: uint8 (64, H, W, C)."""
    key = random_key(seed)
    with best_of(folder.path, params, share=BEST, images=store) as best:
        return to_uint8(best(key, _SHOWN)), to_uint8(sample(params, key, _SHOWN))


def _say_groups(channels: int) -> None:
    """Say of images of more channels than colours which of them are looked at together."""
    if channels > 4:
        groups = ", ".join(" ".join(str(i + 1) for i in group) for group in group_numbers(channels))
        told = f"the features are those of three channels at a time, side by side: {groups}"
        print(f"images of {channels} channels: {told}", file=sys.stderr)


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


def check_samples(*, num: int, seed: int) -> None:
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
    generators: dict[int, GeneratorParams] = {}
    for step in steps:
        params = restore(folder.path, step, ema=ema, generator=generator)
        assert params.step is not None  # a run's
        generators[int(params.step)] = params
    return dict(sorted(generators.items()))


def pieces(params: GeneratorParams, number: int, num: int, *, seed: int) -> Iterator[np.ndarray]:
    """Set ``number`` of the samples of a seed, a few hundred at a time: uint8 (n, H, W, C)."""
    key = jax.random.fold_in(random_key(seed), number)
    for start in range(0, num, _PIECE):
        yield to_uint8(sample(params, jax.random.fold_in(key, start), min(_PIECE, num - start)))


def piece_labels(params: GeneratorParams, number: int, num: int, *, seed: int) -> np.ndarray | None:
    """The classes of all ``pieces`` together, int32 (num,); None where the run is not conditional."""
    if not params.classes:
        return None
    key, starts = jax.random.fold_in(random_key(seed), number), range(0, num, _PIECE)
    parts = [sample_labels(params, jax.random.fold_in(key, i), min(_PIECE, num - i)) for i in starts]
    return np.concatenate(parts)


def draw(params: GeneratorParams, number: int, num: int, *, seed: int) -> np.ndarray:
    """All ``pieces`` in one array: for as many as there are real images in memory."""
    return np.concatenate(list(pieces(params, number, num, seed=seed)))
