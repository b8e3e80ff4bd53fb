"""The maps of ``conv`` in bf16 by the matrix units of Intel CPUs, in conv_amx.cc (see ``dcgan_jax.system.amx``).

A training step in bf16 takes half the time with them (docs/results/speed.md). They are left out without a word for
other types, and sizes that are no multiples.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.system import amx

CONV, INPUT_GRADIENT, KERNEL_GRADIENT = range(3)
"""The maps, by their numbers in conv_amx.cc."""

_UNIT = 32  # images, and channels on each side


def fit(*sizes: int) -> bool:
    """Whether a batch and channels are of sizes that they take."""
    return not any(size % _UNIT for size in sizes)


def take(a: jax.Array, b: jax.Array, dtype: object, channels: tuple[int, ...]) -> bool:
    """Whether the matrix units of this machine compute a map of ``a`` (B, H, W, ·) and ``b``, with ``channels``."""
    types = dtype == jnp.bfloat16 and a.dtype == b.dtype == jnp.float32
    return types and fit(a.shape[0], *channels) and usable()


def usable() -> bool:
    """Whether this machine can."""
    return amx.registered("dcgan_jax.gan", "conv_amx.cc", "conv_amx")


def compute(number: int, a: jax.Array, b: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """One of the maps, whose result has this shape; all float32."""
    call = jax.ffi.ffi_call("conv_amx", jax.ShapeDtypeStruct(shape, jnp.float32), vmap_method="sequential")
    return call(a, b, map=np.int64(number))
