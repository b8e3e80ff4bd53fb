"""What do ``--init`` and ``--conditional`` bring for few pictures? With and without, on 100, 500 and 2,000, three seeds.

    python experiments/recipes/few.py --out runs/init --target BOXES --source sprites \\
        --counts 100 500 2000 --seeds 0 1 2 --images 64000 --flags "--recipe projected"
    python experiments/recipes/few.py --out runs/few-classes --target cifar10.zip --arms none conditional \\
        --counts 200 1000 5000 --flags "--recipe robust --image-size 32 --width 32"

From the pictures of ``--target`` it draws as many as ``--counts`` says, others for each seed, and trains on them: from
random weights (``none``); with the classes of the target, if it has some (``conditional``); and from a model: its two
networks (``both``), its generator alone (``generator``), and both with the first two blocks of the discriminator frozen
(``frozen``). The model is trained on ``--source``, with these flags, for ``--source-images``; or it is the one that
``--model`` names. The same command goes on after a stop. Seeds are the outer loop: a study that is stopped early has
compared all with the first seed.

A run measures itself against the few pictures that it has. So each of its checkpoints, ``--points`` of them, is judged here
against those pictures of the target that it was not trained on, in the features of EfficientNet-Lite2 (extra "imagenet",
or ``--features cifar``): FD, coverage, and two measures of copying: C_T (below -3: samples are nearer to the training
pictures than other pictures are) and ``near``, the share of samples that lie nearer to a training picture than 99 in 100
other pictures do.

``few.json`` has all figures, ``few.md`` a table: the median over seeds of the best FD, what the best step has for the others,
after how many images it came, and after how many images, as a share of those that ``none`` took, the best FD of ``none`` was
reached. The bar of ``--init``: a third with 500 pictures.

Results at 32x32: docs/results/init.md and docs/results/conditional.md. Not run at full size yet: 36 runs of 64,000 images at
64x64 are about 45 hours on one core of an AMD EPYC.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from dcgan_jax import Config, export, open_store, restore, sample, to_uint8
from dcgan_jax.cli import endings
from dcgan_jax.data.store import Store
from dcgan_jax.metrics.distances import c_t, frechet_distance, nearest, prdc, principal_components
from dcgan_jax.recipes import RECIPES
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.measure import feature_set
from dcgan_jax.system.memory import keep_freed_memory

FROM_MODEL = ("both", "generator", "frozen")
ARMS = ("none", *FROM_MODEL, "conditional")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", required=True, help="the pictures to learn: anything that --data takes")
    parser.add_argument("--source", default="sprites", help="those that the model is trained on")
    parser.add_argument("--source-images", type=int, default=128_000, help="seen by the model")
    parser.add_argument("--model", help="the folder of a run to start from, in place of training one")
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 500, 2000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["none", *FROM_MODEL])
    parser.add_argument("--images", type=int, default=64_000, help="seen by each run")
    parser.add_argument("--points", type=int, default=8, help="checkpoints of a run that are judged")
    parser.add_argument("--features", choices=("imagenet", "cifar"), default="imagenet")
    parser.add_argument("--num", type=int, default=2000, help="samples that are judged, and pictures to compare with")
    parser.add_argument("--flags", default="--recipe projected", help="of train, for all runs")
    return parser.parse_args()


def batch_size(args: argparse.Namespace) -> int:
    flags = args.flags.split()
    if "--batch-size" in flags:
        return int(flags[flags.index("--batch-size") + 1])
    return RECIPES[flags[flags.index("--recipe") + 1] if "--recipe" in flags else "projected"].config.batch_size


def train(folder: Path, images: int, points: int, args: argparse.Namespace, *flags: object) -> None:
    """Train a run until it has seen so many images, unless it has; it keeps ``points`` checkpoints."""
    steps = images // batch_size(args)
    every = max(steps // points, 1)
    steps = every * points
    if steps in RunFolder(folder).complete_steps():
        return
    keep = ["--checkpoint-every", every, "--keep-newest", points + 1, "--evaluate-every", 0, "--sample-every", every]
    command = ["-m", "dcgan_jax.train", "--workdir", folder, "--steps", steps, *keep, *args.flags.split(), *flags]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as log:
        ended = subprocess.run([sys.executable, *map(str, command)], stdout=log, stderr=log)
    if ended.returncode:
        raise SystemExit(f"{folder} ended with exit code {ended.returncode}, see {log.name}")


def model(args: argparse.Namespace) -> Path:
    """The run to start from."""
    if args.model:
        return Path(args.model)
    train(args.out / "model", args.source_images, 4, args, "--data", args.source)
    return args.out / "model"


def drawn(count: int, seed: int, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the pictures to train on, and of the others."""
    order = np.random.default_rng(seed).permutation(pictures)
    return np.sort(order[:count]), order[count:]


def few(store: Store, chosen: np.ndarray, place: Path) -> Path:
    """A folder with these pictures of a store, in a folder for each class if it has classes, written once."""
    from PIL import Image

    if not place.exists():
        partial = place.with_suffix(".partial")
        names = store.label_names if len(store.label_names) > 1 else ("",)
        for name in names:
            (partial / name).mkdir(parents=True, exist_ok=True)
        for number, picture in zip(chosen, store.take(chosen), strict=True):
            Image.fromarray(picture.squeeze()).save(partial / names[store.labels[number]] / f"{number:06d}.png")
        partial.rename(place)
    return place


def flags(args: argparse.Namespace) -> dict[str, list[object]]:
    """The flags of ``train`` that make each arm of the study; a model is trained if one of them starts from it."""
    arms: dict[str, list[object]] = {"none": [], "conditional": ["--conditional"]}
    if set(args.arms) <= arms.keys():
        return arms
    start = model(args)
    (file,) = export(start, args.out / "shared", formats=("safetensors",))
    both = ["--init", start]
    return arms | {"both": both, "generator": ["--init", file], "frozen": [*both, "--freeze-layers", 2]}


def judged(folder: Path, vectors: np.ndarray, chosen, others, args) -> list[dict[str, float]]:
    """The figures of each checkpoint, with how many images it had seen."""
    features, figures = feature_set(args.features), []
    rest, trained = vectors[others[: args.num]], vectors[chosen]
    if features.components:
        mean, axes = principal_components(vectors[others], features.components)
        rest, trained = ((x - mean) @ axes for x in (rest, trained))
    limit = np.quantile(nearest(trained, rest)[0], 0.01)
    for step in sorted(RunFolder(folder).complete_steps()):
        fakes = features.vectors(to_uint8(sample(restore(folder, step), jax.random.key(1), args.num)))
        fakes = (fakes - mean) @ axes if features.components else fakes
        figures.append(
            {
                "images": step * batch_size(args),
                "fd": frechet_distance(rest, fakes),
                "coverage": prdc(rest, fakes).coverage,
                "c_t": c_t(trained, rest, fakes, cells=min(5, 1 + len(trained) // 50)),
                "near": float(np.mean(nearest(trained, fakes)[0] < limit)),
            }
        )
    return figures


def reached(figures: list[dict[str, float]], fd: float) -> float:
    """How many images a run had seen when its FD was this low; infinite if never."""
    return next((one["images"] for one in figures if one["fd"] <= fd), float("inf"))


def table(results: dict[str, list[dict[str, float]]], args: argparse.Namespace) -> str:
    """A row for each number of pictures and arm, of the seeds that all arms have."""
    rows = ["| pictures | start | seeds | best FD | coverage | C_T | near | after images | images for the FD of none |"]
    rows.append("|---" * 9 + "|")
    for count in args.counts:
        seeds = [seed for seed in args.seeds if all(f"{count} {arm} {seed}" in results for arm in args.arms)]
        for arm in args.arms if seeds else ():
            runs = [results[f"{count} {arm} {seed}"] for seed in seeds]
            tops = [min(run, key=lambda one: one["fd"]) for run in runs]
            middle = {name: float(np.median([top[name] for top in tops])) for name in tops[0]}
            share = ""
            if "none" in args.arms:
                plain = [min(results[f"{count} none {seed}"], key=lambda one: one["fd"]) for seed in seeds]
                shares = [reached(run, top["fd"]) / top["images"] for run, top in zip(runs, plain, strict=True)]
                share = f"{np.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
            figures = " | ".join(f"{middle[name]:.3g}" for name in ("fd", "coverage", "c_t", "near"))
            rows.append(f"| {count} | {arm} | {len(seeds)} | {figures} | {middle['images']:,.0f} | {share} |")
    return "\n".join(rows) + "\n"


def store_of(args: argparse.Namespace) -> Store:
    """The pictures of the target, in the shape that the runs have."""
    shape = argparse.ArgumentParser(add_help=False)
    for name in ("image_size", "channels"):
        shape.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Config(), name))
    return open_store(Config(data=args.target, **vars(shape.parse_known_args(args.flags.split())[0])))


def main() -> None:
    args = arguments()
    arms, store = flags(args), store_of(args)
    vectors, features = None, feature_set(args.features)
    saved = args.out / "few.json"
    results = json.loads(saved.read_text()) if saved.exists() else {}
    for seed, count in itertools.product(args.seeds, args.counts):
        chosen, others = drawn(count, seed, len(store))
        pictures = few(store, chosen, args.out / "pictures" / f"{count}-{seed}")
        for arm in args.arms:
            if f"{count} {arm} {seed}" in results:
                continue
            folder = args.out / f"{count}-{arm}-{seed}"
            train(folder, args.images, args.points, args, "--data", pictures, "--seed", seed, *arms[arm])
            vectors = features.vectors(store.take(range(len(store)))) if vectors is None else vectors
            results[f"{count} {arm} {seed}"] = judged(folder, vectors, chosen, others, args)
            saved.write_text(json.dumps(results, indent=1))
            (args.out / "few.md").write_text(table(results, args))
    print(table(results, args))


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
