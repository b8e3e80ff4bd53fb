"""Shapes, parameter counts and knobs; the numbers are the d2l chapter's and the paper's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax import lax

from dcgan_jax.config import Config
from dcgan_jax.gan.networks import (
    Conv,
    ConvTranspose,
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    Latent,
)
from dcgan_jax.gan.state import create_state

KEY = jax.random.key(0)


def output(model, x, **kwargs):
    return model.init_with_output(KEY, x, **kwargs)[0]


def test_the_blocks_have_the_shapes_of_the_chapter():
    assert output(GeneratorBlock(20), jnp.zeros((2, 16, 16, 3)), train=False).shape == (2, 32, 32, 20)
    assert output(GeneratorBlock(20, strides=1, padding=0), jnp.zeros((2, 1, 1, 3)), train=False).shape == (2, 4, 4, 20)
    assert output(DiscriminatorBlock(20), jnp.zeros((2, 16, 16, 3)), train=False).shape == (2, 8, 8, 20)


def test_the_networks_have_the_shapes_of_the_chapter():
    def maps_of(model, x):
        return model.init_with_output(KEY, x, train=False, capture_intermediates=True)

    image, maps = jax.eval_shape(lambda: maps_of(Generator(), jnp.zeros((1, 1, 1, 100))))
    assert image.shape == (1, 64, 64, 3)
    assert jax.eval_shape(lambda: output(Discriminator(), jnp.zeros(image.shape), train=False)).shape == (1, 1, 1, 1)
    shapes = [maps["intermediates"][f"GeneratorBlock_{i}"]["__call__"][0].shape[1:] for i in range(4)]
    assert shapes == [(4, 4, 512), (8, 8, 256), (16, 16, 128), (32, 32, 64)]


def test_parameter_counts():
    state = jax.eval_shape(lambda: create_state(Config()))
    count = lambda network: sum(leaf.size for leaf in jax.tree.leaves(network.params))
    assert (count(state.generator), count(state.discriminator)) == (3_576_704, 2_765_568)


@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_depth_follows_from_the_image_size(size, channels):
    G = Generator(latent_dim=8, width=2, image_size=size, channels=channels)
    D = Discriminator(width=2, image_size=size)
    x, variables = jax.eval_shape(lambda: G.init_with_output(KEY, jnp.zeros((2, 8)), train=False))
    assert x.shape == (2, size, size, channels)
    assert jax.eval_shape(lambda: output(D, jnp.zeros(x.shape), train=False)).shape == (2, 1, 1, 1)
    assert variables["params"]["GeneratorBlock_0"]["ConvTranspose_0"]["kernel"].shape == (4, 4, size // 4, 8)


@pytest.mark.parametrize(
    ("size", "shape", "first", "widths"),
    [
        (48, (48, 48), (3, 3), [16, 8, 4, 2]),
        (28, (28, 28), (7, 7), [4, 2]),
        ("96x64", (96, 64), (6, 4), [16, 8, 4, 2]),
        ("64x128", (64, 128), (4, 8), [16, 8, 4, 2]),
        ((256, 192), (256, 192), (4, 3), [64, 32, 16, 8, 4, 2]),
        ("80x112", (80, 112), (5, 7), [16, 8, 4, 2]),
    ],
)
def test_other_sizes_start_from_another_map(size, shape, first, widths):
    G = Generator(latent_dim=8, width=2, image_size=size, channels=1)
    D = Discriminator(width=2, image_size=size)
    x, variables = jax.eval_shape(lambda: G.init_with_output(KEY, jnp.zeros((2, 8)), train=False))
    assert x.shape == (2, *shape, 1)
    kernels = [variables["params"][f"GeneratorBlock_{i}"]["ConvTranspose_0"]["kernel"] for i in range(len(widths))]
    assert [kernel.shape[:3] for kernel in kernels] == [(*first, widths[0]), *((4, 4, n) for n in widths[1:])]
    logits, variables = jax.eval_shape(lambda: D.init_with_output(KEY, jnp.zeros(x.shape), train=False))
    assert logits.shape == (2, 1, 1, 1) and variables["params"]["kernel"].shape == (*first, widths[0], 1)
    blocks = [variables["params"][f"DiscriminatorBlock_{i}"]["Conv_0"]["kernel"] for i in range(len(widths))]
    assert [kernel.shape for kernel in blocks[1:]] == [(4, 4, n, 2 * n) for n in reversed(widths[1:])]


@pytest.mark.parametrize(("side", "size"), [(1, (4, 4)), (5, (4, 4)), (1, (3, 7)), (2, (6, 5))])
def test_stride_1_is_the_transposed_convolution_for_any_side(side, size):
    x = jax.random.normal(KEY, (2, side, side, 3))
    y, variables = ConvTranspose(6, strides=1, padding=0, size=size).init_with_output(KEY, x)
    # PyTorch's kernel orientation is the flip of lax.conv_transpose's
    reference = lax.conv_transpose(x, variables["params"]["kernel"][::-1, ::-1].swapaxes(2, 3), (1, 1), "VALID")
    np.testing.assert_allclose(y, reference, atol=1e-6)


def test_scales_start_where_the_recipe_says():
    for mean in (0.0, 1.0):
        params = create_state(Config(image_size=16, width=128, batchnorm_scale_mean=mean)).generator.params
        scale = params["GeneratorBlock_0"]["BatchNorm_0"]["scale"]
        assert abs(scale.mean() - mean) < 0.005 and 0.015 < scale.std() < 0.025
        assert 0.019 < params["GeneratorBlock_1"]["ConvTranspose_0"]["kernel"].std() < 0.021


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_a_run_starts_with_the_same_bits_as_in_version_0_2_0(norm):
    golden = np.load(Path(__file__).parent / "golden" / "start.npz", allow_pickle=False)
    maxulp = 0 if jax.__version__ == golden["jax"] else 4  # each version of XLA rounds as it likes
    config = Config(image_size=16, width=4, latent_dim=8, discriminator_norm=norm, extra_convs=1)
    for name, network in create_state(config).networks.items():
        for path, leaf in flatten_dict(network.params, sep="/").items():
            np.testing.assert_array_max_ulp(leaf, golden[f"{norm}/{name}/{path}"], maxulp)


def test_the_first_block_has_batchnorm_when_asked():
    for first in (False, True):
        params = create_state(Config(first_batchnorm=first, image_size=16, width=4)).discriminator.params
        assert ("BatchNorm_0" in params["DiscriminatorBlock_0"]) == first
        assert "BatchNorm_0" in params["DiscriminatorBlock_1"]


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_slope_of_the_leaky_relu(slope):
    block = DiscriminatorBlock(4, batchnorm=False, leaky_slope=slope)
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    y, variables = block.init_with_output(KEY, x, train=False)
    linear = DiscriminatorBlock(4, batchnorm=False, leaky_slope=1.0).apply(variables, x, train=False)
    np.testing.assert_allclose(y, np.where(linear > 0, linear, slope * linear), rtol=1e-6)


def test_the_latent_distributions():
    for name, deviation in (("normal", 1.0), ("uniform", 3**-0.5)):
        z = Latent(50, name).draw(KEY, 400)
        assert z.shape == (400, 50) and abs(z.mean()) < 0.03 and abs(z.std() - deviation) < 0.03
    assert jnp.abs(z).max() <= 1


def test_spectral_norm_makes_the_largest_singular_value_one():
    """Of every kernel of the discriminator, against NumPy's singular values, after some passes in training mode."""
    D = Discriminator(width=4, image_size=16, discriminator_norm="spectral", extra_convs=1)
    x = jax.random.normal(KEY, (2, 16, 16, 3))
    variables = D.init(KEY, x, train=False)

    @jax.jit
    def passed(variables):
        new = D.apply(variables, x, train=True, mutable=["batch_stats"])[1]
        return {**variables, **new}

    for _ in range(60):
        variables = passed(variables)
    layers = [
        (block["Conv_0"]["kernel"], variables["batch_stats"][name]["Conv_0"]["u"])
        for name, block in variables["params"].items()
        if "Block" in name
    ]
    layers.append((variables["params"]["kernel"], variables["batch_stats"]["u"]))
    for kernel, u in layers:
        matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
        sigma = np.linalg.svd(matrix, compute_uv=False)[0]
        left = matrix @ np.asarray(u, np.float64)
        np.testing.assert_allclose(np.linalg.norm(left), sigma, rtol=1e-3)
    block = variables["params"]["DiscriminatorBlock_0"]["Conv_0"]
    y = Conv(4, norm="spectral").apply({"params": block, "batch_stats": {"u": layers[0][1]}}, x)
    plain = Conv(4, norm="none").apply({"params": block}, x)
    matrix = np.asarray(block["kernel"], np.float64).reshape(-1, 4)
    np.testing.assert_allclose(y * np.linalg.svd(matrix, compute_uv=False)[0], plain, rtol=2e-3, atol=1e-5)


def test_spectral_norm_has_the_gradient_of_a_power_iteration_that_stands_still():
    """As in Miyato et al. 2018: the vectors count as constants, whether they have converged or not. By NumPy."""
    x = jax.random.normal(KEY, (2, 8, 8, 3))
    kernel, u = jax.random.normal(jax.random.key(1), (4, 4, 3, 5)), jnp.linspace(-1, 1, 5)

    def loss(norm, kernel):
        given = {"params": {"kernel": kernel, "bias": jnp.zeros(5)}, "batch_stats": {"u": u}}
        return jnp.square(Conv(5, norm=norm).apply(given, x)).sum()

    matrix = np.asarray(kernel, np.float64).reshape(-1, 5)
    left = matrix @ np.asarray(u, np.float64)
    left /= np.linalg.norm(left)
    right = left @ matrix / np.linalg.norm(left @ matrix)
    sigma = left @ matrix @ right
    inner = np.asarray(jax.grad(lambda k: loss("none", k))(kernel / sigma), np.float64).reshape(-1, 5)
    expected = inner / sigma - (inner * matrix).sum() / sigma**2 * np.outer(left, right)
    found = np.asarray(jax.grad(lambda k: loss("spectral", k))(kernel)).reshape(-1, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_kernels_without_batchnorm_start_with_the_variance_of_he(slope):
    """2 / (1 + slope²) over the inputs of a sum (He et al. 2015)."""
    kernel = Conv(64, norm="none", leaky_slope=slope).init(KEY, jnp.zeros((1, 8, 8, 32)))["params"]["kernel"]
    np.testing.assert_allclose(kernel.var() * 16 * 32, 2 / (1 + slope**2), rtol=0.03)


@pytest.mark.slow
def test_without_batchnorm_the_discriminator_has_biases_and_keeps_signals_alive():
    x = jax.random.normal(KEY, (64, 64, 64, 3))
    size = {}
    for norm in ("none", "batch"):
        D = Discriminator(width=8, discriminator_norm=norm)
        logits, variables = D.init_with_output(KEY, x, train=False)
        size[norm] = float(jnp.sqrt(jnp.square(logits).mean()))
        assert ("bias" in variables["params"]) == (norm == "none")
    assert 0.3 < size["none"] < 3 and size["batch"] < 0.1
    assert "batch_stats" not in Discriminator(discriminator_norm="none").init(KEY, x[:1], train=False)


def test_extra_convolutions_keep_the_shapes():
    x = jnp.zeros((2, 16, 16, 3))
    y, variables = DiscriminatorBlock(20, extra_convs=2).init_with_output(KEY, x, train=False)
    assert y.shape == (2, 8, 8, 20)
    assert [variables["params"][f"Conv_{i}"]["kernel"].shape for i in range(3)] == [
        (4, 4, 3, 20),
        *[(3, 3, 20, 20)] * 2,
    ]
