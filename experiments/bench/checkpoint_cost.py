"""What a checkpoint costs a run that goes on training: ``python experiments/bench/checkpoint_cost.py``.

Stretches of steps of the default configuration with one checkpoint at their start take turns with
stretches without; the difference, over ``Config().checkpoint_every`` steps, is the cost.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time

import jax

from dcgan_jax.config import Config
from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import train_step
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.results import finite_copy
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.memory import keep_freed_memory


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stretches", type=int, default=6, help="of each kind")
    parser.add_argument("--steps", type=int, default=30, help="in each stretch")
    arguments = parser.parse_args()
    keep_freed_memory()
    cache_compilations()
    config = dataclasses.replace(Config(), keep_newest=1)
    key = jax.random.key(0)
    images = jax.random.uniform(key, (config.batch_size, *config.image_shape), minval=-1)
    state, _ = train_step(create_state(config), images, key)
    seconds, blocked = {True: [], False: []}, []
    with tempfile.TemporaryDirectory() as workdir, Checkpoints(RunFolder(workdir), config, "bench") as checkpoints:
        for stretch in range(2 * arguments.stretches):
            saving = stretch % 2 == 1
            jax.block_until_ready(state)
            begin = time.perf_counter()
            if saving:
                checkpoints.save(int(state.step), finite_copy(int(state.step), state), 0)
                blocked.append(time.perf_counter() - begin)
            for _ in range(arguments.steps):
                state, _ = train_step(state, images, key)
            jax.block_until_ready(state)
            seconds[saving].append(time.perf_counter() - begin)
    without, with_one = statistics.median(seconds[False]), statistics.median(seconds[True])
    step = without / arguments.steps
    cost = with_one - without
    print(
        f"{jax.devices()[0].device_kind}: step {step * 1e3:.0f} ms; a checkpoint holds the loop up for "
        f"{statistics.median(blocked) * 1e3:.0f} ms and costs {cost * 1e3:.0f} ms in all "
        f"(stretches without {min(seconds[False]):.2f}-{max(seconds[False]):.2f} s, with {min(seconds[True]):.2f}-{max(seconds[True]):.2f} s): "
        f"{100 * cost / (config.checkpoint_every * step):.2f}% of a run with one every {config.checkpoint_every} steps"
    )


if __name__ == "__main__":
    main()
