"""Blocks of the frozen network by a CPU's matrix units, against plain convolutions of the same rounded numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import on_devices, python
from jax import lax

from dcgan_jax.gan.projected import ProjectedFeatures
from dcgan_jax.pretrained import block_amx, efficientnet
from dcgan_jax.system import amx, native

pytestmark = pytest.mark.skipif(
    not native.cpu_flags() >= amx.NEEDED, reason="a CPU without matrix units for bf16 (AMX)"
)


@pytest.fixture(autouse=True, scope="module")
def compiled():
    assert block_amx.usable()


def rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)


@jax.custom_vjp
def product(x, matrix):
    return jnp.matmul(rounded(x), rounded(matrix), precision="highest")


product.defvjp(
    lambda x, matrix: (product(x, matrix), matrix),
    lambda matrix, g: (product(g, matrix.T), jnp.zeros_like(matrix)),  # the weights are frozen
)


def plain(x, layers, stride, padding):
    (expand, a), (taps, b), (project, c) = [(kernel, shift[None, None, None]) for kernel, shift in layers]
    y = jnp.clip(product(x, jnp.asarray(expand[0, 0])) + a, 0, 6)
    y = lax.conv_general_dilated(
        y, taps, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
        feature_group_count=taps.shape[3],
    )  # fmt: skip
    return product(jnp.clip(y + b, 0, 6), jnp.asarray(project[0, 0])) + c


def block(inputs, between, outputs, size):
    random = np.random.RandomState(0)
    shapes = [(1, 1, inputs, between), (size, size, 1, between), (1, 1, between, outputs)]
    fans = [inputs, size * size / 9, between]
    kernels = [random.standard_normal(shape) * (4 / fan) ** 0.5 for shape, fan in zip(shapes, fans, strict=True)]
    return [
        (kernel.astype(np.float32), random.standard_normal(kernel.shape[3]).astype(np.float32)) for kernel in kernels
    ]


@pytest.mark.parametrize(
    "shape, between, outputs, size, stride, padding",
    [
        ((3, 9, 14, 48), 32, 16, 3, 1, ((1, 1), (1, 1))),
        ((2, 10, 7, 16), 96, 24, 3, 2, ((0, 1), (1, 1))),
        ((5, 8, 8, 24), 144, 40, 5, 2, ((1, 2), (1, 2))),
        ((33, 4, 4, 40), 240, 80, 5, 1, ((2, 2), (2, 2))),
        ((17, 1, 1, 192), 1152, 320, 5, 1, ((2, 2), (2, 2))),
        ((70, 1, 2, 112), 672, 192, 5, 2, ((2, 2), (1, 2))),
        ((1, 3, 3, 1), 16, 1, 3, 2, ((1, 1), (1, 1))),
    ],
)
def test_a_block_and_its_gradient_are_those_of_plain_convolutions(shape, between, outputs, size, stride, padding):
    layers, random = block(shape[3], between, outputs, size), np.random.RandomState(1)
    x = jnp.asarray(random.standard_normal(shape), jnp.float32)
    ours, pull = jax.vjp(jax.jit(lambda x: block_amx.block(x, layers, stride, padding)), x)
    theirs, their_pull = jax.vjp(lambda x: plain(x, layers, stride, padding), x)
    # A sum that lies between two bf16 numbers may be rounded to either: a few of the next sums are another 1/256 then.
    assert ours.shape == theirs.shape
    assert jnp.abs(ours - theirs).max() < 3e-3 * jnp.abs(theirs).max()
    assert jnp.linalg.norm(ours - theirs) < 3e-4 * jnp.linalg.norm(theirs)
    g = jnp.asarray(random.standard_normal(theirs.shape), jnp.float32)
    a, b = pull(g)[0], their_pull(g)[0]
    assert a.shape == b.shape and jnp.abs(b).max() > 0
    assert jnp.linalg.norm(a - b) < 3e-3 * jnp.linalg.norm(b)


def test_an_image_does_not_depend_on_those_beside_it():
    layers, x = block(16, 96, 24, 3), jnp.asarray(np.random.RandomState(0).standard_normal((37, 4, 4, 16)), jnp.float32)
    together = block_amx.block(x, layers, 2, ((0, 1), (0, 1)))
    for start, end in [(0, 1), (5, 21), (36, 37)]:
        assert np.array_equal(block_amx.block(x[start:end], layers, 2, ((0, 1), (0, 1))), together[start:end])


@pytest.mark.parametrize("edge", [0, 6])
def test_at_the_edges_of_relu6_nothing_comes_through(edge):
    (expand, shift), (taps, inside), project = block(16, 32, 24, 3)
    layers = (expand, np.full_like(shift, edge)), (np.full_like(taps, 0.01), np.ones_like(inside)), project
    y, pull = jax.vjp(lambda x: block_amx.block(x, layers, 1, ((1, 1), (1, 1))), jnp.zeros((2, 3, 3, 16)))
    middle = (1 + 0.09 * edge) * rounded(jnp.asarray(project[0])).sum((0, 1, 2)) + project[1]
    assert jnp.abs(y[:, 1, 1] - middle[None]).max() < 0.01 * jnp.abs(middle).max()
    assert not pull(jnp.ones_like(y))[0].any()


def test_what_is_no_number_stays_that():
    x = jnp.zeros((2, 4, 4, 16)).at[1, 0, 0, 0].set(jnp.nan)
    y = block_amx.block(x, block(16, 32, 24, 3), 1, ((1, 1), (1, 1)))
    assert np.isnan(y[1, 0, 0]).all() and not np.isnan(y[0]).any()


@pytest.mark.parametrize("side", [32, 48])
def test_features_in_bf16_are_those_of_the_path_without(side, monkeypatch):
    images = jnp.asarray(np.random.RandomState(0).uniform(-1, 1, (4, side, side, 3)), jnp.float32)
    features = ProjectedFeatures(image_size=side, dtype=jnp.bfloat16)
    ours = jax.jit(features.__call__)
    assert ours.lower(images).as_text().count("@block_amx_forward") == 16
    maps = ours(images)
    monkeypatch.setattr(native, "cpu_flags", frozenset)
    plain = jax.jit(lambda x: features(x))
    assert "@block_amx" not in plain.lower(images).as_text()
    for a, b in zip(maps, plain(images), strict=True):
        assert jnp.linalg.norm(a - b) < 0.01 * jnp.linalg.norm(b)


def test_float32_and_several_devices_are_computed_without():
    images = jnp.zeros((1, 32, 32, 3))
    exact = jax.jit(lambda x: list(efficientnet.maps(efficientnet.load(efficientnet.LITE0), x)))
    assert "@block_amx" not in exact.lower(images).as_text()
    code = "from dcgan_jax.pretrained import block_amx; print(block_amx.usable())"
    assert python("-c", code, variables=on_devices(2)).stdout.split() == ["False"]


def test_a_missing_compiler_is_said_once(tmp_path):
    code = (
        "from dcgan_jax.system import amx\n"
        'for package, name in (("gan", "conv_amx"), ("pretrained", "block_amx")):\n'
        '    print(amx.registered(f"dcgan_jax.{package}", f"{name}.cc", name))'
    )
    done = python("-c", code, variables={"DCGAN_JAX_CACHE": str(tmp_path), "CXX": "nonexistent-c++"})
    assert done.stdout.split() == ["False", "False"]
    assert len(done.stderr.splitlines()) == 1 and "there is no C++ compiler nonexistent-c++" in done.stderr
