"""How much longer does a step of projected take than one of robust, on this machine?

    python experiments/bench/features_cost.py --image-size 64 --width 64 --precision bf16

Both live in one process and take turns. Prints a row of Markdown: images/s, and the median and range of the ratios of the
turns. ``--features-size`` beside the default's adds a third program.
"""

import argparse
import dataclasses
import statistics
import time

import jax

from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import train_step
from dcgan_jax.recipes import RECIPES
from dcgan_jax.system.memory import keep_freed_memory


def stepper(config):
    """A function that takes some steps, and gives the seconds of one."""
    state, key = create_state(config), jax.random.key(0)
    images = jax.random.bits(key, (config.batch_size, config.image_size, config.image_size, 3), "uint8")

    def seconds(steps):
        nonlocal state
        start = time.perf_counter()
        for _ in range(steps):
            state, metrics = train_step(state, images, key)
            jax.block_until_ready(metrics)
        return (time.perf_counter() - start) / steps

    seconds(2)  # compiles
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", default="float32", choices=("float32", "bf16"))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--features-size", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7)
    options = vars(parser.parse_args())
    rounds, side = options.pop("rounds"), options.pop("features_size")

    def of(recipe, **changes):
        return stepper(dataclasses.replace(RECIPES[recipe].config, **options, **changes))

    programs = {"robust": of("robust"), "projected": of("projected")}
    if side:
        programs[f"projected, features-size {side}"] = of("projected", features_size=side)
    steps = {name: max(1, round(0.5 / program(2))) for name, program in programs.items()}
    times = [{name: program(steps[name]) for name, program in programs.items()} for _ in range(rounds)]
    cells = [f"{options['image_size']}×{options['image_size']}, width {options['width']}, {options['precision']}"]
    for name in programs:
        ratios = [turn[name] / turn["robust"] for turn in times]
        speed = options["batch_size"] / statistics.median(turn[name] for turn in times)
        cells.append(f"{name} {speed:.0f}: {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    keep_freed_memory()
    main()
