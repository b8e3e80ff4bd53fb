"""Losses on logits (Goodfellow et al. 2014, sections 3 and 4; d2l, section DCGAN)."""

import dataclasses
from collections.abc import Callable

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
      generator: of the logits of the generated images.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array] = discriminator_loss
    generator: Callable[[jax.Array], jax.Array] = generator_loss


BCE = Objective()
"""The chapter's losses: binary cross-entropy."""
