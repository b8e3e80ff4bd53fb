"""Losses, penalties and the robust recipe against what PyTorch computed (golden/make_recipes.py)."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import Even, Sum, on_devices, python

from dcgan_jax import Config, InputError, Objective, create_state, train_step
from dcgan_jax.gan.augment import augment
from dcgan_jax.gan.networks import Latent
from dcgan_jax.gan.objectives import OBJECTIVES, Penalty, squared_gradient

GOLDEN = np.load(Path(__file__).parent / "golden" / "recipes.npz", allow_pickle=False)
STEPS, BATCH = GOLDEN["images"].shape[:2]
KEY = jax.random.key(3)
ROBUST = Config(
    image_size=16, width=4, latent_dim=8, batch_size=BATCH, loss="relativistic", penalty="both", gamma=0.5,
    discriminator_norm="none", learning_rate=1e-3, beta2=0.99,
)  # fmt: skip


class RecordedLatent(Latent):
    """Hands out the recorded noise of step i for the key that train_step derives at step i."""

    def draw(self, key, num):
        keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(STEPS))
        return jnp.asarray(GOLDEN["noise"])[jnp.argmax(keys == key)]


def images(step):
    return jnp.asarray(GOLDEN["images"][step], jnp.float32) / 127.5 - 1


def network(prefix, params):
    """The recorded values of a network in our layout. PyTorch numbers the layers of its nn.Sequential."""
    kernels = [name for name in GOLDEN.files if name.startswith(prefix) and GOLDEN[name].ndim == 4]

    def take(path, leaf):
        names = [p.key for p in path]
        number = int(names[0].split("_")[1]) if "Block" in names[0] else -1
        value = GOLDEN[kernels[number]]
        layer = int(kernels[number].rsplit("/", 1)[1].split(".")[0])
        if names[-1] == "kernel":
            value = value.transpose(2, 3, 1, 0)
        elif "BatchNorm_0" in names:
            value = GOLDEN[f"{prefix}{layer + 1}.{ {'scale': 'weight', 'bias': 'bias'}[names[-1]] }"]
        else:
            value = GOLDEN[f"{prefix}{layer}.bias"]
        assert value.shape == leaf.shape
        return jnp.asarray(value)

    return jax.tree_util.tree_map_with_path(take, params)


def recorded():
    state = create_state(ROBUST)
    G, D = state.generator, state.discriminator
    return state.replace(
        generator=G.replace(params=network("before/G/", G.params)),
        discriminator=D.replace(params=network("before/D/", D.params)),
        latent=RecordedLatent(8),
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_loss_and_its_gradient(name):
    objective, (real, fake) = OBJECTIVES[name], jnp.asarray(GOLDEN["logits"])

    def of(network):
        if network == "D":
            return lambda fake: objective.discriminator(real, fake)
        return lambda fake: objective.generator(*((fake, real) if objective.paired else (fake,)))

    for network in "DG":
        value, gradient = jax.value_and_grad(of(network))(fake)
        np.testing.assert_allclose(value, GOLDEN[f"loss/{name}/{network}"], rtol=1e-6)
        np.testing.assert_allclose(gradient, GOLDEN[f"loss/{name}/{network}/fake"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "logit", "losses"),
    [("bce", 0, (np.log(2),) * 2), ("hinge", 0.5, (2, -0.5)), ("lsgan", 0.5, (1 / 4, 1 / 8)), ("relativistic", 3, (np.log(2),) * 2)],
)  # fmt: skip
def test_the_optimum_is_where_it_is_said_to_be(name, logit, losses):
    """Both losses there, and no common shift of the logits improves the discriminator's."""
    objective, logits = OBJECTIVES[name], jnp.full(5, float(logit))
    G = objective.generator(*((logits, logits) if objective.paired else (logits,)))
    np.testing.assert_allclose((objective.discriminator(logits, logits), G), losses, rtol=1e-6)
    assert abs(jax.grad(lambda shift: objective.discriminator(logits + shift, logits + shift))(0.0)) < 1e-6


def test_the_penalty_and_its_gradient():
    state = recorded()
    D = state.discriminator

    def penalty(params):
        return squared_gradient(lambda x: D(x, params=params), images(0))[2]

    value, gradient = jax.jit(jax.value_and_grad(penalty))(D.params)
    np.testing.assert_allclose(value, GOLDEN["penalty"], rtol=1e-5)
    theirs = network("penalty/D/", D.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-9), gradient, theirs)


def test_ten_steps_of_the_robust_recipe():
    state, trace = recorded(), []
    for step in range(STEPS):
        state, metrics = train_step(state, images(step), KEY)
        trace.append([metrics[name] for name in ("loss_D", "loss_G", "penalty")])
    np.testing.assert_allclose(np.asarray(trace), GOLDEN["trace"], rtol=1e-3)
    for name, ours in (("G", state.generator.params), ("D", state.discriminator.params)):
        theirs = network(f"after/{name}/", ours)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), ours, theirs)


def test_batchnorm_and_a_penalty_are_refused():
    with pytest.raises(
        InputError, match="penalty r1 needs a discriminator without BatchNorm: --discriminator-norm none"
    ):
        create_state(Config(image_size=16, width=4, penalty="r1"))


@pytest.mark.parametrize(("name", "real", "fake"), [("none", 0, 0), ("r1", 1, 0), ("r2", 0, 1), ("both", 1, 1)])
def test_r1_is_of_the_real_images_and_r2_of_the_generated_ones(name, real, fake):
    """GOLDEN["penalty"] is that of the real images of the first step, the trace holds γ/2 times the sum of both."""
    of_reals = 0.25 * GOLDEN["penalty"]
    of_both = GOLDEN["trace"][0, 2]
    assert of_both > 1.1 * of_reals and abs(of_both - 2 * of_reals) > 0.01 * of_both  # they are not the same
    penalty = create_state(Config(**{**vars(ROBUST), "penalty": name, "penalty_every": 3})).penalty
    assert penalty == Penalty(bool(real), bool(fake), 3)
    if name == "r1":
        found = train_step(recorded().replace(penalty=Penalty(real=True)), images(0), KEY)[1]["penalty"]
        np.testing.assert_allclose(found, of_reals, rtol=1e-4)


def test_every_other_step_twice_as_strong():
    strength = {}
    for every in (1, 2):
        state = create_state(Config(**{**vars(ROBUST), "penalty_every": every}))
        strength[every] = [float(train_step(state.replace(step=jnp.int32(0)), images(0), KEY)[1]["penalty"])]
        state = create_state(Config(**{**vars(ROBUST), "penalty_every": every}))
        strength[every] += [float(train_step(state.replace(step=jnp.int32(1)), images(0), KEY)[1]["penalty"])]
    assert strength[2][1] == 0 < strength[1][1]
    np.testing.assert_allclose(strength[2][0], 2 * strength[1][0], rtol=1e-5)


@pytest.mark.parametrize(("side", "batch", "gamma"), [(16, 4, 4), (32, 32, 1), (16, 32, 0.5)])
def test_without_a_weight_the_penalty_follows_side_and_batch(side, batch, gamma):
    state = create_state(Config(**{**vars(ROBUST), "gamma": 0.0, "image_size": side, "batch_size": batch}))
    assert (state.annealing.start.gamma, state.annealing.end.gamma) == (gamma, gamma)


def test_what_is_annealed_goes_from_start_to_end():
    config = Config(
        **{**vars(ROBUST), "gamma_final": 0.1, "beta2": 0.9, "beta2_final": 0.1, "learning_rate_final": 0.5},
    )
    state = create_state(Config(**{**vars(config), "discriminator_rate": 2, "anneal_images": 800}))
    for step, left in ((0, 1), (50, 0.5 + 0.125**0.5), (100, 0.5), (200, 0), (2**30, 0)):  # 4 images each
        now = state.annealing.at(jnp.int32(step), BATCH)
        np.testing.assert_allclose(now.gamma, 0.05 + left * 0.45, rtol=1e-5)
        np.testing.assert_allclose(now.beta2, 0.99 - left * 0.09, rtol=1e-5)
        np.testing.assert_allclose(now.learning_rate_G, 5e-4 + left * 5e-4, rtol=1e-5)
        np.testing.assert_allclose(now.learning_rate_D, 1e-3 + left * 1e-3, rtol=1e-5)


def test_a_hyperbolic_penalty_falls_for_ever():
    config = Config(**{**vars(ROBUST), "gamma_final": 0.4, "gamma_schedule": "hyperbolic", "anneal_images": 800})
    annealing = create_state(config).annealing
    for step, share in ((0, 1), (100, 1 / 1.75), (200, 0.4), (400, 1 / 4), (2000, 1 / 16)):  # 4 images each
        np.testing.assert_allclose(annealing.at(jnp.int32(step), BATCH).gamma, 0.5 * share, rtol=1e-5)
    with pytest.raises(InputError, match="gamma_schedule hyperbolic never reaches 0: give a gamma_final such as 0.1"):
        Config(**{**vars(config), "gamma_final": 0.0})


@pytest.mark.parametrize("limit", [0, 0.01, 1e3])
def test_long_gradients_are_shortened(limit):
    state, metrics = train_step(create_state(Config(**{**vars(ROBUST), "clip_norm": limit})), images(0), KEY)
    for name, network in (("D", state.discriminator), ("G", state.generator)):
        norm = float(metrics[f"grad_norm_{name}"])  # as it was
        assert 1e-2 < norm < 1e2
        first_moment = optax.tree.get(network.opt_state, "mu")
        np.testing.assert_allclose(optax.tree.norm(first_moment), 0.5 * min(norm, limit or norm), rtol=1e-5)


def test_each_network_learns_at_its_own_rate():
    """Adam's first step moves a weight by its rate, whatever the gradient is, unless that is tiny."""
    config = Config(**{**vars(ROBUST), "learning_rate": 1e-3, "discriminator_rate": 0.25})
    before = jax.tree.map(np.array, create_state(config))
    after, _ = train_step(create_state(config), images(0), KEY)
    for name, rate in (("generator", 1e-3), ("discriminator", 2.5e-4)):
        old, new = (getattr(state, name).params for state in (before, after))
        moved = max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new)))
        np.testing.assert_allclose(moved, rate, rtol=1e-3)


@pytest.mark.parametrize(("setting", "flip"), [("off", False), ("off", True), ("full", False)])
def test_all_that_the_discriminator_sees_is_changed_each_time_anew(setting, flip):
    """Real and generated images are the same here, and no loss has a gradient: the logits differ by what was changed.

    A flip is of the real images alone, before both updates. The generator's loss of pairs sees real images too.
    """
    objective = Objective(
        discriminator=lambda real, fake: 0 * fake.mean(), generator=lambda fake, real: real.mean(), paired=True
    )
    config = Config(image_size=16, latent_dim=8, batch_size=BATCH, augment=setting, flip=flip)
    state = create_state(config, generator=Even(), discriminator=Sum(), objective=objective)
    pixels = jnp.full((BATCH, 16, 16, 3), 0.25)
    if flip:
        pixels = pixels * jnp.linspace(0, 1, 16)[None, None, :, None]  # brighter to the right
    plain = float(Sum().apply({"params": {"one": 1.0}}, pixels, train=True).mean())
    generated = float(Sum().apply({"params": {"one": 1.0}}, jnp.full((1, 16, 16, 3), 0.25), train=True).mean())
    metrics = train_step(state, pixels, KEY)[1]
    real, fake, later = (float(jax.scipy.special.logit(metrics[name])) for name in ("D_x", "D_G_z1", "D_G_z2"))
    pair = float(metrics["loss_G"])
    if setting == "full":
        assert np.diff(np.sort([real, fake, later, pair, plain])).min() > 1e-3
        return
    np.testing.assert_allclose([fake, later], generated, rtol=1e-4)
    np.testing.assert_allclose(pair, real, rtol=2e-3)  # a mean of logits, and the logit of a mean of probabilities
    if not flip:
        np.testing.assert_allclose(real, plain, rtol=1e-4)
    else:  # each image is as it was, or mirrored, which lowers its logit by the same amount
        mirrored = float(Sum().apply({"params": {"one": 1.0}}, pixels[:, :, ::-1], train=True).mean())
        flipped = (pair - plain) / (mirrored - plain) * BATCH
        assert plain - mirrored > 0.01 and abs(flipped - round(flipped)) < 1e-3 and round(flipped) >= 1


@pytest.mark.slow
def test_two_devices_compute_what_one_does_and_bf16_is_near():
    """The penalties are those of the whole batch; everything that is random is the same."""
    code = """
import dataclasses
import jax, numpy as np
from dcgan_jax import Config, create_state, train_step
from dcgan_jax.system import cluster

robust = Config(
    image_size=16, width=16, latent_dim=8, batch_size=8, loss="relativistic", penalty="both", discriminator_norm="none",
    augment="full", flip=True, learning_rate=1e-3, extra_convs=1,
)
images = jax.random.uniform(jax.random.key(1), (8, 16, 16, 3), minval=-1)
everywhere, split = cluster.shardings()

def trace(config, several):
    state, batch, found = create_state(config), images, []
    if several:
        state, batch = cluster.replicated(jax.tree.map(np.array, state)), jax.device_put(images, split)
    for _ in range(3):
        state, metrics = train_step(state, batch, jax.random.key(0))
        found.append([float(metrics[name]) for name in ("loss_D", "loss_G", "penalty")])
    return np.array(found)

one = trace(robust, False)
np.testing.assert_allclose(trace(robust, True), one, rtol=1e-3)
rough = trace(dataclasses.replace(robust, precision="bf16"), False)
np.testing.assert_allclose(rough, one, rtol=0.05)
assert not np.array_equal(rough, one)
spectral = dataclasses.replace(robust, discriminator_norm="spectral", penalty_every=2)
np.testing.assert_allclose(trace(spectral, True), trace(spectral, False), rtol=1e-3)
"""
    done = python("-c", code, variables=on_devices(2))
    assert done.returncode == 0, done.stderr


def test_the_penalty_s_passes_serve_the_loss_too():
    """The same numbers as from separate passes, with biases and augmentation."""
    D, x = recorded().discriminator, images(0)
    biased = jax.tree.map(lambda p: p + 0.1 * jnp.sin(jnp.arange(p.size)).reshape(p.shape), D.params)

    def loss(params, homogeneous):
        def judge(x, **scale):
            return D(x, params=params, **scale)

        changed = functools.partial(augment, KEY)
        logits, _, steepness = squared_gradient(judge, x, augment=changed, homogeneous=homogeneous)
        return jax.nn.softplus(logits).mean() + steepness

    ours, theirs = (jax.jit(jax.value_and_grad(loss), static_argnums=1)(biased, way) for way in (True, False))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, theirs)
