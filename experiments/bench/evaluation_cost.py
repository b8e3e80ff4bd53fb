"""What do the average of the weights, and evaluating while training, cost?

    python experiments/bench/evaluation_cost.py [--rounds 15]

The default run's step with and without the average, in turns; and one evaluation, as a share of the time in which
``evaluate_every`` images are trained on. Results: docs/results/average.md.
"""

import argparse
import time

import jax
import numpy as np

from dcgan_jax import Config, create_state
from dcgan_jax.data.store import open_store
from dcgan_jax.gan.step import step
from dcgan_jax.metrics.monitor import Monitor
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.memory import keep_freed_memory
from dcgan_jax.system.xla import compiler_options


def without_average(state, images, key):
    new, metrics = step(state, images, key)
    return new.replace(ema=state.ema), metrics


def seconds(function, *args):
    start = time.perf_counter()
    return jax.block_until_ready(function(*args)), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    cache_compilations()
    config = Config(augment="off")
    store = open_store(config)
    images, key = jax.device_put(store.take(range(config.batch_size))), jax.random.key(0)
    options = compiler_options(jax.default_backend())
    steps = {
        name: jax.jit(function, donate_argnames="state", compiler_options=options)
        for name, function in (("with", step), ("without", without_average))
    }
    states = {name: create_state(config) for name in steps}
    times = {name: [] for name in steps}
    for i in range(rounds + 1):  # the first compiles
        for name, function in steps.items():
            for _ in range(4):
                (states[name], _), taken = seconds(function, states[name], images, key)
                if i:
                    times[name].append(taken)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    ratios = np.array(times["with"]).reshape(rounds, -1).mean(1) / np.array(times["without"]).reshape(rounds, -1).mean(
        1
    )
    print(
        f"a step: {1e3 * medians['with']:.0f} ms with the average, {1e3 * medians['without']:.0f} ms without; ", end=""
    )
    print(f"median of {rounds} ratios {np.median(ratios):.3f}")
    monitor = Monitor(store, held_out_images=config.held_out)
    monitor(states["with"])  # compiles
    taken = [seconds(monitor, states["with"])[1] for _ in range(3)]
    every = config.evaluate_every / config.batch_size * medians["with"]
    print(
        f"an evaluation: {np.median(taken):.1f} s, {np.median(taken) / every:.1%} of the {every:.0f} s between two of them"
    )


if __name__ == "__main__":
    keep_freed_memory()
    main()
