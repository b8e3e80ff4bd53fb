"""What the second discriminator of a trained run, which sees features, says of images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from dcgan_jax.config import has_alpha
from dcgan_jax.gan.chunks import in_chunks
from dcgan_jax.gan.classes import NO_CLASSES, Classes
from dcgan_jax.gan.projected import ProjectedFeatures
from dcgan_jax.gan.state import GANState, ProjectedState

_CHUNK = 64


class Opinion(struct.PyTreeNode):
    """The heads of a run and the features that they see.

    Attributes:
      params: the heads' weights.
      classes: those of a conditional run.
    """

    params: Any
    heads: nn.Module = struct.field(pytree_node=False)
    features: ProjectedFeatures = struct.field(pytree_node=False)
    classes: Classes = struct.field(pytree_node=False, default=NO_CLASSES)

    def __call__(self, images: jax.Array, labels: Any = None) -> np.ndarray:
        """The mean logit of each image, higher for real: float32 (N,).

        Args:
          images: float32 (N, H, W, C) in [-1, 1]. Those with alpha are seen on black and on white.
          labels: of a conditional run, their classes, int (N,).
        """
        logits = in_chunks(lambda part: _logits(self, part), images, _CHUNK)
        if self.classes:
            logits = self.classes.chosen(logits, jnp.asarray(labels))
        return np.asarray(logits.mean(tuple(range(1, logits.ndim))))


def opinion_of(state: GANState) -> Opinion | None:
    """That of a training state; None if it has no second discriminator."""
    if not isinstance(state, ProjectedState):
        return None
    return Opinion(state.heads.params, state.heads.module, state.features, state.classes)


@jax.jit
def _logits(opinion: Opinion, images):
    """(N, H, W, C) -> (N, 4, 4, heads) or, with classes, (N, 4, 4, heads · classes); with alpha those on black, then
    those on white, (N, 2, 4, 4, ...)."""
    alpha = has_alpha(images.shape[3])
    images = images.repeat(2, axis=0) if alpha else images  # the first of two lies on black, the second on white
    logits: Any = opinion.heads.apply({"params": opinion.params}, opinion.features(images), train=False)
    return logits.reshape(-1, 2, *logits.shape[1:]) if alpha else logits
