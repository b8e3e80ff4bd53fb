"""The 4x4 stride-2 convolution (padding 1) and its transpose: the two operations a DCGAN is made of.

The transpose is the gradient of the convolution with respect to its input, as in PyTorch. Both have the kernel of the
convolution, (4, 4, C, O), where C are the channels of the larger map and O those of the smaller one: in, out for the
convolution, out, in for its transpose.

Three bilinear maps are enough: the convolution, its input gradient and its kernel gradient. Each is the
gradient of another, so the set is closed under reverse-mode differentiation of any order (forward mode
is not defined, as for any ``custom_vjp``). This avoids a trap: XLA differentiates a convolution with
``lhs_dilation``, which every transposed convolution is, into one that runs some forty times slower than
its other passes on a CPU, and was seen to be >30 times slower on GPUs (openxla/xla issue 34273, jax
issue 31662). Here the kernel gradient of the transpose is that of the ordinary convolution, with input
and cotangent swapped.

On a CPU, where arithmetic is the limit, layers with enough channels use 9 products where the definition
has 16:

1. A 4x4 kernel moving by 2 over C channels is a 2x2 kernel moving by 1 over 4C channels, once each
   2x2 square of pixels is read as one pixel ("space to depth").
2. In one dimension, two outputs of a 2-tap filter need three products instead of four (Karatsuba;
   F(2, 2) in Winograd's notation):

       y0 = d0 k0 + d1 k1 = (d0 + d1) k0 - d1 (k0 - k1)
       y1 = d1 k0 + d2 k1 = (d1 + d2) k1 + d1 (k0 - k1)

   In two dimensions that is 9 instead of 16. Sums over channels and positions turn the products into nine
   plain matrix products, and everything else into additions (Lavin & Gray 2015, arXiv:1509.09308,
   section 4). The gradients are the same nine products transposed.

The additions cost accuracy: about 1e-6 relative a layer in float32. After four training steps at width 32 the losses
deviate by 1.3e-3 from those in float64; with XLA's own convolutions by 3e-4, in PyTorch by 5e-4.

Sides that are no multiple of 4, such as the 6 that 3 is doubled to, are filled up with zeros for this. These change no
sum, and what comes of them is cut off. Of 6x6 that makes 16 products again, of larger sides fewer; XLA's own
input gradient of 6x6 takes some forty times as long.

The nine products stay separate arrays, not one stacked array: XLA:CPU vectorises the additions only then.

Where a CPU has matrix units for bf16, these take the sixteen products (``conv_amx``).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from dcgan_jax.gan import conv_amx

MIN_CHANNELS = 16  # with fewer (RGB), the additions cost more than the products they save

# F(2, 2): products = (_INPUT d) * (_KERNEL k); outputs = _OUTPUT products.
_INPUT = ((1, 1, 0), (0, -1, 0), (0, 1, 1))
_KERNEL = ((1, 0), (1, -1), (0, 1))
_OUTPUT = ((1, 1, 0), (0, -1, 1))


# --- the definition -----------------------------------------------------------------------------
#
# Throughout, x is (B, H, W, C), g is (B, H/2, W/2, O) and a kernel is (4, 4, C, O).


def conv_reference(x: jax.Array, kernel: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """XLA's own convolution."""
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        x.astype(dtype), kernel.astype(dtype), (2, 2), ((1, 1), (1, 1)), dimension_numbers=dimensions
    )
    return y.astype(x.dtype)


def _input_gradient_reference(g, kernel, dtype):
    b, h, w, _ = g.shape
    x = jax.ShapeDtypeStruct((b, 2 * h, 2 * w, kernel.shape[2]), g.dtype)
    return jax.linear_transpose(lambda x: conv_reference(x, kernel, dtype), x)(g)[0]


def _kernel_gradient_reference(x, g, dtype):
    kernel = jax.ShapeDtypeStruct((4, 4, x.shape[3], g.shape[3]), x.dtype)
    return jax.linear_transpose(lambda kernel: conv_reference(x, kernel, dtype), kernel)(g)[0]


# --- nine products instead of sixteen ---------------------------------------------------------------------


def _combine(matrix, arrays):
    """``matrix`` @ ``arrays`` for a matrix of 0, 1 and -1, written out as additions."""
    sums = []
    for row in matrix:
        terms = [a if sign == 1 else -a for sign, a in zip(row, arrays) if sign]
        sums.append(functools.reduce(jnp.add, terms))
    return sums


def _combine_2d(matrix, grid):
    """``matrix`` applied along the rows and the columns of a grid (nested lists) of arrays."""
    rows = [_combine(matrix, row) for row in grid]
    return [list(row) for row in zip(*(_combine(matrix, column) for column in zip(*rows)))]


def _transposed(matrix):
    return tuple(zip(*matrix))


def _products(left, right, contract, dtype):
    """The nine matrix products of two 3x3 grids, taken in ``dtype``, summed in float32."""
    dot = functools.partial(lax.dot_general, dimension_numbers=(contract, ((), ())), preferred_element_type=jnp.float32)
    return [[dot(a.astype(dtype), b.astype(dtype)) for a, b in zip(*rows)] for rows in zip(left, right)]


def _input_tiles(x):
    """Overlapping 3x3 tiles of 2x2-pixel squares: a grid of (B·H/4·W/4, 4C), transformed."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (1, 3), (1, 3), (0, 0))).reshape(b, h // 4 + 1, 2, 2, w // 4 + 1, 2, 2 * c)

    def square(i, j):  # number i, j of every tile; the third belongs to the next tile too
        rows = x[:, i // 2 :, i % 2][:, : h // 4]
        squares = rows[:, :, :, j // 2 :, j % 2][:, :, :, : w // 4]  # (B, H/4, 2, W/4, 2C)
        return squares.swapaxes(2, 3).reshape(-1, 4 * c)

    return _combine_2d(_INPUT, [[square(i, j) for j in range(3)] for i in range(3)])


def _from_input_tiles(grid, shape):
    """The transpose of ``_input_tiles``: overlapping tiles are added up."""
    b, h, w, c = shape
    tiles = [[t.reshape(b, h // 4, w // 4, 2, 2 * c) for t in row] for row in _combine_2d(_transposed(_INPUT), grid)]

    def overlap(first, second, third, axis):
        def shift(t, before):
            return jnp.pad(t, [(before, 1 - before) if i == axis else (0, 0) for i in range(t.ndim)])

        return shift(first, 0) + shift(third, 1), shift(second, 0)

    rows = [overlap(*row, axis=2) for row in tiles]
    squares = [overlap(*column, axis=1) for column in zip(*rows)]  # [j][i] of (B, H/4 + 1, W/4 + 1, 2, 2C)
    x = jnp.stack([jnp.stack([square.swapaxes(2, 3) for square in row], axis=2) for row in squares], axis=5)
    # (B, H/4 + 1, i, 2, W/4 + 1, j, 2C)
    return x.reshape(b, h + 4, w + 4, c)[:, 1 : h + 1, 1 : w + 1]


def _output_tiles(g):
    """2x2 tiles of a cotangent: a grid of (B·h/2·w/2, C), transformed."""
    b, h, w, c = g.shape
    g = g.reshape(b, h // 2, 2, w // 2, 2, c)
    tiles = [[g[:, :, i, :, j].reshape(-1, c) for j in range(2)] for i in range(2)]
    return _combine_2d(_transposed(_OUTPUT), tiles)


def _from_output_tiles(grid, shape):
    b, h, w, c = shape
    tiles = [[t.reshape(b, h // 2, w // 2, c) for t in row] for row in _combine_2d(_OUTPUT, grid)]
    return jnp.stack([jnp.stack(row, axis=3) for row in tiles], axis=2).reshape(shape)


def _kernel_tiles(kernel):
    """A grid of (4C, O), transformed."""
    taps = kernel.reshape(2, 2, 2, 2, *kernel.shape[2:]).swapaxes(1, 2)  # (2, 2, 2, 2, C, O)
    return _combine_2d(_KERNEL, [list(row) for row in taps.reshape(2, 2, -1, kernel.shape[3])])


def _from_taps(taps, shape):
    """(2, 2) taps of (4C, O) as a kernel."""
    return taps.reshape(2, 2, 2, 2, *shape[2:]).swapaxes(1, 2).reshape(shape)


def _filled(x, unit):
    """Zeros below and on the right, so that the sides are multiples of ``unit``."""
    more = [(0, -side % unit) for side in x.shape[1:3]]
    return jnp.pad(x, [(0, 0), *more, (0, 0)]) if any(map(any, more)) else x


def _cut(x, height, width):
    return x if x.shape[1:3] == (height, width) else x[:, :height, :width]


def _conv_fast(x, kernel, dtype):
    height, width = x.shape[1] // 2, x.shape[2] // 2
    b, h, w, _ = (x := _filled(x, 4)).shape
    products = _products(_input_tiles(x), _kernel_tiles(kernel), ((1,), (0,)), dtype)
    y = _from_output_tiles(products, (b, h // 2, w // 2, kernel.shape[3])).astype(x.dtype)
    return _cut(y, height, width)


def _input_gradient_fast(g, kernel, dtype):
    height, width = 2 * g.shape[1], 2 * g.shape[2]
    b, h, w, _ = (g := _filled(g, 2)).shape
    products = _products(_output_tiles(g), _kernel_tiles(kernel), ((1,), (1,)), dtype)
    x = _from_input_tiles(products, (b, 2 * h, 2 * w, kernel.shape[2])).astype(g.dtype)
    return _cut(x, height, width)


def _kernel_gradient_fast(x, g, dtype):
    x, g = _filled(x, 4), _filled(g, 2)
    products = _products(_input_tiles(x), _output_tiles(g), ((0,), (0,)), dtype)
    taps = jnp.stack([jnp.stack(row) for row in _combine_2d(_transposed(_KERNEL), products)])
    return _from_taps(taps, (4, 4, x.shape[3], g.shape[3])).astype(x.dtype)


def _kernel_gradient_patches(x, g, dtype):
    """For few channels: one product of all 4x4 patches with the cotangent, in float32 as XLA:CPU convolves."""
    shape, (b, h, w, c) = (4, 4, x.shape[3], g.shape[3]), x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).reshape(b, h // 2 + 1, 2, w // 2 + 1, 2 * c)
    squares = [[x[:, p : p + h // 2, :, q : q + w // 2] for q in range(2)] for p in range(2)]
    patches = jnp.stack([jnp.stack([s.swapaxes(2, 3) for s in row], axis=3) for row in squares], axis=3)
    taps = patches.reshape(-1, 16 * c).T @ g.reshape(-1, g.shape[3])  # patches: (B·H/2·W/2, 2·2·4C)
    return _from_taps(taps, shape)


def _conv_few(x, kernel, dtype):  # XLA:CPU convolves in float32 in any case
    return conv_reference(x, kernel)


def _input_gradient_few(g, kernel, dtype):
    return _input_gradient_reference(g, kernel, jnp.float32)


# --- the three maps, each the gradient of another ---------------------------------------------------


def choose(
    fast: Callable[..., jax.Array],
    few: Callable[..., jax.Array],
    reference: Callable[..., jax.Array],
    a: jax.Array,
    b: jax.Array,
    dtype: Any,
    channels: Sequence[int],
    sides: Sequence[int],
) -> jax.Array:
    """``fast`` on a CPU, or ``few`` where it does not apply; ``reference`` on everything else."""
    cpu = few if min(channels) < MIN_CHANNELS or any(side % 2 for side in sides) else fast
    cpu, default = (functools.partial(function, dtype=dtype) for function in (cpu, reference))
    return lax.platform_dependent(a, b, cpu=cpu, default=default)


def _or_units(fast, number, a, b, dtype, channels, shape):
    """``fast``, or the matrix units of this CPU, where they take the operands."""
    if not conv_amx.take(a, b, dtype, channels):
        return fast
    return lambda a, b, dtype: conv_amx.compute(number, a, b, shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x, kernel, dtype):
    b, h, w, _ = x.shape
    channels = kernel.shape[2:]
    shape = (b, h // 2, w // 2, channels[1])
    fast = _or_units(_conv_fast, conv_amx.CONV, x, kernel, dtype, channels, shape)
    return choose(fast, _conv_few, conv_reference, x, kernel, dtype, channels, (h, w))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _input_gradient(g, kernel, dtype):
    (b, height, width, _), channels = g.shape, kernel.shape[2:]
    shape = (b, 2 * height, 2 * width, channels[0])
    fast = _or_units(_input_gradient_fast, conv_amx.INPUT_GRADIENT, g, kernel, dtype, channels, shape)
    return choose(fast, _input_gradient_few, _input_gradient_reference, g, kernel, dtype, channels, shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _kernel_gradient(x, g, dtype):
    channels = (x.shape[3], g.shape[3])
    fast = _or_units(_kernel_gradient_fast, conv_amx.KERNEL_GRADIENT, x, g, dtype, channels, (4, 4, *channels))
    few, reference = _kernel_gradient_patches, _kernel_gradient_reference
    return choose(fast, few, reference, x, g, dtype, channels, x.shape[1:3])


def _define_gradients(op, left, right):
    """``left`` and ``right`` give the gradient of each operand, from both operands, the cotangent and ``dtype``."""
    op.defvjp(
        lambda a, b, dtype: (op(a, b, dtype), (a, b)),
        lambda dtype, operands, g: tuple(  # a kernel stays float32 where activations are bf16
            gradient(*operands, g, dtype).astype(operand.dtype) for gradient, operand in zip((left, right), operands)
        ),
    )


_define_gradients(_conv, lambda x, k, g, t: _input_gradient(g, k, t), lambda x, k, g, t: _kernel_gradient(x, g, t))
_define_gradients(_input_gradient, lambda g, k, x, t: _conv(x, k, t), lambda g, k, x, t: _kernel_gradient(x, g, t))
_define_gradients(_kernel_gradient, lambda x, g, k, t: _input_gradient(g, k, t), lambda x, g, k, t: _conv(x, k, t))


def conv(x: jax.Array, kernel: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Halve height and width: (B, H, W, in), (4, 4, in, out) -> (B, H/2, W/2, out).

    Products are taken in ``dtype`` and summed in float32; the result has the dtype of ``x``.
    """
    return _conv(x, kernel, dtype)


def conv_transpose(x: jax.Array, kernel: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Double height and width: (B, H, W, in), (4, 4, out, in) -> (B, 2H, 2W, out).

    Products are taken in ``dtype`` and summed in float32; the result has the dtype of ``x``.
    """
    return _input_gradient(x, kernel, dtype)
