import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import Even, Sum, equal

from dcgan_jax.config import Config
from dcgan_jax.gan import conv
from dcgan_jax.gan.classes import Classes
from dcgan_jax.gan.networks import Discriminator, Generator, Latent, build
from dcgan_jax.gan.pixels import from_uint8
from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import compiled_step, train_step, train_steps
from dcgan_jax.system.xla import compiler_options

KEY = jax.random.key(0)
STEP = compiled_step(**compiler_options("cpu"))


@pytest.fixture
def images(tiny):
    return jax.random.uniform(KEY, (tiny.batch_size, 16, 16, 3), minval=-1)


def test_several_steps_are_compiled_once(tiny, images):
    state = create_state(dataclasses.replace(tiny, width=5))  # which no other test has compiled
    before = STEP._cache_size()
    for _ in range(4):
        state, _ = train_step(state, images, KEY)
    assert STEP._cache_size() == before + 1
    assert state.step == 4


def test_the_state_is_donated(tiny, images):
    state = create_state(tiny)
    train_step(state, images, KEY)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.generator.params))


def test_a_step_is_a_pure_function_and_each_step_has_noise_of_its_own(tiny, images):
    def losses(step):
        state = create_state(tiny)
        return train_step(state.replace(step=jnp.int32(step)), images, KEY)[1]

    assert jax.tree.all(jax.tree.map(np.array_equal, losses(0), losses(0)))
    assert losses(0)["D_G_z1"] != losses(1)["D_G_z1"]


def test_several_steps_at_once_are_the_same_steps_and_what_lies_beyond_is_thrown_away(tiny):
    """Two batches of at most three."""
    networks = {"generator": Even(), "discriminator": Sum()}
    batches = list(jax.random.uniform(KEY, (2, tiny.batch_size, 16, 16, 3), minval=-1))
    together, metrics = train_steps(create_state(tiny, **networks), batches, KEY, at_most=3)
    state, losses = create_state(tiny, **networks), []
    for batch in batches:
        state, values = train_step(state, batch, KEY)
        losses.append(values["loss_D"])
    assert int(together.step) == 2
    np.testing.assert_allclose(metrics["loss_D"][:2], losses, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(together.discriminator), jax.tree.leaves(state.discriminator), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


OF_NETWORKS_AND_STEP = {
    "batch_size": 5, "image_size": 32, "channels": 1, "width": 5, "latent_dim": 9, "latent": "uniform", "loss": "hinge",
    "penalty": "r1", "gamma": 3.0, "gamma_final": 0.5, "gamma_schedule": "hyperbolic", "penalty_every": 2, "learning_rate": 1e-3,
    "learning_rate_final": 0.5, "discriminator_rate": 0.5, "beta2": 0.9, "beta2_final": 2.0, "anneal_images": 5,
    "augment": "full", "flip": True, "discriminator_norm": "spectral", "extra_convs": 1, "leaky_slope": 0.1,
    "self_modulation": True, "first_batchnorm": True, "batchnorm_scale_mean": 0.0, "ema_half_life": 3.0, "seed": 1, "precision": "bf16",
    "beta1": 0.9, "clip_norm": 1.0, "features": "efficientnet-lite0", "features_weight": 2.0, "features_gamma": 2.0,
    "features_size": 64, "freeze_layers": 1, "conditional": True, "class_sampling": "balanced",
}  # fmt: skip
OF_RUNS_AND_IMAGES = set(
    "recipe data steps background resize range bits show column deterministic device_data input dispatch log_every sample_every "
    "evaluate_every held_out checkpoint_every keep_newest keep_every retries generator discriminator objective init init_partly".split()
)


def test_every_setting_of_the_networks_and_the_step_arrives(tiny):
    """A state differs in its structure, which holds networks and constants, or in its numbers."""
    assert OF_NETWORKS_AND_STEP.keys() | OF_RUNS_AND_IMAGES == {field.name for field in dataclasses.fields(Config)}
    plain = dataclasses.replace(tiny, augment="off")
    without_norm = dataclasses.replace(plain, discriminator_norm="none")
    for name, value in OF_NETWORKS_AND_STEP.items():
        config = without_norm if name == "penalty" else plain
        if name.startswith("features_"):
            config = dataclasses.replace(plain, features="efficientnet-lite0")
        if name == "class_sampling":
            config = dataclasses.replace(plain, conditional=True)
        states = [
            jax.eval_shape(lambda config=config: create_state(config, classes=Classes(("a", "b"), (1, 2))))
            for config in (config, dataclasses.replace(config, **{name: value}))
        ]
        if jax.tree.structure(states[0]) == jax.tree.structure(states[1]) and states[0] == states[1]:
            states = [create_state(config), create_state(dataclasses.replace(config, **{name: value}))]
            assert not equal(*states), name


def test_metrics_agree_with_their_definitions(tiny, images):
    """The losses of a discriminator whose logit is 0 everywhere are log 2, its probabilities 1/2."""
    state = create_state(tiny)
    D = state.discriminator
    blind = D.replace(params={**D.params, "kernel": jnp.zeros_like(D.params["kernel"])})
    _, metrics = train_step(state.replace(discriminator=blind), images, KEY)
    np.testing.assert_allclose(metrics["loss_D"], np.log(2), rtol=1e-6)
    assert metrics["D_x"] == metrics["D_G_z1"] == 0.5
    # G is judged by the D of after the update, whose logits are still small
    assert metrics["D_G_z2"] != 0.5
    np.testing.assert_allclose(jnp.exp(-metrics["loss_G"]), metrics["D_G_z2"], rtol=1e-3)
    assert metrics["grad_norm_D"] > 0 and metrics["grad_norm_G"] > 0


def test_uint8_images_are_normalised_on_the_device_to_the_same_bits(tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (tiny.batch_size, 16, 16, 3), np.uint8)
    results = [train_step(create_state(tiny), images, KEY)[1] for images in (pixels, from_uint8(pixels))]
    assert jax.tree.all(jax.tree.map(np.array_equal, *results))


def state_with(config, dtype, activations):
    """A state whose networks compute in these types, whatever the machine."""
    networks = (
        dataclasses.replace(build(kind, config), dtype=dtype, activations=activations)
        for kind in (Generator, Discriminator)
    )
    return create_state(config, **dict(zip(("generator", "discriminator"), networks)))


def convolutions(state, images):
    """The convolutions of a step that is compiled for NVIDIA GPUs, without one."""
    traced = compiled_step(**compiler_options("gpu")).trace(state, images, KEY)
    return re.findall("stablehlo.convolution.*", traced.lower(lowering_platforms=("cuda",)).as_text())


def test_a_gpu_gets_the_convolutions_that_its_library_knows(tiny, images):
    """A kernel gradient, the one convolution that sums over the batch, with ``lhs_dilation`` runs > 30 times slower."""
    calls = convolutions(state_with(tiny, jnp.bfloat16, jnp.bfloat16), images)
    kernel_gradients = [call for call in calls if "]x[i, 0, 1, o]" in call]
    assert len(kernel_gradients) == 6  # two layers of G, and of D for real and for generated images
    assert all("lhs_dilate = [1, 1]" in call for call in kernel_gradients)
    assert all(re.search(r"xbf16>, tensor<\S+xbf16>\) -> tensor<\S+xbf16>", call) for call in calls)


def test_options_reach_only_the_platform_that_they_are_for():
    """XLA refuses names and values that it does not know, of any platform, when it compiles."""
    for platform in ("cpu", "gpu", "tpu"):
        for devices in (1, 2):
            for deterministic in (False, True):
                options = compiler_options(platform, devices=devices, deterministic=deterministic)
                assert all(name.startswith(f"xla_{platform}_") for name in options)
                jax.jit(lambda x: x, compiler_options=options)(1)
                captured = "CONVOLUTION" in options.get("xla_gpu_enable_command_buffer", "")
                assert captured == (platform == "gpu" and devices == 1)  # not together with collectives
                assert ("xla_gpu_exclude_nondeterministic_ops" in options) == (platform == "gpu" and deterministic)


def test_activations_are_bf16_on_accelerators_only(monkeypatch, tiny):
    for backend, expected in (("cpu", jnp.float32), ("gpu", jnp.bfloat16), ("tpu", jnp.bfloat16)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        for kind in (Generator, Discriminator):
            assert build(kind, dataclasses.replace(tiny, precision="bf16")).activations == expected
            assert build(kind, tiny).activations == jnp.float32


class Float32Latent(Latent):
    def draw(self, key, num):
        return jax.random.normal(key, (num, self.dim), jnp.float32)


@pytest.mark.parametrize(
    ("side", "width", "batch", "steps", "tolerance"),
    [(16, 16, 4, 2, 1e-4), pytest.param(32, 32, 16, 4, 2e-3, marks=pytest.mark.slow)],
)
def test_steps_follow_float64(monkeypatch, side, width, batch, steps, tolerance):
    """Rounding differs from sum to sum, and training amplifies it: 2e-3 of the losses at width 32."""
    config = Config(image_size=side, width=width, batch_size=batch)
    pixels = np.random.default_rng(0).integers(0, 256, (steps, batch, side, side, 3), np.uint8)

    def losses(state, images):
        step = compiled_step(**compiler_options("cpu"))
        trace = []
        for batch in images:
            state, metrics = step(state, batch, KEY)
            trace.append((float(metrics["loss_D"]), float(metrics["loss_G"])))
        return np.array(trace)

    def wider(network):
        return network.replace(module=dataclasses.replace(network.module, activations=jnp.float64))

    def reference(fast, few, reference, a, b, dtype, *_):
        return reference(a, b, jnp.float64)

    start = create_state(config).replace(latent=Float32Latent(config.latent_dim))
    ours = losses(jax.tree.map(jnp.copy, start), from_uint8(pixels))
    exact = start.replace(generator=wider(start.generator), discriminator=wider(start.discriminator))
    with jax.enable_x64(True):
        monkeypatch.setattr(conv, "choose", reference)
        exact = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 and x.ndim else x, exact)
        truth = losses(exact, from_uint8(pixels).astype(np.float64))
    assert not np.array_equal(ours, truth)
    np.testing.assert_allclose(ours, truth, rtol=tolerance)


@pytest.mark.slow
def test_bf16_tracks_float32(tiny, images):
    """Losses stay within 5 % over 20 steps of a network wide enough for the bf16 products to be taken.

    So they do when activations are bf16, as on accelerators.
    """
    kinds = [(jnp.float32, jnp.float32), (jnp.bfloat16, jnp.float32), (jnp.bfloat16, jnp.bfloat16)]
    traces = []
    for kind in kinds:
        state, trace = state_with(dataclasses.replace(tiny, width=16), *kind), []
        for _ in range(20):
            state, metrics = train_step(state, images, KEY)
            trace.append((metrics["loss_D"], metrics["loss_G"]))
        assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves((state, metrics)))
        assert not any(np.array_equal(trace, other) for other in traces)
        traces.append(np.asarray(trace))
    for trace in traces[1:]:
        np.testing.assert_allclose(trace, traces[0], rtol=0.05)


def test_a_step_transfers_nothing(tiny, images):
    """No value crosses between host and device in the hot path once the key and the batch are there."""
    state, _ = train_step(create_state(tiny), images, KEY)
    with jax.transfer_guard("disallow"):
        train_step(state, images, KEY)
