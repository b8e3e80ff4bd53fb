"""Features of images from a small classifier of our own, trained on CIFAR-10
(experiments/recipes/feature_classifier.py). A comparison in them is a "FD (CIFAR features)", not the FID.

The network is fully convolutional and looks at an image at its own size. Small images are enlarged to 32
pixels; nothing is shrunk, because that would hide checkerboards.
"""

import functools
import hashlib
from collections.abc import Callable
from importlib import resources
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from dcgan_jax.config import has_alpha
from dcgan_jax.data.store import Store
from dcgan_jax.gan.chunks import in_chunks
from dcgan_jax.gan.pixels import GROUNDS, colour_groups, from_levels, on_ground, opaque, to_levels
from dcgan_jax.system.cache import kept
from dcgan_jax.system.progress import progress
from dcgan_jax.system.xla import usual_numbers

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 32  # what the classifier was trained on
DIMENSIONS = 128
_CHUNK = 64  # images at a time: one compilation for each size, and memory that does not grow with N


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution with padding 1: (N, H, W, C) and (k, k, C, F) -> (N, H / stride, W / stride, F)."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(1, 1)] * 2, dimension_numbers=dimensions)


class Block(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    channels: int
    conv: Callable
    size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x, train: bool = False):
        shape = (self.size, self.size, x.shape[-1], self.channels)
        x = self.conv(x, self.param("kernel", nn.initializers.he_normal(), shape), self.stride)
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))


class FeatureNetwork(nn.Module):
    """(N, H, W, 3) in [-1, 1] -> channel means of three depths (N, 256), logits (N, 10).

    ``conv`` stands in for ``convolve``: the training script has one whose gradient is faster.
    """

    conv: Callable = convolve
    widths: tuple[int, int, int] = (48, 96, 112)

    @nn.compact
    def __call__(self, x, train: bool = False):
        block = functools.partial(Block, conv=self.conv)
        first, second, third = self.widths
        x = block(32, size=4, stride=2)(x, train)  # (N, H/2, W/2, 32)
        x = depth1 = block(first)(x, train)
        x = block(second, stride=2)(x, train)  # (N, H/4, W/4, 96)
        x = depth2 = x + block(second)(block(second)(x, train), train)
        x = block(third, stride=2)(x, train)  # (N, H/8, W/8, 112)
        x = x + block(third)(x, train)
        pooled = jnp.concatenate([depth.mean((1, 2)) for depth in (depth1, depth2, x)], axis=-1)
        return pooled, nn.Dense(len(CLASSES))(pooled)


class FeatureSet(NamedTuple):
    """What images are compared by.

    Attributes:
      name: the classifier, or what it was trained on, for tables and files.
      vectors: from images, uint8 (N, H, W, C), to features, float32 (N, D); see ``of_images``.
      digest: of its weights and code; features that are kept belong to it.
      components: the features are compared in this many principal components of the real ones; None: as they are.
    """

    name: str
    vectors: Callable[[np.ndarray], np.ndarray]
    digest: bytes
    components: int | None = None


_WEIGHTS = Path(str(resources.files("dcgan_jax.metrics") / "features.npz"))


@functools.cache
def _weights() -> dict:
    with np.load(_WEIGHTS, allow_pickle=False) as file:
        return unflatten_dict({name: file[name].astype(np.float32) for name in file.files}, sep="/")


def enlarged(images: jax.Array, size: int) -> jax.Array:
    """uint8 (N, H, W, 1 or 3) -> float32 (N, H', W', 3) in [-1, 1]: bilinear, the shorter side at least ``size``."""
    x = from_levels(images.astype(jnp.float32))
    scale = size / min(x.shape[1:3])
    if scale > 1:
        shape = (len(x), round(x.shape[1] * scale), round(x.shape[2] * scale), x.shape[3])
        x = jax.image.resize(x, shape, "linear")
    return jnp.broadcast_to(x, (*x.shape[:3], 3))


@jax.jit
def network_outputs(weights: Any, images: jax.Array) -> tuple[Any, Any]:
    """uint8 (N, H, W, C) -> features (N, 128), logits (N, 10)."""
    state = {name: weights[name] for name in ("params", "batch_stats")}
    pooled, logits = FeatureNetwork().apply(state, enlarged(images, SIZE))
    return (pooled - weights["projection"]["mean"][None]) @ weights["projection"]["matrix"], logits


@usual_numbers()
def of_images(apply: Callable, images: np.ndarray) -> Any:
    """What ``apply`` says of images without transparency, uint8 (n, H, W, 1 or 3): an array, or several, (N, D).

    Images with alpha are laid on black and on white: (N, 2D), first what is said of them on black. Of images of more
    channels it is shown three at a time, (N, G · D): see ``colour_groups``.

    Raises:
      ValueError: as of ``chunked``.
    """
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return chunked(apply, images)

    def on_each(chunk):
        alpha = has_alpha(chunk.shape[3])
        views = [opaque(chunk, ground) for ground in GROUNDS] if alpha else colour_groups(chunk)
        return jax.tree.map(lambda *said: np.concatenate(said, -1), *map(apply, views))

    return chunked(on_each, images)


@usual_numbers()
def chunked(apply: Callable, images: np.ndarray) -> Any:
    """``apply`` to uint8 images (N, H, W, C), 64 at a time: its array, or tuple of arrays, for all of them.

    Raises:
      ValueError: these are no such images, or none.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise ValueError(f"images must be uint8 (N, H, W, C), N at least 1, not {images.dtype} {images.shape}")

    with ThreadPool(2) as threads:  # one chunk alone leaves cores idle, here and there
        return in_chunks(lambda chunk: jax.tree.map(np.asarray, apply(chunk)), images, _CHUNK, run=threads.map)


def features(images: np.ndarray) -> np.ndarray:
    """What the metrics compare: uint8 (N, H, W, C), any size -> float32 (N, 128), and as many for each more group of
    three channels: see ``colour_groups``.

    Channel means of three depths of the classifier, of its own training images' 128 principal components.
    No image's features depend on its neighbours. Compiled once for each H, W and C. Of images with alpha, C 2 or 4,
    they are those on black and those on white: (N, 256).
    """
    return of_images(lambda chunk: network_outputs(_weights(), chunk), images)[0]


def features_of_floats(images: jax.Array) -> jax.Array:
    """``features`` of float32 images (N, H, W, C) in [-1, 1], with gradients. For use in ``jit``, too."""
    groups = [on_ground(images, ground) for ground in GROUNDS] if has_alpha(images.shape[3]) else colour_groups(images)
    return jnp.concatenate([network_outputs(_weights(), to_levels(x))[0] for x in groups], axis=1)


def logits(images: np.ndarray) -> np.ndarray:
    """How likely each of ``CLASSES`` is, unnormalised log: uint8 (N, H, W, C) -> float32 (N, 10), with alpha the
    mean of both grounds, with more channels that of the groups of three."""
    said = of_images(lambda chunk: network_outputs(_weights(), chunk), images)[1]
    return said.reshape(len(images), -1, len(CLASSES)).mean(1)


CIFAR = FeatureSet("CIFAR", features, hashlib.sha256(_WEIGHTS.read_bytes() + Path(__file__).read_bytes()).digest())
"""The features of the classifier in this file."""


def store_features(store: Store, cache: Path, features: FeatureSet = CIFAR) -> np.ndarray:
    """The features of all images of a store, float32 (N, D), kept in the folder ``cache``.

    They are found again by the content of the images and the digest of ``features``.

    Raises:
      InputError: the images cannot be read.
    """

    def compute():
        size = 8 * _CHUNK
        starts = progress(range(0, len(store), size), "features of the images", total=len(store), size=size)
        parts = [features.vectors(store.take_uint8(range(i, min(i + size, len(store))))) for i in starts]
        return {"vectors": np.concatenate(parts)}

    made_of = (store.digest.encode(), str(store.shape).encode(), features.digest)
    most = len(store) * max(2, -(-store.shape[3] // 3)) << 14
    return kept(cache / "features", made_of, compute, most=most)["vectors"]
