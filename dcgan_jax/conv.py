"""The 4x4 stride-2 convolution (padding 1) and its transpose: the two operations a DCGAN is made of.

Kernels are HWIO, (4, 4, in, out), for both. The transpose is the gradient of the convolution with
respect to its input, as in PyTorch's ``ConvTranspose2d`` (whose kernel is stored (in, out, 4, 4)).

The transpose has a gradient of its own because XLA's is a trap: the kernel gradient of a convolution
with ``lhs_dilation``, which every transposed convolution is, runs some forty times slower than its
other passes on a CPU and was seen to be >30 times slower on GPUs (openxla/xla issue 34273, jax issue
31662). The same numbers are the kernel gradient of the *ordinary* convolution with input and
cotangent swapped.
"""

import jax
import jax.numpy as jnp
from jax import lax


def conv(x: jax.Array, kernel: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Halve height and width: (B, H, W, in), (4, 4, in, out) -> (B, H/2, W/2, out).

    Products are taken in ``dtype`` and summed in float32; the result has the dtype of ``x``.
    """
    return lax.conv_general_dilated(
        x.astype(dtype), kernel.astype(dtype), (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).astype(x.dtype)


def _conv_transpose(x, kernel, dtype):
    b, h, w, _ = x.shape
    big = jax.ShapeDtypeStruct((b, 2 * h, 2 * w, kernel.shape[3]), x.dtype)
    return jax.linear_transpose(lambda y: conv(y, kernel.swapaxes(2, 3), dtype), big)(x)[0]


@jax.custom_vjp
def _transpose_f32(x, kernel):
    return _conv_transpose(x, kernel, jnp.float32)


@jax.custom_vjp
def _transpose_bf16(x, kernel):
    return _conv_transpose(x, kernel, jnp.bfloat16)


def _define(op, dtype):
    def forward(x, kernel):
        return op(x, kernel), (x, kernel)

    def backward(residuals, g):
        x, kernel = residuals
        _, kernel_gradient = jax.vjp(lambda k: conv(g, k.swapaxes(2, 3), dtype), kernel)
        return conv(g, kernel.swapaxes(2, 3), dtype), kernel_gradient(x)[0]

    op.defvjp(forward, backward)


_define(_transpose_f32, jnp.float32)
_define(_transpose_bf16, jnp.bfloat16)


def conv_transpose(x: jax.Array, kernel: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Double height and width: (B, H, W, in), (4, 4, in, out) -> (B, 2H, 2W, out).

    Products are taken in ``dtype`` and summed in float32; the result has the dtype of ``x``.
    """
    return (_transpose_bf16 if dtype == jnp.bfloat16 else _transpose_f32)(x, kernel)
