"""Losses on logits (Goodfellow et al. 2014, sections 3 and 4; d2l, section DCGAN)."""

import jax.numpy as jnp
import optax


def _cross_entropy(logits, target):
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, target)).mean()


def discriminator_loss(real_logits, fake_logits):
    """Mean of the cross-entropies of calling real images real and generated ones generated."""
    return (_cross_entropy(real_logits, 1.0) + _cross_entropy(fake_logits, 0.0)) / 2


def generator_loss(fake_logits):
    """The non-saturating loss: cross-entropy of calling generated images real."""
    return _cross_entropy(fake_logits, 1.0)
