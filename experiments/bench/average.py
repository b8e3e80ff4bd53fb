"""What is the running average of the generator's weights worth? Compares it with the weights of the step themselves.

    python experiments/bench/average.py RUN... [--num 2000]

Each run is one that ``python -m dcgan_jax.train`` has made; all its checkpoints are looked at. Prints a Markdown table:
FD, KID, precision, recall and coverage in the features of the CIFAR-10 classifier, as ``evaluate`` defines them, of one
set of samples from the same noise. Result: docs/results/average.md.
"""

import argparse

import jax

from dcgan_jax import restore, sample, to_uint8
from dcgan_jax.data.split import disjoint_halves
from dcgan_jax.data.store import open_store
from dcgan_jax.metrics.distances import frechet_distance, kernel_distance, prdc
from dcgan_jax.metrics.features import CIFAR, store_features
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.cache import cache_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--num", type=int, default=2000, help="samples of a set")
    arguments = parser.parse_args()
    print("| run | step | weights | FD | KID | precision | recall | coverage |\n|---|---|---|---|---|---|---|---|")
    for run in arguments.runs:
        folder = RunFolder(run)
        config = folder.config()
        store = open_store(config)
        first, _ = disjoint_halves(len(store), store.labels)
        reals = store_features(store, cache_folder(), CIFAR)[first[: arguments.num]]
        for step in sorted(int(path.name) for path in (folder.path / "checkpoints").iterdir()):
            for ema in (True, False):
                images = sample(restore(run, step, ema=ema), jax.random.key(0), arguments.num)
                fakes = CIFAR.vectors(to_uint8(images))
                found, kid = prdc(reals, fakes), kernel_distance(reals, fakes)
                figures = [frechet_distance(reals, fakes), kid, found.precision, found.recall, found.coverage]
                name = "averaged" if ema else "of the step"
                row = " | ".join(f"{value:.3g}" for value in figures)
                print(f"| {config.data}, seed {config.seed} | {step} | {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
