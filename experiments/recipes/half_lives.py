"""Is it worth keeping several averages of the weights, and choosing one of them afterwards?

    python experiments/recipes/half_lives.py --out runs/half-lives --data creatures=sprites boxes=BOXES cifar=cifar10.zip \\
        --seeds 0 1 --images 128000 --flags '{"image_size": 32, "width": 32}'

It trains with ``train_step``, and keeps beside the state's own average others: each has a half-life in images, and a share of
the images seen that the half-life never exceeds (``ema_decay`` has .05). At ``--points`` they are judged: FD and coverage of
``--num`` samples against as many images, in CIFAR features and in those of EfficientNet-Lite2 (extra "imagenet"). Each average is judged
twice, with other samples and other images: one chooses, the other says how good the choice is. So nothing is good
because it was chosen.

``half_lives.json`` has all figures, ``half_lives.md`` a table. The same command goes on with the runs that are missing. Results:
docs/results/average.md.
"""

import argparse
import functools
import itertools
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import batches, create_state, generator_params, open_store, recipe, sample, to_uint8, train_step
from dcgan_jax.cli import endings
from dcgan_jax.metrics.distances import frechet_distance, prdc, principal_components
from dcgan_jax.run.measure import feature_set
from dcgan_jax.system.memory import keep_freed_memory

AVERAGES = {"8k": (8192, 0.05), "2k": (2048, 0.05), "32k": (32768, 0.1), "5%": (1e9, 0.05), "10%": (1e9, 0.1)}
"""Half-life in images, and how much of the images seen it is at most. The first is that of a run."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DATA")
    parser.add_argument("--recipe", default="robust")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--images", type=int, default=128_000, help="seen by each run")
    parser.add_argument("--points", nargs="+", type=float, default=[0.25, 0.5, 1.0], help="when, as shares of these")
    parser.add_argument("--num", type=int, default=2000, help="samples, and images to compare with")
    parser.add_argument("--features", nargs="+", default=["cifar", "imagenet"])
    parser.add_argument("--flags", type=json.loads, default={}, help="other settings, as JSON")
    return parser.parse_args()


@jax.jit
def averaged(averages, params, seen, batch):
    """All averages after a step, ``seen`` images in."""

    def one(name, old):
        half_life, share = AVERAGES[name]
        decay = 0.5 ** (batch / jnp.maximum(jnp.minimum(half_life, share * seen), 1e-6))
        return jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, old, params)

    return {name: one(name, old) for name, old in averages.items()}


def judges(store, args):
    """For each kind of features a function from samples and 0 or 1 to their figures against that half of the images."""
    order = np.random.default_rng(0).permutation(len(store))
    parts = order[: args.num], order[args.num : 2 * args.num]
    made = {}
    for name in args.features:
        features = feature_set(name)
        reals = [features.vectors(store.take(np.sort(part))) for part in parts]
        mean, axes = 0.0, None
        if features.components:
            mean, axes = principal_components(np.concatenate(reals), features.components)
        made[name] = functools.partial(figures, features, reals, mean, axes)
    return made


def figures(features, reals, mean, axes, images, half) -> dict[str, float]:
    real, fake = reals[half] - mean, features.vectors(images) - mean
    if axes is not None:
        real, fake = real @ axes, fake @ axes
    return {"fd": frechet_distance(real, fake), "coverage": prdc(real, fake).coverage}


def run(data: str, seed: int, args: argparse.Namespace) -> list[dict]:
    """Train, and judge all averages at each point."""
    config = recipe(args.recipe, data=data, seed=seed, steps=10**6, **args.flags)
    store, key = open_store(config), jax.random.key(seed)
    state, judged = create_state(config, images=len(store)), []
    averages = {name: jax.tree.map(jnp.copy, state.ema) for name in AVERAGES}  # a step donates its state
    measure = judges(store, args)
    points = [round(share * args.images / config.batch_size) for share in args.points]
    stream, seconds = batches(store, config), {"steps": 0.0, "averages": 0.0}
    for step in range(1, points[-1] + 1):
        start = time.perf_counter()
        state, _ = train_step(state, next(stream), key)
        jax.block_until_ready(state)
        middle = time.perf_counter()
        averages = averaged(averages, state.generator.params, step * config.batch_size, config.batch_size)
        jax.block_until_ready(averages)
        seconds["steps"] += middle - start
        seconds["averages"] += time.perf_counter() - middle
        if step in points:
            for name, average in averages.items():
                params = generator_params(state.replace(ema=average))
                drawn = [to_uint8(sample(params, jax.random.key(half), args.num)) for half in (0, 1)]
                for features, by in measure.items():
                    both = [by(images, half) for half, images in enumerate(drawn)]
                    judged.append({"step": step, "average": name, "features": features, "halves": both, **seconds})
    return judged


def table(results: dict[str, list[dict]], args: argparse.Namespace) -> str:
    """FD of each average by the second half; in the last column that of the one with the lowest FD by the first."""
    rows = ["| run | step | features | " + " | ".join(AVERAGES) + " | chosen |", "|---" * (len(AVERAGES) + 4) + "|"]
    for name, judged in results.items():
        for step, features in dict.fromkeys((one["step"], one["features"]) for one in judged):
            each = {
                one["average"]: one["halves"] for one in judged if (one["step"], one["features"]) == (step, features)
            }
            choice = min(each, key=lambda average: each[average][0]["fd"])
            cells = [f"{each[average][1]['fd']:.3g}" for average in AVERAGES]
            rows.append(
                f"| {name} | {step:,} | {features} | {' | '.join(cells)} | {choice}: {each[choice][1]['fd']:.3g} |"
            )
    return "\n".join(rows) + "\n"


def main() -> None:
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    saved = args.out / "half_lives.json"
    results = json.loads(saved.read_text()) if saved.exists() else {}
    for seed, data in itertools.product(args.seeds, args.data):
        name, source = data.split("=", 1)
        if f"{name} {seed}" not in results:
            results[f"{name} {seed}"] = run(source, seed, args)
            saved.write_text(json.dumps(results, indent=1))
            (args.out / "half_lives.md").write_text(table(results, args))
    print(table(results, args))


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
