"""How good are these runs, by two judges? One row for each run, in CIFAR features and in those of another network.

    python experiments/recipes/judge.py runs/robust runs/projected --step newest --num 2000

Prints a Markdown table, a row as soon as it is measured, and adds each evaluation to the run's evaluation.json, as
``evaluate`` does. FD, KID, precision, recall and coverage come from the features of the built-in CIFAR-10 classifier and
of EfficientNet-Lite2 (extra "imagenet"), which no recipe trains with. SWD compares pixels. "Nearest" is how far a typical
sample lies from its nearest training picture, as a multiple of what other real pictures do, and C_T below -3 says that
samples are copies, or only the plainest kinds; both are from Lite2's features. A row of real images comes before the first
run of each n and set: their floors. Runs of the same images, --num and --seed can be compared.
"""

import argparse
from pathlib import Path

from dcgan_jax import Evaluation, InputError, evaluate
from dcgan_jax.cli import endings
from dcgan_jax.system.memory import keep_freed_memory

IN_BOTH = {"fd": "FD", "kid": "KID", "precision": "precision", "recall": "recall", "coverage": "coverage"}
BY = ("CIFAR", "Lite2")
OTHERS = {"swd": "SWD × 1000", "nearest": "nearest", "c_t": "C_T"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--step", default="newest", type=lambda text: int(text) if text.isdigit() else text)
    parser.add_argument("--num", type=int, default=2000, help="samples in each of three sets")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def head() -> list[str]:
    measures = [f"{by} {text}" for by in BY for text in IN_BOTH.values()]
    return ["run", "step", "n", *measures, *OTHERS.values()]


def cells(both: list[Evaluation], kind: str) -> list[str]:
    """The figures of a row: ``kind`` is value or floor."""
    wanted = [(one, name) for one in both for name in IN_BOTH] + [(both[1], name) for name in OTHERS]
    return [f"{getattr(one.figures[name], kind):.3g}" if name in one.figures else "" for one, name in wanted]


def row(values: list[str]) -> None:
    print("| " + " | ".join(values) + " |", flush=True)


def judged(run: Path, args: argparse.Namespace) -> list[Evaluation]:
    """Evaluations of one step in both sets of features."""
    ours = evaluate(run, args.step, num=args.num, seed=args.seed)
    return [ours, evaluate(run, ours.step, num=args.num, features="imagenet", seed=args.seed)]


def main() -> None:
    args = arguments()
    row(head())
    print("|" + "---|" * len(head()), flush=True)
    floors, missing = None, []
    for run in args.runs:
        try:
            both = judged(run, args)
        except InputError as error:  # the others are measured all the same
            missing.append(f"{run}: {error}")
            continue
        if (reals := cells(both, "floor")) != floors:
            row(["real images", "", str(both[0].n), *reals])
            floors = reals
        row([run.name, str(both[0].step), str(both[0].n), *cells(both, "value")])
    if missing:
        raise InputError("\n".join(missing))


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
