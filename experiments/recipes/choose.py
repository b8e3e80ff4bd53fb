"""Which samples of a run are its best? Ways to choose, to truncate and to refine, at an equal number of samples.

    python experiments/recipes/choose.py runs/sprites runs/photographs --num 1000 --factor 10

For each run it draws ``factor`` times ``num`` samples and keeps ``num`` of them in several ways:

- at random: mean and standard deviation of ``factor`` such sets;
- those of the highest logits of the discriminator or of the heads (where the run has them), or by rejection (Azadi et
  al. 2019);
- those nearest to a real image in the CIFAR classifier's features, and those that are matched with a real image of
  their own, 64 at a time as in ``generate --best``, alone and with regard to the logits;
- z from the normal distribution cut off at several values, with BatchNorm's statistics of the whole distribution and
  with those of the one that is cut off;
- with ``--refine``: 40 steps of Langevin sampling of z by the discriminator (Che et al. 2020), and 20 steps uphill.

Then FD, precision, recall and coverage in features of the CIFAR classifier, and of EfficientNet-Lite2 (extra
"imagenet"), which no way of choosing sees. Half of the real images are for choosing, the others for judging. Prints a
Markdown table; writes OUT/RUN-WAY.png, the first 64 of each. Results: docs/results/choosing.md. Two cores: 10 minutes
for a run at 64x64, 4 at 32x32; with --refine three times as long.
"""

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import open_store, restore_state
from dcgan_jax.cli import endings
from dcgan_jax.data.split import disjoint_halves
from dcgan_jax.gan.average import generator_params, precise_batch_norm
from dcgan_jax.gan.opinion import opinion_of
from dcgan_jax.gan.pixels import from_uint8, to_uint8
from dcgan_jax.gan.sampling import decode
from dcgan_jax.metrics.choose import TOGETHER, matched
from dcgan_jax.metrics.distances import frechet_distance, nearest, prdc, principal_components
from dcgan_jax.metrics.features import CIFAR
from dcgan_jax.metrics.imagenet import imagenet
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.memory import keep_freed_memory
from dcgan_jax.views.grid import grid, save_png

PIECE, CHOOSING = 500, 5000
NAMES = ("FD", "precision", "recall", "coverage")


def in_pieces(function, array):
    return np.concatenate([np.asarray(function(array[i : i + PIECE])) for i in range(0, len(array), PIECE)])


class Truncated:
    """N(0, 1), each number of z between -most and most: a prior for ``precise_batch_norm``."""

    def __init__(self, dim, most):
        self.dim, self.most = dim, most

    def draw(self, key, num):
        return jax.random.truncated_normal(key, -self.most, self.most, (num, self.dim))

    def __hash__(self):
        return hash((self.dim, self.most))

    def __eq__(self, other):
        return isinstance(other, Truncated) and (self.dim, self.most) == (other.dim, other.most)


class Timer:
    """Seconds since it was made, or last asked."""

    def __init__(self):
        self.start = time.perf_counter()

    def __call__(self):
        start, self.start = self.start, time.perf_counter()
        return self.start - start


def judges_of(state):
    """By name: a function of uint8 images to one logit each."""

    @jax.jit
    def discriminator(x):
        return state.discriminator(from_uint8(x), train=False)[0].reshape(len(x), -1).mean(1)

    heads = opinion_of(state)
    others = {"heads": lambda x: heads(from_uint8(jnp.asarray(x)))} if heads else {}
    return {"discriminator": discriminator, **others}


class Drawn(NamedTuple):
    """Images of a run, ``logits`` by the name of a discriminator, ``vectors`` by that of a classifier, the distance to
    the nearest real image in CIFAR features, and the seconds that each took, by name."""

    images: np.ndarray
    logits: dict
    vectors: dict
    near: np.ndarray
    seconds: dict


def draw_all(state, params, z, kinds, choosing):
    def draw(part):
        return to_uint8(decode(params, part))

    functions = judges_of(state)
    for function in (*functions.values(), *(kind.vectors for kind in kinds)):  # compile
        in_pieces(function, in_pieces(draw, z[:PIECE]))
    timer, seconds = Timer(), {}
    images = in_pieces(draw, z)
    seconds["drawn"] = timer()
    logits, vectors = {}, {}
    for name, function in functions.items():
        logits[name] = in_pieces(function, images)
        seconds[name] = timer()
    for kind in kinds:
        vectors[kind.name] = kind.vectors(images)
        seconds[kind.name] = timer()
    return Drawn(images, logits, vectors, nearest(choosing, vectors["CIFAR"])[0], seconds)


def best(values, num):
    return np.argsort(-values, kind="stable")[:num]


def rejected(logits, num, rng):
    """Azadi et al. 2019, with the 80th percentile of F as gamma: the first ``num`` that are accepted."""
    f = logits - logits.max()
    f = f - np.log1p(-np.exp(f - 1e-6))
    accept = 1 / (1 + np.exp(-(f - np.percentile(f, 80))))
    return np.flatnonzero(rng.uniform(size=len(accept)) < accept)[:num]


def of_groups(reals, vectors, num, logits=None, **options):
    """As ``generate --best`` chooses: 64 at a time, and the rest."""
    chosen, each = [], len(vectors) // num
    for i in range(0, num, TOGETHER):
        part = slice(i * each, min(i + TOGETHER, num) * each)
        said = None if logits is None else logits[part]
        chosen.append(part.start + matched(reals[i : min(i + TOGETHER, num)], vectors[part], said, **options))
    return np.concatenate(chosen)


def choices(drawn, args, choosing):
    """Yields the name of a way, the numbers of the images that it takes, and the seconds that it took."""
    num, factor, seconds, vectors = args.num, args.factor, drawn.seconds, drawn.vectors["CIFAR"]
    for name, values in drawn.logits.items():
        cost = seconds["drawn"] + seconds[name]
        for n in (2, factor):
            yield f"the best 1/{n} by the {name}", best(values[: n * num], num), cost * n / factor
        accepted = rejected(values, num, np.random.default_rng(0))
        share = (accepted[-1] + 1) / len(values)
        yield f"rejection by the {name} ({len(accepted) / len(values) / share:.0%})", accepted, cost * share
    cost = seconds["drawn"] + seconds["CIFAR"]
    yield f"the 1/{factor} nearest to a real one", best(-drawn.near, num), cost
    yield f"matched, of {factor} times as many", of_groups(choosing, vectors, num), cost
    for name, values in drawn.logits.items():
        yield f"the same, and the {name}", of_groups(choosing, vectors, num, values), cost + seconds[name]
    last = drawn.logits.get("heads")
    cost += 0 if last is None else seconds["heads"]
    for n in [n for n in (2, 4) if n < factor]:
        part = of_groups(choosing, vectors[: n * num], num, None if last is None else last[: n * num])
        yield f"generate --best, of {n} times as many", part, cost * n / factor


def others(state, params, z, args):
    """Yields the name of a way, its images and the seconds that they took."""
    num, timer = args.num, Timer()

    def images(params, z):
        timer()
        return in_pieces(lambda part: to_uint8(decode(params, part)), z)

    for most in (2.0, 1.5, 1.0, 0.5):
        prior = Truncated(state.latent.dim, most)
        cut = prior.draw(jax.random.key(1), num)
        yield f"z cut off at {most}", images(params, cut), timer()
        own = precise_batch_norm(params.replace(latent=prior), 512, 32)
        yield f"z cut off at {most}, statistics of it", images(own, cut), timer()
    if args.refine:
        for name, refine in (("Langevin steps in z", langevin), ("steps uphill in z", uphill)):
            timer()
            yield name, in_pieces(lambda part: to_uint8(refine(state, params, part)), z[:num]), timer()  # noqa: B023


def langevin(state, params, z, steps=40, size=0.01):
    """Che et al. 2020: the energy of z is |z|²/2 - D(G(z)), with the noise scaled down as there (0.1)."""

    @jax.jit
    def step(i, z):
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(2), i), z.shape)
        gradient = z - jax.grad(lambda z: state.discriminator(params(z), train=False)[0].sum())(z)
        return z - size / 2 * gradient + 0.1 * size**0.5 * noise

    for i in range(steps):
        z = step(i, z)
    return decode(params, z)


def uphill(state, params, z, steps=20, share=0.01):
    """Steps of a hundredth of z's length that raise D(G(z)); z keeps its length."""

    @jax.jit
    def step(z):
        up = jax.grad(lambda z: state.discriminator(params(z), train=False)[0].sum())(z)
        length = jnp.linalg.norm(z, axis=1, keepdims=True)
        new = z + share * length * up / (jnp.linalg.norm(up, axis=1, keepdims=True) + 1e-9)
        return new * length / jnp.linalg.norm(new, axis=1, keepdims=True)

    for _ in range(steps):
        z = step(z)
    return decode(params, z)


class Judge(NamedTuple):
    """A classifier, its vectors of real images, and the components that they are compared in."""

    kind: Any
    reals: np.ndarray
    components: Any

    @classmethod
    def of(cls, kind, images):
        vectors = kind.vectors(images)
        return cls(kind, vectors, principal_components(vectors, kind.components) if kind.components else None)

    def __call__(self, vectors):
        a, b = self.reals, vectors
        if self.components is not None:
            a, b = ((x - self.components[0]) @ self.components[1] for x in (a, b))
        near = prdc(a, b)
        return frechet_distance(a, b), near.precision, near.recall, near.coverage


def row(run, way, seconds, cells):
    print(f"| {run} | {way} | {seconds} | {' | '.join(cells)} |", flush=True)


def report(run, args, judges, drawn, choosing):
    """Print the rows of all that is chosen from what was drawn."""

    def figures(chosen):
        return [figure for judge in judges for figure in judge(drawn.vectors[judge.kind.name][chosen])]

    sets = np.array([figures(slice(i, i + args.num)) for i in range(0, len(drawn.images), args.num)])
    cells = [f"{mean:.3g} ± {sd:.2g}" for mean, sd in zip(sets.mean(0), sets.std(0, ddof=1), strict=True)]
    row(run, "at random", f"{1000 * drawn.seconds['drawn'] / len(drawn.images):.1f}", cells)
    save(run, "at random", drawn.images[:64], args)
    for way, chosen, seconds in choices(drawn, args, choosing):
        row(run, way, f"{1000 * seconds / args.num:.1f}", [f"{figure:.3g}" for figure in figures(chosen)])
        save(run, way, drawn.images[chosen[:64]], args)


def save(run, way, images, args):
    name = way.replace(" ", "-").replace("/", "-").replace(",", "")
    save_png(args.out / f"{run}-{name}.png", grid(images[:64], 8))


def measure(run, args):
    with contextlib.closing(open_store(RunFolder(run).config())) as store:
        judging, choosing = disjoint_halves(len(store), store.labels)
        reals, choosing = store.take_uint8(judging[: args.num]), store.take_uint8(choosing[:CHOOSING])
    judges = [Judge.of(kind, reals) for kind in (CIFAR, imagenet())]

    def judged(images):
        return [f"{figure:.3g}" for judge in judges for figure in judge(judge.kind.vectors(images))]

    row(run.name, "real images", "", judged(choosing[: args.num]))
    state, vectors = restore_state(run, args.step), CIFAR.vectors(choosing)
    params = generator_params(state)
    z = state.latent.draw(jax.random.key(1), args.num * args.factor)
    report(run.name, args, judges, draw_all(state, params, z, [judge.kind for judge in judges], vectors), vectors)
    for way, images, seconds in others(state, params, z, args):
        row(run.name, way, f"{1000 * seconds / args.num:.1f}", judged(images))
        save(run.name, way, images, args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--step", default="newest", type=lambda text: int(text) if text.isdigit() else text)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--factor", type=int, default=10)
    parser.add_argument("--refine", action="store_true", help="gradient steps in z, too: slow")
    parser.add_argument("--out", type=Path, default=Path("runs/choose"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(
        "| run | way | s for 1,000 | " + " | ".join(f"{by} {name}" for by in ("CIFAR", "Lite2") for name in NAMES), "|"
    )
    print("|---" * 11 + "|", flush=True)
    for run in args.runs:
        measure(run, args)


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
