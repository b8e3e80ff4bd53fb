"""The discriminator as a feature extractor (Radford et al. 2015, section 5.1): train a linear classifier on its features.

    python experiments/recipes/features.py --workdir runs/cifar --data FOLDER_OR_ZIP

The data are labelled images as train/CLASS/ and test/CLASS/, CIFAR-10 by default (``tfds:cifar10``). Each map of each
convolution of the discriminator is max-pooled to 4x4, all are flattened and concatenated, and a linear classifier with
an L2 penalty (squared hinge, one against the rest, as in the paper's L2-SVM) is trained on them by L-BFGS. The strength
of the penalty is chosen on a tenth of the training images. The same is done with the features of an untrained
discriminator, and with the pixels.

The paper reaches 82.8 % on CIFAR-10 with a discriminator trained on ImageNet (its table 1).

The linear classifier is that of scikit-learn's LinearSVC (its weights differ by less than 1e-5).

Measured: ``dcgan_jax.train --image-size 32`` on CIFAR-10's training images, step 3000 (96,000 images), all 50,000 training
and 10,000 test images: 67.3 %; an untrained discriminator 61.0 %, pixels 40.8 %; 25 minutes on two cores with other work.
"""

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dcgan_jax import create_state, from_uint8, restore_state
from dcgan_jax.cli import endings
from dcgan_jax.config import Config
from dcgan_jax.data.decode import read_square
from dcgan_jax.data.sources import open_source
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.system.cache import cache_compilations, cache_folder
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.memory import keep_freed_memory
from dcgan_jax.system.progress import progress

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean squared hinge of standardised features
CHUNK = 250


def load(config: Config, split: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (N, S, S, C) and the names of their classes (N,), of ``split``, "train" or "test".

    Raises:
      InputError: there is none, or only one class.
    """
    tfds = config.data.startswith("tfds:")
    source = open_source(dataclasses.replace(config, data=f"{config.data}:{split}") if tfds else config, cache_folder())
    items = [item for item in source.items() if tfds or PurePosixPath(item.name).parts[0] == split]
    labels = np.array([item.label for item in items])
    if len(set(labels)) < 2:
        raise InputError(f"{config.data} must hold train/CLASS/ and test/CLASS/; {split}/ holds {len(items)} images")
    told = progress(items, f"reading {split}", total=len(items))
    return np.stack([read_square(item.load(), config) for item in told]), labels


@jax.jit
def discriminator_features(state, images):
    """(N, S, S, C) in [-1, 1] -> (N, 16 · all channels): each block's output, max-pooled to 4x4."""
    D = state.discriminator
    variables = {"params": D.params, "batch_stats": D.batch_stats}
    _, seen = D.module.apply(variables, images, train=False, capture_intermediates=True, mutable="intermediates")
    maps = [block["__call__"][0] for name, block in sorted(seen["intermediates"].items()) if "Block" in name]
    pooled = [x.reshape(len(x), 4, x.shape[1] // 4, 4, x.shape[2] // 4, -1).max((2, 4)) for x in maps]
    return jnp.concatenate([x.reshape(len(x), -1) for x in pooled], axis=1)


def extracted(extract: Callable, images: np.ndarray, name: str) -> np.ndarray:
    """``extract`` of uint8 images, float16 (N, D): half the memory, and precise to 0.1 %."""
    starts = progress(range(0, len(images), CHUNK), name, total=len(images), size=CHUNK)
    return np.concatenate([np.asarray(extract(from_uint8(images[i : i + CHUNK])), np.float16) for i in starts])


@functools.partial(jax.jit, static_argnames="steps")
def fit_linear(x, targets, penalty, *, steps: int = 60):
    """Weights (D + 1, classes), the last row the bias, that minimise the mean squared hinge plus the penalty.

    Args:
      x: (N, D), standardised; targets: (N, classes), 1 for the class and -1 for the others.
    """

    def loss(weights):
        scores = x @ weights[:-1].astype(x.dtype) + weights[None, -1].astype(x.dtype)
        hinge = jnp.square(jnp.maximum(1 - targets * scores.astype(jnp.float32), 0)).sum(1).mean()
        return hinge + penalty * jnp.square(weights[:-1]).sum()

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry, _):
        weights, memory = carry
        value, gradient = value_and_grad(weights, state=memory)
        updates, memory = solver.update(gradient, memory, weights, value=value, grad=gradient, value_fn=loss)
        return (optax.apply_updates(weights, updates), memory), value

    start = jnp.zeros((x.shape[1] + 1, targets.shape[1]))
    return jax.lax.scan(step, (start, solver.init(start)), None, length=steps)[0][0]


def accuracy(x: np.ndarray, labels: np.ndarray, test_x: np.ndarray, test_labels: np.ndarray) -> tuple[float, float]:
    """Accuracy on the test images, and the penalty that was best on a tenth of the others."""
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64) + 1e-3
    x, test_x = (((part - mean) / deviation).astype(np.float32) for part in (x, test_x))
    classes = np.array(sorted(set(labels)))
    targets = np.where(labels[:, None] == classes[None], 1.0, -1.0).astype(np.float32)

    def share(weights, x, labels):
        return float(np.mean(classes[np.argmax(x @ weights[:-1] + weights[-1], axis=1)] == labels))

    order = np.random.default_rng(0).permutation(len(x))
    held, rest = order[: len(x) // 10], order[len(x) // 10 :]
    found = {c: share(np.asarray(fit_linear(x[rest], targets[rest], c)), x[held], labels[held]) for c in PENALTIES}
    best = max(found, key=found.__getitem__)
    print(", ".join(f"{c:g}: {value:.2%}" for c, value in found.items()), "held out, by penalty", flush=True)
    return share(np.asarray(fit_linear(x, targets, best)), test_x, test_labels), best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="folder of the run")
    parser.add_argument("--data", default="tfds:cifar10", help="or a folder or .zip with train/CLASS/, test/CLASS/")
    parser.add_argument("--step", type=int, help="of the checkpoint; the newest by default")
    parser.add_argument("--num", type=int, help="training images to use; all by default")
    args = parser.parse_args()

    cache_compilations()
    start = time.monotonic()
    config = dataclasses.replace(RunFolder(args.workdir).config(), data=args.data)
    trained = restore_state(args.workdir, args.step or "newest")
    images, labels = load(config, "train")
    chosen = np.random.default_rng(0).permutation(len(images))[: args.num]
    images, labels = images[chosen], labels[chosen]
    test_images, test_labels = load(config, "test")
    extractors = {
        f"discriminator of step {int(trained.step)}": functools.partial(discriminator_features, trained),
        "untrained discriminator": functools.partial(discriminator_features, create_state(config)),
        "pixels": lambda images: images.reshape(len(images), -1),
    }
    for name, extract in extractors.items():
        x, test_x = (extracted(extract, part, name) for part in (images, test_images))
        share, penalty = accuracy(x, labels, test_x, test_labels)
        print(
            f"{name}: {share:.2%} of {len(test_x):,} test images, {len(x):,} training images, {x.shape[1]:,} features, "
            f"penalty {penalty:g}, {time.monotonic() - start:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
