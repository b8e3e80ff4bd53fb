"""What does bf16 bring to the frozen network of the recipe with features, on this CPU?

    python experiments/bench/frozen.py --rounds 15

Times ``ProjectedFeatures`` with products in float32 and in bf16, forward alone (as for real images) and with the gradient
(as for generated ones), and prints the medians of their ratios, round by round, and how far the maps are apart.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.gan.projected import ProjectedFeatures
from dcgan_jax.system.xla import compiler_options


def seconds(function, x):
    start = time.perf_counter()
    jax.block_until_ready(function(x))
    return time.perf_counter() - start


def programs(side, dtype):
    """Of images: their maps; and the gradient of the maps' sum of squares."""
    features = ProjectedFeatures(image_size=side, dtype=dtype)

    def loss(x):
        return sum(jnp.square(y).sum() for y in features(x))

    compiled = jax.jit(compiler_options=compiler_options("cpu"))
    return compiled(features.__call__), compiled(jax.grad(loss))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    print("| side | what | float32 ms | bf16 ÷ float32 (range) | relative difference |\n|---|---|---|---|---|")
    for side in (32, 64):
        x = jax.random.uniform(jax.random.key(0), (arguments.batch, side, side, 3), minval=-1)
        pairs = zip(programs(side, jnp.float32), programs(side, jnp.bfloat16), strict=True)
        for what, (exact, short) in zip(("maps", "their gradient"), pairs, strict=True):
            a, b = (np.concatenate([np.ravel(y) for y in jax.tree.leaves(f(x))]) for f in (exact, short))
            times = []
            for turn in range(arguments.rounds):
                order = (exact, short) if turn % 2 else (short, exact)
                times.append({f is short: seconds(f, x) for f in order})
            ratios = [t[True] / t[False] for t in times]
            own = 1000 * statistics.median(t[False] for t in times)
            error = np.linalg.norm(a - b) / np.linalg.norm(a)
            print(f"| {side} | {what} | {own:.0f} | {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f}) | {error:.1e} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
