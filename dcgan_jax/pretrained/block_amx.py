"""A block of EfficientNet-Lite in bf16 by the matrix units of Intel CPUs, in block_amx.cc (see ``system.amx``).

The network's maps take two fifths of the time that they take in float32, their gradient a quarter
(docs/results/speed.md).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.system import amx

Layer = tuple[np.ndarray, np.ndarray]
_TILE = 32  # numbers that a product of tiles adds up; and the columns that are computed at once


def usable() -> bool:
    """Whether this machine can."""
    return amx.registered("dcgan_jax.pretrained", "block_amx.cc", "block_amx_forward", "block_amx_gradient")


def block(x: jax.Array, layers: Sequence[Layer], stride: int, padding: Sequence[tuple[int, int]]) -> jax.Array:
    """A 1x1 convolution, relu6, a depthwise convolution, relu6, a 1x1 convolution: float32 (B, H, W, C), and so its
    gradient. Ask ``usable`` first.

    Args:
      x: float32 (B, H, W, K).
      layers: kernels (1, 1, K, E), (k, k, 1, E) and (1, 1, E, N), each with what is added. E is a multiple of 16.
      stride: of the depthwise convolution.
      padding: rows before and after, columns before and after.
    """
    (expand, _), (depthwise, _), (project, _) = layers
    taps, expand, project = depthwise[:, :, 0], expand[0, 0], project[0, 0]
    shifts = np.concatenate([shift for _, shift in layers]).astype(np.float32)
    (top, _), (left, _) = padding
    b, h, w, _ = x.shape
    height, width = ((side + sum(ends) - len(taps)) // stride + 1 for side, ends in zip((h, w), padding, strict=True))
    output = jax.ShapeDtypeStruct((b, height, width, project.shape[1]), jnp.float32)
    masks = [jax.ShapeDtypeStruct((b, *sides, len(project) // 16), jnp.uint16) for sides in ((h, w), (height, width))]

    @jax.custom_vjp
    def convolve(x):
        return forward(x)[0]

    def forward(x):
        operands = x, _tiles(expand), taps, _tiles(project), shifts
        y, *passed = _call("block_amx_forward", (output, *masks), operands, step=stride, top=top, left=left)
        return y, passed

    def gradient(passed, g):
        operands = g, _tiles(project.T), np.ascontiguousarray(taps[::-1, ::-1]), _tiles(expand.T), *passed[::-1]
        ends = {"top": len(taps) - 1 - top, "left": len(taps) - 1 - left}
        return (_call("block_amx_gradient", jax.ShapeDtypeStruct(x.shape, x.dtype), operands, apart=stride, **ends),)

    convolve.defvjp(forward, gradient)
    return convolve(x)


def _call(name, results, operands, **numbers) -> Any:
    call = jax.ffi.ffi_call(name, results, vmap_method="sequential")
    return call(*operands, **{key: np.int64(number) for key, number in numbers.items()})


def _tiles(matrix: np.ndarray) -> np.ndarray:
    """bf16 (K, N) as uint16 (N / 16, K / 32, 16, 16, 2): tiles of pairs of rows, filled up with zeros."""
    rows, columns = (-(-size // _TILE) for size in matrix.shape)
    filled = np.zeros((rows * _TILE, columns * _TILE), jnp.bfloat16)
    filled[: matrix.shape[0], : matrix.shape[1]] = matrix
    tiles = filled.reshape(rows, 16, 2, 2 * columns, 16).transpose(3, 0, 1, 4, 2)
    return np.ascontiguousarray(tiles).view(np.uint16)
