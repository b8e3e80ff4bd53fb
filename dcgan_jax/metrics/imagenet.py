"""Features of EfficientNet-Lite2, trained on ImageNet: a second opinion, stricter than ours and much slower.

No recipe trains with this network: a generator that learned by a network's features is flattered by them.
"""

import functools
import hashlib
from pathlib import Path

import jax

from dcgan_jax.metrics.features import FeatureSet, enlarged, of_images
from dcgan_jax.pretrained import efficientnet

NETWORK = efficientnet.LITE2
SIZE = 128
_COMPONENTS = 128  # of 1,280: FD wants several times as many images as there are dimensions


def imagenet() -> FeatureSet:
    """The last feature map's channel means, of images enlarged to 128 pixels: (N, 1280), compared in 128 components.

    Raises:
      InputError: the package is not installed, or its file is not the one that is known.
    """
    vectors = functools.partial(of_images, functools.partial(_apply, efficientnet.load(NETWORK)))
    digest = hashlib.sha256(NETWORK.digest + Path(__file__).read_bytes()).digest()
    return FeatureSet(NETWORK.name, vectors, digest, _COMPONENTS)


@jax.jit
def _apply(weights, images):
    """uint8 (N, H, W, C) -> (N, 1280)."""
    *_, x = efficientnet.maps(weights, enlarged(images, SIZE))
    return efficientnet.relu6(efficientnet.pointwise(x, weights["head"])).mean((1, 2))
