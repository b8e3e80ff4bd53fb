"""Which score tells unusual pictures best? AUROC with one class left out of training.

    python experiments/recipes/score.py FASHION FASHION/t10k-images-idx3-ubyte.gz --left-out 1 8 6 --channels 1

TRAIN and TEST are what ``train --data`` takes, with the same labels. For each class that is left out: trains ``robust``
on the others of TRAIN (``--width 32``, 32x32, 32,000 images seen), takes ``--num`` pictures of TEST of the others, and as
many of the class, and scores each:

- by the distance to the k nearest training pictures, in CIFAR features and in pixels, and to the nearest of 10,000
  generated and of 10,000 training pictures;
- by the discriminator's logit (a low one is unusual);
- as AnoGAN does (Schlegl et al. 2017), on what ``project`` finds: the residual in pixels (sum of absolute
  differences), alone and with that in the discriminator's last map, weighted .9 and .1 as there; beside it the residual in
  CIFAR features, and z-scores of the residual in pixels and of the logit added up. This part takes most of the time:
  only the first ``--projected`` of each kind, with all scores of neighbours once more for these.

Prints a Markdown table of the AUROC, that is how often a picture of the class that was left out has a higher score than
one of the others, with 95 % intervals of 2,000 bootstraps of the pictures. Results, time and hardware:
docs/results/anomalies.md.
"""

import argparse
import contextlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import mannwhitneyu, zscore

from dcgan_jax import fit, open_store, recipe, restore, restore_state
from dcgan_jax.cli import endings
from dcgan_jax.gan.pixels import from_uint8, to_uint8
from dcgan_jax.gan.sampling import decode, sample
from dcgan_jax.metrics.features import CIFAR, store_features
from dcgan_jax.metrics.projection import project_images
from dcgan_jax.system.cache import cache_folder
from dcgan_jax.system.memory import keep_freed_memory

PIECE, SOME = 100, 10_000
SIDE, WIDTH = 32, 32


def nearest(queries, others, k):
    """Mean distance to the ``k`` nearest of ``others``, (N, D) and (M, D)."""
    squares = (others**2).sum(1)
    parts = []
    for query in np.array_split(queries, -(-len(queries) // PIECE)):
        squared = ((query**2).sum(1)[:, None] + squares - 2 * query @ others.T).clip(0)
        parts.append(np.sqrt(np.partition(squared, k - 1, axis=1)[:, :k]).mean(1))
    return np.concatenate(parts)


def flat(images):
    return images.reshape(len(images), -1).astype(np.float32) / 255


def in_pieces(function, images):
    return np.concatenate([np.asarray(function(images[i : i + PIECE])) for i in range(0, len(images), PIECE)])


def of_neighbours(images, vectors, train_images, train_vectors, run):
    """Yields the name of a score and the scores."""
    rng = np.random.default_rng(0)
    generated = CIFAR.vectors(to_uint8(sample(restore(run), jax.random.key(1), SOME)))
    some = rng.choice(len(train_vectors), SOME, replace=False)
    for k in (1, 5):
        yield f"{k} nearest, CIFAR features", nearest(vectors, train_vectors, k)
    yield f"nearest of {SOME:,}, CIFAR features", nearest(vectors, train_vectors[some], 1)
    yield f"nearest of {SOME:,} generated, CIFAR features", nearest(vectors, generated, 1)
    for k in (1, 5):
        yield f"{k} nearest, pixels", nearest(flat(images), flat(train_images), k)


def judge_of(state):
    """A function of uint8 images to the logit and the last map of the discriminator, (N, D) together."""
    network, last = state.discriminator, state.discriminator.module.blocks[-1]

    @jax.jit
    def judge(images):
        variables = {"params": network.params, "batch_stats": network.batch_stats}
        seen = {"capture_intermediates": True, "mutable": ["intermediates"], "train": False}
        logits, maps = network.module.apply(variables, from_uint8(images), **seen)
        (last_map,) = maps["intermediates"][last]["__call__"]
        return jnp.concatenate([logits.reshape(len(images), 1), last_map.reshape(len(images), -1)], axis=1)

    return lambda images: in_pieces(judge, images)


def of_discriminator(images, run):
    yield "D's logit", -judge_of(restore_state(run))(images)[:, 0]


def of_projections(images, vectors, run, args):
    """The same, by the images that the generator can draw."""
    judge, params = judge_of(restore_state(run)), restore(run)

    def projected(part):
        targets = from_uint8(jnp.asarray(part))
        z = project_images(params, targets, jax.random.key(0), starts=args.starts, steps=args.iterations)
        return to_uint8(decode(params, z))

    drawn, said = in_pieces(projected, images), judge(images)
    pixels, maps = np.abs(flat(images) - flat(drawn)).sum(1), np.abs(said - judge(drawn))[:, 1:].sum(1)
    yield "AnoGAN: residual in pixels", pixels
    yield "AnoGAN: the same and that in D's last map", 0.9 * pixels + 0.1 * maps
    yield "residual in CIFAR features", np.linalg.norm(vectors - CIFAR.vectors(drawn), axis=1)
    yield "residual in pixels and D's logit", zscore(pixels) - zscore(said[:, 0])


def auroc(usual, unusual):
    return mannwhitneyu(unusual, usual).statistic / (len(usual) * len(unusual))


def interval(usual, unusual):
    rng = np.random.default_rng(0)
    draws = [auroc(*(rng.choice(part, len(part)) for part in (usual, unusual))) for _ in range(2000)]
    return np.percentile(draws, [2.5, 97.5])


def picked(store, name, num):
    """Indices of ``num`` pictures of the other classes, and of as many of the class."""
    unusual = store.labels == store.label_names.index(name)
    rng = np.random.default_rng(0)
    return [rng.choice(np.flatnonzero(chosen), num, replace=False) for chosen in (~unusual, unusual)]


def trained(args, store, name):
    """The folder of a run on all other classes, and their indices."""
    others = np.flatnonzero(store.labels != store.label_names.index(name))
    data, run = args.out / f"without-{name}.npy", args.out / f"without-{name}"
    if not data.exists():
        np.save(data, store.take_uint8(others))
    settings = {"image_size": SIDE, "width": WIDTH, "steps": args.images // 32, "sample_every": 1000}
    with contextlib.redirect_stdout(sys.stderr):  # the table is all that is printed
        fit(recipe("robust", data=str(data), **settings, evaluate_every=0), run)
    return run, others


def measure(args, name):
    with contextlib.ExitStack() as stack:
        settings = {"image_size": SIDE, "channels": args.channels}
        train, test = (
            stack.enter_context(contextlib.closing(open_store(recipe("robust", data=data, **settings))))
            for data in (args.train, args.test)
        )
        run, others = trained(args, train, name)
        usual, unusual = picked(test, name, args.num)
        images = test.take_uint8(np.concatenate([usual, unusual]))
        train_images, train_vectors = train.take_uint8(others), store_features(train, cache_folder())[others]
    vectors = CIFAR.vectors(images)
    print_rows(name, of_neighbours(images, vectors, train_images, train_vectors, run), args.num)
    print_rows(name, of_discriminator(images, run), args.num)
    if fewer := args.projected:
        some = np.r_[:fewer, args.num : args.num + fewer]
        print_rows(name, of_projections(images[some], vectors[some], run, args), fewer)
        print_rows(name, of_neighbours(images[some], vectors[some], train_images, train_vectors, run), fewer)


def print_rows(name, scores, num):
    """Of ``num`` usual pictures, and as many unusual ones after them."""
    for way, values in scores:
        low, high = interval(values[:num], values[num:])
        print(
            f"| {name} | {way} | {num} | {auroc(values[:num], values[num:]):.3f} | {low:.3f} to {high:.3f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("test")
    parser.add_argument("--left-out", nargs="+", required=True, help="labels, one at a time")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--num", type=int, default=300)
    parser.add_argument("--images", type=int, default=32_000, help="seen by each run")
    parser.add_argument("--projected", type=int, default=150, help="of --num, those whose z is looked for; 0 for none")
    parser.add_argument("--starts", type=int, default=2, help="of the search for z")
    parser.add_argument("--iterations", type=int, default=50, help="of the search for z")
    parser.add_argument("--out", type=Path, default=Path("runs/score"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| left out | score | n | AUROC | 95 % |\n|---|---|---|---|---|", flush=True)
    for name in args.left_out:
        measure(args, name)


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
