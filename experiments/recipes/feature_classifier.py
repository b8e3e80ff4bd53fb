"""Train the classifier whose features the metrics use, and write dcgan_jax/metrics/features.npz.

    python experiments/recipes/feature_classifier.py [--data FOLDER_OR_ZIP] [--out features.npz]

CIFAR-10 (``tfds:cifar10`` by default). SGD with Nesterov momentum 0.9, batch 128, one cycle up to 0.15,
label smoothing 0.1; the first 60 % of 16 epochs at 24x24. Features: channel means of three depths, each
channel scaled to deviation 1, projected on the 128 principal components of the training images.

Measured, seed 0, CIFAR-10 as JPEG files in a .zip, two virtual cores that others loaded heavily: 85.5 % of the test
images are classified correctly after 2,084 s (84.0 % one epoch earlier). features.npz has 878,773 bytes.

Squared Fréchet distance of 1,000 damaged test images over that of 1,000 clean ones, and recall (clean .92, .93):

    damage                         these features   the last depth alone
    two 8x8 squares swapped         2.5   .87         3.9   .91
    halves of two images joined     7.5   .52        13.9   .74
    blurred by 2x2                 14.4   .34        19.0   .66
    half grey                       2.7   .81         1.4   .90
    three of ten classes missing    3.5   .86         8.2   .91
    100 images ten times each       6.6   .00         7.0   .00
    checkerboard of +-6             1.1   .92         1.0   .93
"""

import argparse
import functools
import time
from pathlib import Path, PurePosixPath

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from dcgan_jax.cli import endings
from dcgan_jax.config import Config
from dcgan_jax.data.decode import read_square
from dcgan_jax.data.sources import open_source
from dcgan_jax.gan.pixels import from_uint8
from dcgan_jax.metrics import features
from dcgan_jax.metrics.features import CLASSES, DIMENSIONS, SIZE, FeatureNetwork
from dcgan_jax.system.cache import cache_folder
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.memory import keep_freed_memory

BATCH = 128
PEAK_RATE = 0.15
SMALL = 24  # the size of the first 60 % of the epochs, which take half as long so
WEIGHT_DECAY = 5e-4


def convolve_by_matrix(x, kernel, stride):
    """``convolve`` as one matrix product: on a CPU, XLA's gradient of that is faster."""
    size, _, _, out = kernel.shape
    height, width = (n + 3 - size for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, out)


def load(data: str, split: str):
    """uint8 (N, 32, 32, 3) images and integer labels of ``split``, "train" or "test".

    Raises:
      InputError: the split holds no images of the ten classes.
    """
    config = Config(data=f"{data}:{split}" if data.startswith("tfds:") else data, image_size=SIZE)
    items = open_source(config, cache_folder()).items()
    items = [item for item in items if config.data != data or PurePosixPath(item.name).parts[0] == split]
    if not items or not {item.label for item in items} <= set(CLASSES):
        raise InputError(
            f"{data} must hold CIFAR-10's images as train/CLASS/ and test/CLASS/, CLASS one of {', '.join(CLASSES)}; "
            f"{split}/ holds {len(items)} images"
        )
    return np.stack([read_square(item.load(), config) for item in items]), np.array(
        [CLASSES.index(i.label) for i in items]
    )


def augment(key, images, size):
    """Flip and shift by up to 3 pixels (mirrored border), then scale to ``size``. Colours stay: the features
    have to see them."""

    def one(key, image):
        flip, shift = jax.random.split(key)
        image = jnp.where(jax.random.bernoulli(flip), image[:, ::-1], image)
        image = jnp.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        return jax.lax.dynamic_slice(image, (*jax.random.randint(shift, (2,), 0, 7), 0), (SIZE, SIZE, 3))

    images = jax.vmap(one)(jax.random.split(key, len(images)), images)
    return images if size == SIZE else jax.image.resize(images, (len(images), size, size, 3), "linear")


def make_step(model, optimizer):
    @functools.partial(jax.jit, static_argnames="size", donate_argnums=(0, 1))
    def train_step(variables, moments, key, images, labels, size):
        def loss(params):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            (_, logits), changed = model.apply(state, augment(key, images, size), True, mutable=["batch_stats"])
            targets = optax.smooth_labels(jax.nn.one_hot(labels, len(CLASSES)), 0.1)
            return optax.softmax_cross_entropy(logits, targets).mean(), changed

        (value, changed), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer.update(gradients, moments, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), **changed}, moments, value

    return train_step


def projection(pooled):
    """Centre, scale each channel to deviation 1, keep the 128 principal components: (mean, matrix)."""
    mean, deviation = pooled.mean(0), pooled.std(0) + 1e-6
    _, directions = np.linalg.eigh(np.cov((pooled - mean) / deviation, rowvar=False))
    return mean, directions[:, : -DIMENSIONS - 1 : -1] / deviation[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="tfds:cifar10", help="or a folder or .zip with train/CLASS/, test/CLASS/")
    parser.add_argument("--out", type=Path, default=Path(features.__file__).with_name("features.npz"))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    images, labels = load(args.data, "train")
    test_images, test_labels = load(args.data, "test")
    images, test_images = from_uint8(images), from_uint8(test_images)
    steps = args.epochs * (len(images) // BATCH)
    rate = optax.schedules.piecewise_interpolate_schedule("linear", PEAK_RATE / 10, {steps // 5: 10.0, steps: 1e-3})
    decay = optax.add_decayed_weights(WEIGHT_DECAY, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    optimizer = optax.chain(decay, optax.sgd(rate, momentum=0.9, nesterov=True))
    model = FeatureNetwork(conv=convolve_by_matrix)
    key = jax.random.key(args.seed)
    variables = model.init(key, images[:1])
    moments, step = optimizer.init(variables["params"]), make_step(model, optimizer)
    apply = jax.jit(FeatureNetwork().apply)

    def run(images):
        parts = [apply(variables, images[i : i + 250]) for i in range(0, len(images), 250)]
        return [np.concatenate(part) for part in zip(*parts)]

    start, i = time.monotonic(), 0
    for epoch in range(args.epochs):
        size = SMALL if epoch < 0.6 * args.epochs else SIZE
        order = np.random.default_rng((args.seed, epoch)).permutation(len(images))
        for batch in order[: len(order) // BATCH * BATCH].reshape(-1, BATCH):
            now = jax.random.fold_in(key, i)
            variables, moments, loss = step(variables, moments, now, images[batch], labels[batch], size=size)
            i += 1
            if i % 100 == 0:
                print(f"step {i}/{steps}: loss {loss:.3f}, {time.monotonic() - start:.0f} s", flush=True)
        accuracy = np.mean(run(test_images)[1].argmax(-1) == test_labels)
        print(f"epoch {epoch + 1}: test accuracy {accuracy:.4f}, {time.monotonic() - start:.0f} s", flush=True)

    mean, matrix = projection(run(images)[0])
    weights = {"/".join(path): leaf for path, leaf in flatten_dict(variables).items()}
    weights |= {"projection/mean": mean, "projection/matrix": matrix}
    np.savez_compressed(args.out, **{name: np.asarray(leaf, np.float16) for name, leaf in weights.items()})
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    keep_freed_memory()
    with endings():
        main()
