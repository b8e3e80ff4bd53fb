"""A small classifier, trained on labelled images when it is first asked for: which class does a sample belong to?"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.config import has_alpha
from dcgan_jax.data.store import Store
from dcgan_jax.gan.pixels import from_levels, from_uint8, to_levels
from dcgan_jax.metrics import features
from dcgan_jax.metrics.features import Block
from dcgan_jax.system.cache import kept
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.progress import progress
from dcgan_jax.system.xla import random_key, usual_numbers

MOST, FEWEST = 20, 50
"""Labels at most, and images of each at least."""
JUNK = 0.05
"""A sample is junk if the classifier is less sure of it than of all but this share of the held-out images."""
_HELD_OUT, _SIZE, _BATCH = 5, 32, 64  # every fifth image; pixels; images of a step
_SEEN, EPOCHS, _RATE = 300_000, 40, 4e-3  # images seen at most, passes at most, Adam's largest step size


def convolve_by_matrix(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """``features.convolve`` as one matrix product: on a CPU, XLA's gradient of that is faster."""
    size, _, _, out = kernel.shape
    height, width = (n + 3 - size for n in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + height : stride, j : j + width : stride] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, out)


class _Network(nn.Module):
    """(N, H, W, C) in [-1, 1] -> logits (N, classes)."""

    classes: int

    @nn.compact
    def __call__(self, x, train: bool = False):
        block = functools.partial(Block, conv=convolve_by_matrix)
        x = block(32, size=4, stride=2)(x, train)  # (N, H/2, W/2, 32)
        x = block(64, stride=2)(x, train)  # (N, H/4, W/4, 64)
        x = x + block(64)(x, train)
        x = block(128, stride=2)(x, train)  # (N, H/8, W/8, 128)
        return nn.Dense(self.classes)(x.mean((1, 2)))


def _scaled(images):
    """uint8 -> [-1, 1]; what is larger than 32 pixels by means of squares: a class shows in its shape.

    Colours of images with alpha are premultiplied.
    """
    n, height, width, channels = images.shape
    most = max(1, min(height, width) // _SIZE)
    f = max(f for f in range(1, most + 1) if height % f == width % f == 0)
    levels = to_levels(from_uint8(images)) if has_alpha(channels) else images.astype(jnp.float32)
    squares = levels.reshape(n, height // f, f, width // f, f, channels)
    return from_levels(squares.mean((2, 4)))


class Classifier(NamedTuple):
    """A trained classifier, and what it makes of the images that it has not been trained on.

    Attributes:
      classes: K, how many there are.
      variables: of the network.
      labels: int (N,), of all real images.
      train, held_out: indices of the two disjoint parts of the real images.
      named: int (M,): the class that it names for each held-out image.
      threshold: confidence that 5 % of the held-out images do not reach. A sample below it is junk.
      junk: bool (M,): whether a held-out image is below it.
    """

    classes: int
    variables: Any
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    named: np.ndarray
    threshold: float
    junk: np.ndarray

    def confusion(self) -> np.ndarray:
        """Counts of held-out images, int (K, K): rows are labels, columns what the classifier names."""
        k = self.classes
        return np.bincount(self.labels[self.held_out] * k + self.named, minlength=k * k).reshape(k, k)

    def accuracy(self) -> float:
        """Share of the held-out images that are named rightly."""
        return float((self.labels[self.held_out] == self.named).mean())

    def name(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The class of each image, uint8 (N, H, W, C), and how sure that is: int (N,), float (N,) in [0, 1]."""
        return _name(self.variables, self.classes, images)


@functools.partial(jax.jit, static_argnames="classes")
def _apply(variables, images, classes):
    logits: Any = _Network(classes).apply(variables, _scaled(images))
    probabilities = jax.nn.softmax(logits)
    return probabilities.argmax(-1), probabilities.max(-1)


def _name(variables, classes, images):
    return features.chunked(lambda chunk: _apply(variables, chunk, classes), images)


@usual_numbers()
def classifier(store: Store, cache: Path) -> Classifier:
    """Train a classifier on four fifths of each class of ``store``, or read it from the folder ``cache``.

    It is recognised by the images, their labels and this code. Always the same seed.

    Raises:
      InputError: fewer than 2 or more than 20 labels, or fewer than 50 images of one.
    """
    names, labels = store.label_names, store.labels
    counts = np.bincount(labels, minlength=len(names))
    if not 2 <= len(names) <= MOST:
        folders = "a folder for each class" if len(names) < 2 else f"at most {MOST} folders, similar ones together"
        raise InputError(
            f"classes: the images have {len(names)} label{'s' * (len(names) != 1)}, but 2 to {MOST} are needed: put "
            f"them in {folders}, or use a data set with labels"
        )
    if counts.min() < FEWEST:
        joined = ", or put its images into another class's folder" if len(names) > 2 else ""
        raise InputError(
            f"classes: {names[counts.argmin()]} has {counts.min()} images, but each class needs at least {FEWEST}: "
            f"add some{joined}"
        )
    rng = np.random.default_rng(0)
    orders = [rng.permutation(np.flatnonzero(labels == label)) for label in range(len(names))]
    held_out = np.sort(np.concatenate([order[: len(order) // _HELD_OUT] for order in orders]))
    train = np.setdiff1d(np.arange(len(labels)), held_out)
    code = (Path(__file__).read_bytes(), Path(features.__file__).read_bytes())
    made_of = (store.digest.encode(), str(store.shape).encode(), labels.tobytes(), *code)
    arrays = kept(cache / "classifiers", made_of, lambda: flatten_dict(train_classifier(store, train), sep="/"))
    variables = unflatten_dict(arrays, sep="/")
    named, sure = _named(variables, len(names), store, held_out)
    threshold = float(np.quantile(sure, JUNK))
    return Classifier(len(names), variables, labels, train, held_out, named, threshold, sure < threshold)


def train_classifier(store: Store, train: np.ndarray) -> Any:
    """The variables of a network that names the label of an image, trained on those with the numbers ``train``."""
    return _trained(
        lambda places: store.take_uint8(train[places]), store.labels[train], store.shape[1:], store.label_names
    )


@usual_numbers()
def accuracy_of_learner(judge: Classifier, store: Store, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of held-out real images that a classifier names rightly which was trained on generated ones.

    It is trained as ``judge`` was (Ravuri & Vinyals 2019).

    Args:
      judge: says which real images are held out.
      store: of the real images.
      images: uint8 (N, H, W, C), generated.
      labels: int32 (N,), the classes that they were asked for.
    """
    variables = _trained(lambda places: images[places], labels, store.shape[1:], store.label_names)
    return float((judge.labels[judge.held_out] == _named(variables, judge.classes, store, judge.held_out)[0]).mean())


def _named(variables, classes, store, numbers):
    """The class that each of those images is named, and how sure that is."""
    parts = [_name(variables, classes, store.take_uint8(numbers[i : i + 4096])) for i in range(0, len(numbers), 4096)]
    named, sure = (np.concatenate(part) for part in zip(*parts))
    return named, sure


def _trained(take: Callable[[np.ndarray], np.ndarray], labels: np.ndarray, shape, names) -> Any:
    network, count = _Network(len(names)), len(labels)
    steps = min(_SEEN, EPOCHS * count) // _BATCH
    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, _RATE), weight_decay=1e-3)
    variables: Any = network.init(random_key(0), _scaled(jnp.zeros((1, *shape), jnp.uint8)))
    moments = optimizer.init(variables["params"])

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(variables, moments, images, labels):
        def loss(params):
            state = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, changed = network.apply(state, _scaled(images), True, mutable=["batch_stats"])
            targets = optax.smooth_labels(jax.nn.one_hot(labels, network.classes), 0.1)
            return optax.softmax_cross_entropy(logits, targets).mean(), changed

        gradients, changed = jax.grad(loss, has_aux=True)(variables["params"])
        updates, moments = optimizer.update(gradients, moments, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), **changed}, moments

    for i in progress(range(steps), "training a classifier", total=steps * _BATCH, size=_BATCH):
        epoch, start = divmod(i * _BATCH, count // _BATCH * _BATCH)
        some = np.random.default_rng((0, epoch)).permutation(count)[start : start + _BATCH]
        variables, moments = step(variables, moments, take(some), labels[some])
    return variables
