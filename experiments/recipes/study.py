"""Compare recipes on data sets, with several seeds each: trains, evaluates, and writes a table and a figure.

    python experiments/recipes/study.py --out runs/study --images 128000 \\
        --data box=PATH:64 fmnist=PATH:32 --recipes classic robust "robust --gamma 3" --seeds 0 1 2

A data set is NAME=PATH:SIDE, a recipe is its name and any flags of ``train``. Runs whose evaluation is there are not
repeated, and a run that was stopped resumes: the same command goes on. Sets are the inner loop, so that a study that
is stopped early has compared all recipes with the first seed. ``study.md`` has a row for each recipe and set, with the
worst seed's figures of the newest and of the best checkpoint, and ``study.png`` the KID over the images seen.
A folder takes three checkpoints (260 MB at width 64) until it is evaluated, then the best alone is kept.
"""

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

FIGURES = ("fd", "kid", "precision", "recall", "coverage", "diversity")
LOWER = ("fd", "kid")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, metavar="NAME=PATH:SIDE")
    parser.add_argument("--recipes", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=128_000, help="seen by each run")
    parser.add_argument("--num", type=int, default=2048, help="samples of an evaluation")
    parser.add_argument("--flags", default="", help="of train, for all runs")
    return parser.parse_args()


def command(name, *given):
    subprocess.run([sys.executable, "-m", f"dcgan_jax.{name}", *map(str, given)], check=True)


def train_and_evaluate(folder, data, recipe, seed, args):
    """Fill the folder of one run, unless its evaluation is there; add the minutes that it took to study.json."""
    _, path, side = re.fullmatch(r"(.+?)=(.+):(\d+)", data).groups()
    name, *flags = f"{recipe} {args.flags}".split()
    batch = int(flags[flags.index("--batch-size") + 1]) if "--batch-size" in flags else batch_of(name)
    if not (folder / "evaluation.json").exists():
        start, notes = time.time(), folder / "study.json"
        command(
            *("train", "--workdir", folder, "--recipe", name, "--data", path, "--image-size", side, "--seed", seed),
            *(
                "--steps",
                args.images // batch,
                "--keep-newest",
                1,
                "--keep-every",
                10**9,
                "--sample-every",
                1000,
                *flags,
            ),
        )
        before = json.loads(notes.read_text())["minutes"] if notes.exists() else 0
        notes.write_text(json.dumps({"minutes": before + (time.time() - start) / 60}))
        command("evaluate", "--workdir", folder, "--num", args.num)
        best = min(json.loads((folder / "evaluation.json").read_text()), key=lambda one: one["metrics"]["kid"]["value"])
        for checkpoint in (folder / "checkpoints").iterdir():
            if checkpoint.name != str(best["step"]):
                shutil.rmtree(checkpoint)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    curve = [(line["step"] * batch, line["kid"]) for line in lines if "kid" in line]
    minutes = json.loads((folder / "study.json").read_text())["minutes"]
    return {"found": json.loads((folder / "evaluation.json").read_text()), "curve": curve, "minutes": minutes}


def batch_of(recipe):
    from dcgan_jax.recipes import RECIPES

    return RECIPES[recipe].config.batch_size


def row(runs):
    """The worst seed's figures: those of the newest checkpoint, and of the best, which may be the same."""
    worst = []
    for which in (lambda found: max(found, key=lambda one: one["step"]),
                  lambda found: min(found, key=lambda one: one["metrics"]["kid"]["value"])):  # fmt: skip
        metrics = [which(run["found"])["metrics"] for run in runs]
        worst.append([(max if n in LOWER else min)(m[n]["value"] for m in metrics if n in m) for n in FIGURES])
    newest, best = worst
    return [*(f"{a:.3g} / {b:.3g}" for a, b in zip(newest, best)), f"{max(run['minutes'] for run in runs):.0f}"]


def write(out, results):
    """The table and the figure of all runs so far."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    head = ["set", "recipe", "seeds", *FIGURES, "minutes"]
    lines = [
        "Worst seed, newest checkpoint / best checkpoint.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    sets = list(dict.fromkeys(name for name, _ in results))
    figure, axes = pyplot.subplots(1, len(sets), figsize=(5 * len(sets), 4), squeeze=False)
    for (name, recipe), runs in sorted(results.items()):
        lines.append(f"| {name} | {recipe} | {len(runs)} | {' | '.join(row(runs))} |")
        axis, label = axes[0][sets.index(name)], recipe
        color = f"C{list(dict.fromkeys(r for _, r in results)).index(recipe)}"
        for run in runs:
            axis.semilogy(*zip(*run["curve"]), color=color, label=label)
            label = None
        axis.set(title=name, xlabel="images seen", ylabel="KID")
        axis.legend()
    (out / "study.md").write_text("\n".join(lines) + "\n")
    figure.savefig(out / "study.png", bbox_inches="tight")
    pyplot.close(figure)


def main():
    args, results = arguments(), {}
    args.out.mkdir(parents=True, exist_ok=True)
    for seed, recipe, data in itertools.product(args.seeds, args.recipes, args.data):
        name = data.split("=")[0]
        folder = args.out / f"{name}-{re.sub('[^A-Za-z0-9.]+', '-', recipe)}-{seed}"
        results.setdefault((name, recipe), []).append(train_and_evaluate(folder, data, recipe, seed, args))
        write(args.out, results)


if __name__ == "__main__":
    main()
