"""The maps of ``conv`` in bf16 by the matrix units of Intel CPUs (AMX; from Sapphire Rapids on), in conv_amx.cc.

A training step in bf16 takes half the time with them (docs/results/speed.md). They need a C++ compiler the first time,
and are left out without a word elsewhere: other CPUs, other types, several devices, and sizes that are no multiples.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.system import native

CONV, INPUT_GRADIENT, KERNEL_GRADIENT = range(3)
"""The maps, by their numbers in conv_amx.cc."""

_UNIT = 32  # images, and channels on each side
NEEDED = frozenset({"amx_tile", "amx_bf16", "avx512f", "avx512bw", "avx512vl", "avx512_bf16"})
"""What a CPU must be able to do, in Linux's words."""

_FLAGS = "-mamx-tile -mamx-bf16 -mavx512f -mavx512bw -mavx512vl -mavx512bf16".split()


def here() -> bool:
    """Whether this process computes on one CPU that has them. A compiler may be missing all the same."""
    return native.cpu_flags() >= NEEDED and jax.default_backend() == "cpu" and jax.device_count() == 1


def fit(*sizes: int) -> bool:
    """Whether a batch and channels are of sizes that they take."""
    return not any(size % _UNIT for size in sizes)


def take(a: jax.Array, b: jax.Array, dtype: object, channels: tuple[int, ...]) -> bool:
    """Whether the matrix units of this machine compute a map of ``a`` (B, H, W, ·) and ``b``, with ``channels``."""
    return (
        dtype == jnp.bfloat16
        and a.dtype == b.dtype == jnp.float32
        and fit(a.shape[0], *channels)
        and here()
        and native.registered(
            "dcgan_jax.gan", "conv_amx", _FLAGS, slower="bf16 takes twice as long on this CPU as it could"
        )
    )


def compute(number: int, a: jax.Array, b: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """One of the maps, whose result has this shape; all float32."""
    call = jax.ffi.ffi_call("conv_amx", jax.ShapeDtypeStruct(shape, jnp.float32), vmap_method="sequential")
    return call(a, b, map=np.int64(number))
