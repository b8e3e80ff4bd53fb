"""The convolution pair against XLA's own convolutions and their autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import on_devices, python
from jax import lax
from jax.test_util import check_grads

from dcgan_jax.gan import conv

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def reference_conv(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=DIMENSIONS)


def reference_transpose(x, kernel):
    return lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), ((2, 2), (2, 2)), (2, 2), dimension_numbers=("NHWC", "HWOI", "NHWC")
    )


PAIRS = {"conv": (conv.conv, reference_conv), "transpose": (conv.conv_transpose, reference_transpose)}
# Both sides of the channel count from which the nine-product form is used, RGB and grayscale, odd batches,
# and every side that a layer of a 16 to 256 pixel image has.
SHAPES = [
    (4, 5, 32, 16),
    (8, 3, 16, 48),
    (8, 2, 8, 4),
    (16, 3, 3, 16),
    (16, 2, 16, 1),
    (32, 1, 16, 16),
    (64, 1, 1, 16),
    (64, 3, 16, 3),
    (128, 1, 16, 16),
    (256, 1, 3, 16),
]


# What the other first maps lead to. The convolution has the sides doubled, its transpose these.
MAPS = [((3, 3), 2, 16, 32), ((3, 5), 3, 16, 16), ((7, 6), 2, 32, 16), ((8, 3), 2, 16, 3), ((5, 7), 2, 3, 16)]


def data(name, side, batch, inputs, outputs):
    if isinstance(side, tuple):
        height, width = (2 * one if name == "conv" else one for one in side)
    else:
        height = width = side
    keys = jax.random.split(jax.random.key(height), 2)
    channels = (inputs, outputs) if name == "conv" else (outputs, inputs)
    return jax.random.normal(keys[0], (batch, height, width, inputs)), jax.random.normal(keys[1], (4, 4, *channels))


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_array_less(jnp.abs(ours - theirs).max() / jnp.abs(theirs).max(), tolerance)


def gradients(op, x, kernel):
    """The value and both gradients, compiled, for a cotangent that depends on the shape alone."""

    def value_and_gradients(x, kernel):
        y, pull = jax.vjp(op, x, kernel)
        return y, *pull(jax.random.normal(jax.random.key(1), y.shape))

    return jax.jit(value_and_gradients)(x, kernel)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", SHAPES + MAPS)
def test_forward_and_both_gradients(name, shape):
    ours, theirs = (gradients(op, *data(name, *shape)) for op in PAIRS[name])
    for a, b in zip(ours, theirs):
        close(a, b)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("channels", [(4, 3), (16, 16)])
def test_second_derivatives(name, channels):
    ours, theirs = PAIRS[name]
    x, kernel = data(name, 4, 2, *channels)
    check_grads(ours, (x, kernel), order=2, modes=["rev"], rtol=0.02)
    same_penalty(ours, theirs, x, kernel)


@pytest.mark.parametrize("name", PAIRS)
def test_second_derivatives_of_odd_maps(name):
    same_penalty(*PAIRS[name], *data(name, (3, 5), 2, 16, 16))


def same_penalty(ours, theirs, x, kernel):
    """The gradient of a squared gradient, ours and XLA's."""

    def penalty(op):
        return lambda kernel: (jax.grad(lambda x: (op(x, kernel) ** 3).sum())(x) ** 2).sum()

    close(jax.grad(penalty(ours))(kernel), jax.grad(penalty(theirs))(kernel))


@pytest.mark.parametrize("name", PAIRS)
def test_vmap(name):
    ours, theirs = PAIRS[name]
    xs, kernels = zip(*(data(name, 8, 2, 16, 16) for _ in range(3)))
    xs, kernels = jnp.stack(xs), jnp.stack(kernels) * jnp.arange(1.0, 4.0)[:, None, None, None, None]
    for axes in ((0, 0), (0, None), (None, 0)):
        operands = [a if axis == 0 else a[1] for a, axis in zip((xs, kernels), axes)]
        close(jax.vmap(ours, axes)(*operands), jax.vmap(theirs, axes)(*operands))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(8, 2, 16, 32), (4, 3, 64, 128)])
def test_bf16_products_keep_the_dtype_of_the_input(name, shape):
    ours, theirs = PAIRS[name]
    x, kernel = data(name, *shape)
    rough = gradients(lambda x, kernel: ours(x, kernel, jnp.bfloat16), x, kernel)
    exact = gradients(theirs, x, kernel)
    assert not np.array_equal(rough[0], exact[0])
    for a, b in zip(rough, exact):
        close(a, b, 0.03)
    y = ours(x.astype(jnp.bfloat16), kernel)
    assert y.dtype == jnp.bfloat16
    close(y.astype(jnp.float32), exact[0], 0.03)


def test_a_sharded_batch_gives_the_same_numbers():
    code = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from dcgan_jax.gan import conv

mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
for channels in (3, 16):
    x = jax.random.normal(jax.random.key(0), (8, 16, 16, channels))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, channels, 16))
    loss = jax.jit(jax.value_and_grad(lambda x, k: (conv.conv_transpose(conv.conv(x, k), k) ** 2).sum(), (0, 1)))
    split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    for a, b in zip(jax.tree.leaves(loss(split, kernel)), jax.tree.leaves(loss(x, kernel))):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
"""
    done = python("-c", code, variables=on_devices(4))
    assert done.returncode == 0, done.stderr
