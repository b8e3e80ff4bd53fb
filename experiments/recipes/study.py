"""Compare recipes on sets of images, with several seeds each: trains, and writes a table, curves and samples.

    python experiments/recipes/study.py --out runs/study --jobs 2 --flags "--width 32" \\
        --data box=FOLDER:32 creatures=sprites:32 --recipes classic robust "robust --gamma 3" --seeds 0 1 2

A set is NAME=DATA:SIDE, a recipe is its name and any flags of ``train``. The same command goes on after a stop. Seeds
are the outer loop, so a study that is stopped early has compared all recipes with the first seed. Figures are those that
each run takes of its averaged weights (1,024 samples against up to 2,048 images; ``evaluate`` has more). ``study.md``
has the worst seed's for each set and recipe, of the newest step and of the best one, and those of real
images. ``study.png`` has KID over the images seen, ``NAME.png`` a row for each recipe: what ``restore`` gives of the seed
with the worst best step.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import jax
import numpy as np

from dcgan_jax import restore, sample, show
from dcgan_jax.run.doctor import best, score

FIGURES = {"kid": max, "fd": max, "precision": min, "recall": min, "coverage": min, "diversity": min}
"""What is taken of each run, and which of two is worse."""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=DATA:SIDE")
    parser.add_argument("--recipes", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=128_000, help="seen by each run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each with its share of the cores (Linux)")
    parser.add_argument("--flags", default="", help="of train, for all runs")
    return parser.parse_args()


def folder_of(args, data, recipe, seed):
    return args.out / re.sub("[^A-Za-z0-9.]+", "-", f"{data.split('=')[0]} {recipe} {seed}")


def train(args, data, recipe, seed, cores):
    """Train one run on some cores, unless it is complete."""
    from dcgan_jax.recipes import RECIPES

    _, source, side = re.fullmatch(r"(.+?)=(.+):(\d+)", data).groups()
    name, *flags = f"{recipe} {args.flags}".split()
    batch = int(flags[flags.index("--batch-size") + 1]) if "--batch-size" in flags else RECIPES[name].config.batch_size
    steps, folder = args.images // batch, folder_of(args, data, recipe, seed)
    if (folder / "metrics.jsonl").exists() and lines_of(folder)[-1]["step"] >= steps:
        return
    small = ["--keep-newest", 1, "--keep-every", 10**9, "--sample-every", max(steps // 4, 1)]
    flags = ["--recipe", name, "--data", source, "--image-size", side, "--seed", seed, "--steps", steps, *small, *flags]
    command = [sys.executable, "-m", "dcgan_jax.train", "--workdir", folder, *flags]
    log = folder.with_suffix(".log")
    with log.open("a") as stream:
        ended = subprocess.run(
            ["taskset", "--cpu-list", ",".join(map(str, cores)), *map(str, command)], stdout=stream, stderr=stream
        )
    if ended.returncode:
        print(f"{folder} ended with exit code {ended.returncode}, see {log}", flush=True)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write(args):
    """The table, the curves and the samples of all runs that have been evaluated."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    table = ["| set | recipe | seeds | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 3) + "|"]
    figure, axes = pyplot.subplots(1, len(args.data), figsize=(5 * len(args.data), 4), squeeze=False)
    for data, axis in zip(args.data, axes[0]):
        name, real, drawn = data.split("=")[0], {}, []
        for i, recipe in enumerate(args.recipes):
            folders = [folder_of(args, data, recipe, seed) for seed in args.seeds]
            folders = [folder for folder in folders if (folder / "metrics.jsonl").exists()]
            runs = {folder: [line for line in lines_of(folder) if "kid" in line] for folder in folders}
            runs = {folder: lines for folder, lines in runs.items() if lines}
            if not runs:
                continue
            tops = {folder: best(lines) for folder, lines in runs.items()}
            newest = [lines[-1] for lines in runs.values()]
            cells = [
                " / ".join(f"{worse(line[key] for line in lines):.3g}" for lines in (newest, tops.values()))
                for key, worse in FIGURES.items()
            ]
            table.append(f"| {name} | {recipe} | {len(runs)} | {' | '.join(cells)} |")
            real = next(iter(tops.values()))
            for k, (folder, lines) in enumerate(runs.items()):
                batch = json.loads((folder / "config.json").read_text())["batch_size"]
                points = [(line["step"] * batch, line["kid"]) for line in lines]
                axis.semilogy(*zip(*points), color=f"C{i}", label=recipe if k == 0 else None)
            worst = min(tops, key=lambda folder: score(tops[folder]))
            drawn.append(sample(restore(worst), jax.random.key(1), 16))
        if real:
            floor = " | ".join(f"{real[f'{key}_floor']:.3g}" for key in FIGURES)
            table.append(f"| {name} | real images | | {floor} |")
            show(np.concatenate(drawn), columns=16).save(args.out / f"{name}.png")
        axis.set(title=name, xlabel="images seen", ylabel="KID")
        axis.legend()
    (args.out / "study.md").write_text("\n".join(table) + "\n")
    figure.savefig(args.out / "study.png", bbox_inches="tight")


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    cores, free = sorted(os.sched_getaffinity(0)), Queue()
    for job in range(args.jobs):
        free.put(cores[job :: args.jobs])

    def one(data, recipe, seed):
        mine = free.get()
        train(args, data, recipe, seed, mine)
        free.put(mine)

    with ThreadPoolExecutor(args.jobs) as pool:
        ordered = itertools.product(args.seeds, args.recipes, args.data)
        for done in [pool.submit(one, data, recipe, seed) for seed, recipe, data in ordered]:
            done.result()
    write(args)
    print((args.out / "study.md").read_text())


if __name__ == "__main__":
    main()
