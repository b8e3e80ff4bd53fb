"""A second discriminator, which sees features of a frozen network in place of pixels (Sauer et al. 2021).

The network, EfficientNet-Lite0, knows from a million photographs what limbs, fur and outlines look like. Its maps
are mixed by fixed random numbers, so that nothing that they tell can be overlooked; small heads judge each map.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax import sizes
from dcgan_jax.config import has_alpha
from dcgan_jax.gan.networks import DiscriminatorBlock, by_class
from dcgan_jax.gan.pixels import GROUNDS, colour_groups, on_ground
from dcgan_jax.pretrained import efficientnet

LEVELS = (2, 4, 10, 15)  # blocks of EfficientNet-Lite0, from 0: the last of each size
_ITS_CHANNELS = (24, 40, 112, 320)
CHANNELS = (64, 64, 128, 128)


@dataclasses.dataclass(frozen=True)
class ProjectedFeatures:
    """Images (B, H, W, C) in [-1, 1] -> four maps of unit size, from the finest to the coarsest.

    Images are first enlarged or reduced to ``size``, (H, W), which keeps their proportions as far as the network can:
    the shorter side is ``features_size``, the longer one a multiple of 32. The maps are (B, H / 4, W / 4, 64),
    (B, H / 8, W / 8, 64), (B, H / 16, W / 16, 128) and (B, H / 32, W / 32, 128).

    The network knows three colours. Of other images it sees three channels at a time (see ``colour_groups``), and the
    maps of the groups stand beside each other.

    Each map of the network is multiplied by a fixed random matrix, and the next coarser one is added to it, enlarged
    and multiplied by another. It is a constant of the program: a function of its fields alone.

    The network knows no transparency. Images with alpha lie on black and on white in turn: the first, third and so on
    of a batch on black. So a wrong alpha is seen, real and generated images of one place lie on the same ground, and
    it takes no more time than without alpha.

    Attributes:
      features_size: the shorter side of ``size``, 96 or a power of two of at least 32. 0, and ``auto`` unless ``fit``
        has put what fits the images in its place, is 32 for images whose shorter side has at most 32 pixels, else 64.
      image_size: that of the images.
      dtype: of the matrix products.
      activations: of the maps.
    """

    features_size: int | str = 0
    image_size: sizes.ImageSize = 64
    dtype: Any = jnp.float32
    activations: Any = jnp.float32

    @property
    def size(self) -> tuple[int, int]:
        images = sizes.sides(self.image_size)
        chosen = 0 if isinstance(self.features_size, str) else self.features_size
        shorter = chosen or (32 if min(images) <= 32 else 64)
        unit = max(32, shorter // 4)  # the heads halve both sides until the shorter one is 4, or 3
        height, width = (max(shorter, unit * round(side * shorter / min(images) / unit)) for side in images)
        return height, width

    def __call__(self, images: jax.Array) -> tuple[jax.Array, ...]:
        if has_alpha(images.shape[3]):
            images = on_ground(images, jnp.resize(jnp.array(GROUNDS), (len(images), 1, 1, 1)))
        first, *others = (self._of_colours(group) for group in colour_groups(images))
        return tuple(jnp.concatenate(maps, axis=3) for maps in zip(first, *others, strict=True)) if others else first

    def _of_colours(self, images):
        x = jnp.broadcast_to(images, (*images.shape[:3], 3))
        if x.shape[1:3] != self.size:
            x = jax.image.resize(x, (len(x), *self.size, 3), "linear")
        weights, mixing = efficientnet.load(efficientnet.LITE0), _mixing()
        maps = list(efficientnet.maps(weights, x, dtype=self.dtype, activations=self.activations))
        mixed = []
        for level, (project, mix) in reversed(list(zip(LEVELS, mixing, strict=True))):
            # The network's own BatchNorm says how large its maps are on average: no image has to be looked at.
            y = self._product(maps[level], project / weights["sizes"][level])
            if mixed:
                coarser = self._product(mixed[-1], mix)
                y = (y + coarser.repeat(2, axis=1).repeat(2, axis=2)) * np.float32(0.5**0.5)
            mixed.append(y)
        return tuple(reversed(mixed))

    def _product(self, x, matrix):
        return efficientnet.product(x, matrix, self.dtype)


@functools.cache
def _mixing():
    """For each level a random matrix for its own map, and one for the next coarser mixed map."""
    random = np.random.RandomState(0)  # whose numbers no version of NumPy changes

    def matrix(rows, columns):
        return (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

    coarser = (*CHANNELS[1:], CHANNELS[-1])
    return [
        (matrix(own, channels), matrix(above, channels))
        for own, channels, above in zip(_ITS_CHANNELS, CHANNELS, coarser, strict=True)
    ]


class Heads(nn.Module):
    """Maps of ``ProjectedFeatures`` -> logits (B, H, W, heads), positive for real: one head for each map.

    A head halves its map by 4x4 convolutions until the shorter side is at most 4, as ``Discriminator`` does; of squares
    H and W are 4, or 3 where images are seen at 96 pixels. Each position has a logit of its own. Those of a coarser map
    count for all the positions that they cover. The logits are float32.

    With ``classes`` each head gives as many logits, one after another: (B, H, W, heads · classes).
    """

    leaky_slope: float = 0.2
    classes: int = 0
    dtype: Any = jnp.float32
    activations: Any = jnp.float32

    @nn.compact
    def __call__(self, maps, *, train: bool = False):
        return jnp.concatenate([self._head(x.astype(self.activations)) for x in maps], axis=-1)

    def _head(self, x):  # of squares (B, side, side, in) -> (B, 4, 4, 1 or classes), or 3, 3
        while (side := min(x.shape[1:3])) > 4:
            channels = 2 ** (10 - (side - 1).bit_length())  # 1024 / side, or less: a power of two, as matrix units need
            block = DiscriminatorBlock(channels, norm="none", leaky_slope=self.leaky_slope, dtype=self.dtype)
            x = block(x, train=False)  # (B, side / 2, side / 2, 16 to 128)
        gain = 2 / (1 + self.leaky_slope**2)
        x = self._dense(64, gain, self.activations)(x)
        x = x * jnp.where(x >= 0, 1.0, self.leaky_slope)
        logits = by_class(self._dense(1 + self.classes, 1.0, jnp.float32)(x.astype(jnp.float32)))
        times = 4 // side
        return logits.repeat(times, axis=1).repeat(times, axis=2)

    def _dense(self, features, gain, dtype):
        init = nn.initializers.variance_scaling(gain, "fan_in", "normal")
        return nn.Dense(features, kernel_init=init, dtype=dtype)
