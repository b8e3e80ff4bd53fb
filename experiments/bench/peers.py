"""How good are pictures after ten, twenty and forty minutes? Several programs, the same images, the same judges.

    python experiments/bench/peers.py train --program "dcgan_jax projected" --data photos/ --out runs/peers
    python experiments/bench/peers.py train --program "PyTorch as pytorch/examples" --data photos/ --out runs/peers
    python experiments/bench/peers.py judge --data photos/ --out runs/peers

``train`` takes turns of a program until the minutes are over, and draws 6,000 samples after each turn, which is not
counted: OUT/PROGRAM/MINUTES.npy. dcgan_jax trains by its command, as a user would; its start and what it measures as it
trains are counted. PyTorch starts once, its start is not counted, and it measures nothing. Give each the same cores
(``taskset``). ``judge`` prints a Markdown table of all there is, in the features of the built-in classifier and in those of
EfficientNet-Lite2, which no recipe trains with, and draws FD against the minutes (OUT.png) and the samples beside each
other (OUT-samples.png).
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SETS, NUM = 3, 2000
MINUTES = [10.0, 20.0, 40.0]
OURS = {
    "dcgan_jax projected": "--recipe projected",
    "dcgan_jax projected, bf16": "--recipe projected --precision bf16",
    "dcgan_jax robust": "--recipe robust",
    "dcgan_jax robust, bf16": "--recipe robust --precision bf16",
    "dcgan_jax classic": "--recipe classic",
}
PYTORCH = {
    "PyTorch as pytorch/examples": {},
    "PyTorch channels_last, bf16": {"channels_last": True, "bf16": True},
}
FIGURES = {"fd": "FD", "precision": "precision", "recall": "recall", "coverage": "coverage"}


def images_of(data):
    """The images as dcgan_jax decodes them, 64x64 RGB."""
    from dcgan_jax.config import Config
    from dcgan_jax.data.store import open_store

    return open_store(Config(data=data))


def keep(samples, folder, minutes):
    np.save(folder / "part.npy", samples)
    (folder / "part.npy").replace(folder / f"{minutes:g}.npy")
    print(f"{folder.name}: {minutes:g} minutes", flush=True)


def drawn(run):
    """Samples of the newest checkpoint."""
    import jax

    from dcgan_jax import restore, sample, to_uint8

    params, key = restore(run, "newest"), jax.random.key(1)
    parts = [to_uint8(sample(params, jax.random.fold_in(key, start), 500)) for start in range(0, SETS * NUM, 500)]
    return np.concatenate(parts)


def ours(flags, data, folder, minutes):
    """Train by the command, which is told to save and stop after each turn, and resumed for the next."""
    command = [
        sys.executable,
        "-m",
        "dcgan_jax.train",
        "--workdir",
        str(folder / "run"),
        "--data",
        data,
        *flags.split(),
    ]
    trained = 0.0
    for mark in minutes:
        start = time.perf_counter()
        with open(folder / "log.txt", "a") as log:
            process = subprocess.Popen([*command, "--steps", "1000000"], stdout=log, stderr=log)
        time.sleep(max(0, 60 * (mark - trained)))
        process.send_signal(signal.SIGTERM)
        process.wait()
        trained += (time.perf_counter() - start) / 60
        keep(drawn(folder / "run"), folder, mark)


def pytorch(options, data, folder, minutes):
    """pytorch/examples' loop: shuffled batches of 64, no augmentation; samples as it draws them, in training mode."""
    import torch
    from step import pytorch as program

    store, random = images_of(data), np.random.default_rng(0)
    order: list[int] = []
    networks: dict = {}

    def feed():
        nonlocal order
        if len(order) < 64:
            order = list(random.permutation(len(store)))
        some, order = np.sort(order[:64]), order[64:]
        images = torch.from_numpy(store.take_uint8(some)).permute(0, 3, 1, 2) / 127.5 - 1
        return images.contiguous(memory_format=torch.channels_last if options else torch.contiguous_format)

    step, _ = program(64, **options, feed=feed, networks=networks)
    step()
    trained, steps = 0.0, 0
    for mark in minutes:
        start = time.perf_counter()
        while trained + (time.perf_counter() - start) / 60 < mark:
            step()
            steps += 1
        trained += (time.perf_counter() - start) / 60
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bool(options)):
            parts = [networks["G"](torch.randn(500, 100, 1, 1)).float() for _ in range(0, SETS * NUM, 500)]
        samples = ((torch.cat(parts) + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        keep(samples, folder, mark)
        print(f"{steps * 64:,} images, {steps * 64 / trained / 60:.1f} a second", flush=True)


def judge(data, out):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from dcgan_jax.metrics.evaluate import Reals
    from dcgan_jax.metrics.features import CIFAR, store_features
    from dcgan_jax.metrics.imagenet import imagenet
    from dcgan_jax.system.cache import cache_folder
    from dcgan_jax.views.grid import grid, save_png

    store = images_of(data)
    by = {"CIFAR": CIFAR, "Lite2": imagenet()}
    reals = {
        name: Reals(store.take_uint8, store_features(store, cache_folder(), features), features=features, num=NUM)
        for name, features in by.items()
    }
    print("| program | minutes |", " | ".join(f"{name} {text}" for name in by for text in FIGURES.values()), "|")
    print("|" + "---|" * (2 + len(by) * len(FIGURES)))
    floors = [f"{one.floor[figure]:.3g}" for one in reals.values() for figure in FIGURES]
    print("| real images | |", " | ".join(floors), "|", flush=True)
    _, panels = plt.subplots(1, len(by), figsize=(9, 4))
    shown = {}
    for folder in sorted(path for path in out.iterdir() if path.is_dir()):
        distances: dict[str, list[float]] = {name: [] for name in by}
        marks = sorted(float(path.stem) for path in folder.glob("*[0-9].npy"))
        for mark in marks:
            samples, cells = np.load(folder / f"{mark:g}.npy"), []
            for name, one in reals.items():
                sets = [
                    one.compare(part, one.features.vectors(part)) for part in np.split(samples[: SETS * one.n], SETS)
                ]
                figures = one.figures(sets)
                cells += [f"{figures[figure].value:.3g}" for figure in FIGURES]
                distances[name].append(figures["fd"].value)
            print(f"| {folder.name} | {mark:g} |", " | ".join(cells), "|", flush=True)
            shown[folder.name] = samples[:12]
        for panel, name in zip(panels, by):
            panel.plot(marks, distances[name], marker="o", label=folder.name)
    for panel, name in zip(panels, by):
        panel.set(xlabel="minutes", ylabel=f"FD in {name} features", ylim=(0, None))
        panel.legend(fontsize=7)
    plt.tight_layout()
    plt.savefig(f"{out}.png", dpi=150)
    print("rows of the samples, after the last minutes:", ", ".join(shown))
    save_png(Path(f"{out}-samples.png"), grid(np.concatenate(list(shown.values())), columns=12))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("--data", required=True, help="as of dcgan_jax.train")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--program", choices=[*OURS, *PYTORCH])
    parser.add_argument("--minutes", type=float, nargs="+", default=MINUTES)
    arguments = parser.parse_args()
    if arguments.what == "judge":
        return judge(arguments.data, arguments.out)
    name = arguments.program or parser.error("train needs --program")
    folder = arguments.out / name.replace("/", " ")
    folder.mkdir(parents=True)
    train, options = (ours, OURS[name]) if name in OURS else (pytorch, PYTORCH[name])
    return train(options, arguments.data, folder, arguments.minutes)


if __name__ == "__main__":
    main()
