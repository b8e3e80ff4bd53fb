"""Losses on logits and the gradient penalty (Goodfellow et al. 2014; d2l, section DCGAN; the others at each loss).

Logits may have any shape. An optimum is the value where the generator draws exactly as the data are: there no
discriminator can do better than the same logit for all images.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def _cross_entropy(logits, target):
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, target)).mean()


def discriminator_loss(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean of the cross-entropies of real images with target 1 and generated ones with target 0: log 2 at logits 0."""
    return (_cross_entropy(real_logits, 1.0) + _cross_entropy(fake_logits, 0.0)) / 2


def generator_loss(fake_logits: jax.Array) -> jax.Array:
    """The non-saturating loss: cross-entropy of generated images with target 1."""
    return _cross_entropy(fake_logits, 1.0)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What each network minimises, as functions of logits of any shape that return a scalar.

    Attributes:
      discriminator: of the logits of the real images and of the generated ones.
      generator: of the logits of the generated images; with ``paired`` its second argument is those of the real ones.
      paired: the generator's loss also takes the logits of the real images. For them the discriminator is called once
        more in each step.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array] = discriminator_loss
    generator: Callable[..., jax.Array] = generator_loss
    paired: bool = False


BCE = Objective()
"""The chapter's losses, binary cross-entropy. Optimum: logits 0, both losses log 2."""

HINGE = Objective(
    discriminator=lambda real, fake: jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean(),
    generator=lambda fake: -fake.mean(),
)
"""Lim & Ye 2017; Miyato et al. 2018. Optimum: any logit in [-1, 1], the discriminator's loss 2."""

LSGAN = Objective(
    discriminator=lambda real, fake: (jnp.square(real - 1).mean() + jnp.square(fake).mean()) / 2,
    generator=lambda fake: jnp.square(fake - 1).mean() / 2,
)
"""Least squares with targets 0 and 1 (Mao et al. 2017). Optimum: logits 1/2, losses 1/4 and 1/8."""

RELATIVISTIC = Objective(
    discriminator=lambda real, fake: jax.nn.softplus(fake - real).mean(),
    generator=lambda fake, real: jax.nn.softplus(real - fake).mean(),
    paired=True,
)
"""Each real image against one generated (Jolicoeur-Martineau 2018; Huang et al. 2024). Optimum: equal logits, both
losses log 2."""

OBJECTIVES = {"bce": BCE, "hinge": HINGE, "lsgan": LSGAN, "relativistic": RELATIVISTIC}
"""By the names of ``Config.loss``."""


@dataclasses.dataclass(frozen=True)
class Penalty:
    """On which images the discriminator's gradient is punished: R1 at the real, R2 at the generated ones.

    It is taken in every ``every``-th step, and is then ``every`` times as strong (Karras et al. 2020).
    """

    real: bool = False
    fake: bool = False
    every: int = 1

    def due(self, step: jax.Array) -> jax.Array | bool:
        """Whether step ``step`` (from 0) is one of those."""
        return True if self.every == 1 else step % self.every == 0


def squared_gradient(
    judge: Callable[..., tuple[jax.Array, Any]],
    images: Any,
    *,
    augment: Callable[[Any], Any] = lambda images: images,
    due: jax.Array | bool = True,
    homogeneous: bool = False,
) -> tuple[jax.Array, Any, jax.Array]:
    """The discriminator's logits of images, and the squared norm of their gradients (Mescheder et al. 2018).

    Args:
      judge: maps images to their logits and to anything else. No logit may depend on another image.
      images: (B, H, W, C), or a tuple of such maps.
      augment: what is done to the images before they are judged. The gradient is that at the images themselves.
      due: whether the gradient is wanted: without it, it is 0 and costs nothing.
      homogeneous: whether k times the images and k times all biases give k times the logits, for any k > 0. This holds
        for networks of convolutions and LeakyReLU without normalisation. ``judge`` must then also take
        ``bias_scale`` (B, 1, 1, 1), by which all biases are multiplied. One backward pass gives both the gradients and,
        by Euler's theorem on homogeneous functions, the logits: they are the sum of the images times their gradients,
        and of the biases times theirs. A step then takes 14 passes through the network instead of 18. Without a
        penalty it takes 11.

    Returns:
      The logits, the other thing, and the squared Euclidean norm of each image's gradient, averaged over the batch:
      the gradient of its logit, or of the mean over the positions of logits (B, H, W, N), summed over N.
    """
    if due is False:
        return *judge(augment(images)), jnp.zeros(())
    seen, pull_images = jax.vjp(augment, images)

    def squared(to_seen):
        gradients = jax.tree.map(lambda x: x.astype(jnp.float32), pull_images(to_seen)[0])  # maps may be bfloat16
        squares = jax.tree.map(lambda gradient: jnp.square(gradient).sum(), gradients)
        return functools.reduce(jnp.add, jax.tree.leaves(squares)) / len(jax.tree.leaves(images)[0])

    if homogeneous and due is True:
        ones = jnp.ones((images.shape[0], 1, 1, 1))
        logits, pull, other = jax.vjp(lambda x, scale: judge(x, bias_scale=scale), seen, ones, has_aux=True)
        to_seen, to_scale = pull(jnp.ones_like(logits))  # of the sum over the batch: each image's own
        logits = ((seen * to_seen).sum((1, 2, 3), keepdims=True) + to_scale).reshape(logits.shape)
        return logits, other, squared(to_seen)

    logits, pull, other = jax.vjp(judge, seen, has_aux=True)
    positions = math.prod(logits.shape[1:3])

    def norm():
        return squared(pull(jnp.full_like(logits, 1 / positions))[0])

    return logits, other, norm() if due is True else jax.lax.cond(due, norm, lambda: jnp.zeros(()))
