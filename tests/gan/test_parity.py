"""Against numbers that PyTorch computed (golden/make_golden.py)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax.config import Config
from dcgan_jax.gan import conv
from dcgan_jax.gan.networks import Latent
from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import train_step

GOLDEN = np.load(Path(__file__).parent / "golden" / "torch.npz", allow_pickle=False)
STEPS, BATCH, SIZE = GOLDEN["images"].shape[:3]
KEY = jax.random.key(3)
CONFIG = Config(image_size=SIZE, width=4, latent_dim=8, batch_size=BATCH, learning_rate=2e-4)
KINDS = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


class RecordedLatent(Latent):
    """Hands out the recorded noise of step i for the key that train_step derives at step i."""

    def draw(self, key, num):
        keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(STEPS))
        step = jnp.argmax(keys == key)
        return jnp.asarray(GOLDEN["noise"])[step]


@pytest.fixture(autouse=True, params=["as used", pytest.param("nine products in every layer", marks=pytest.mark.slow)])
def formulation(request, monkeypatch):
    """The network recorded is too thin for the nine-product convolutions: take them all the same."""
    if request.param != "as used":
        jax.clear_caches()
        monkeypatch.setattr(conv, "MIN_CHANNELS", 1)
        yield
        jax.clear_caches()
    else:
        yield


def from_torch(prefix, like):
    """Fill the structure of ``like``, the params or batch_stats of G or D, with recorded values.

    Layers appear in the same order in both; PyTorch numbers them within an nn.Sequential.
    """
    keys = [key for key in GOLDEN.files if key.startswith(f"{prefix}/")]
    kernels = [key for key in keys if GOLDEN[key].ndim == 4]

    def take(path, leaf):
        names = [p.key for p in path]
        if names[-1] == "kernel":
            i = int(names[0].split("_")[1]) if "Block" in names[0] else -1
            value = GOLDEN[kernels[i]]
            return jnp.asarray(value.transpose(2, 3, 1, 0))
        layer = kernels[int(names[0].split("_")[1])].rsplit("/", 1)[1].split(".")[0]
        kind = {ours: theirs for theirs, ours in KINDS.items()}[names[-1]]
        return jnp.asarray(GOLDEN[f"{prefix}/{int(layer) + 1}.{kind}"])

    return jax.tree_util.tree_map_with_path(take, like)


def statistics(prefix, kernels_prefix, like):
    """As ``from_torch`` for running statistics that were recorded without the kernels."""
    layers = sorted(
        int(k.rsplit("/", 1)[1].split(".")[0])
        for k in GOLDEN.files
        if k.startswith(f"{kernels_prefix}/") and GOLDEN[k].ndim == 4
    )

    def take(path, leaf):
        names = [p.key for p in path]
        layer = layers[int(names[0].split("_")[1])] + 1
        return jnp.asarray(GOLDEN[f"{prefix}/{layer}.running_{names[-1]}"])

    return jax.tree_util.tree_map_with_path(take, like)


def recorded_state(when="before"):
    state = create_state(CONFIG)
    networks = {}
    for name, key in (("generator", "G"), ("discriminator", "D")):
        network = getattr(state, name)
        networks[name] = network.replace(
            params=from_torch(f"{when}/{key}", network.params),
            batch_stats=statistics(f"{when}/{key}", f"{when}/{key}", network.batch_stats),
        )
    return state.replace(**networks, latent=RecordedLatent(CONFIG.latent_dim))


def close(ours, theirs, tolerance):
    """Largest error relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def images(step):
    return jnp.asarray(GOLDEN["images"][step], jnp.float32) / 127.5 - 1


def test_forward_in_training_mode():
    state = recorded_state()
    G, D = state.generator, state.discriminator
    fake, _ = G(jnp.asarray(GOLDEN["noise"][0]))
    close(fake, GOLDEN["train/fake"], 1e-4)
    for x, golden in ((images(0), "real_logits"), (fake, "fake_logits")):
        logits, _ = D(x)
        close(logits.ravel(), GOLDEN[f"train/{golden}"], 1e-4)


def test_forward_in_inference_mode():
    state = recorded_state("after")
    G, D = state.generator, state.discriminator
    close(G(jnp.asarray(GOLDEN["noise"][0, :2]), train=False)[0], GOLDEN["inference/fake"], 1e-4)
    close(D(images(0), train=False)[0].ravel(), GOLDEN["inference/logits"], 1e-4)


def test_gradients_of_the_first_step():
    # Adam's first moment after one step is (1 - b1) times the gradient.
    state, metrics = train_step(recorded_state(), images(0), KEY)
    for name, key in (("generator", "G"), ("discriminator", "D")):
        network = getattr(state, name)
        squares = [np.square(GOLDEN[name]).sum() for name in GOLDEN.files if name.startswith(f"gradient/{key}/")]
        np.testing.assert_allclose(metrics[f"grad_norm_{key}"], np.sqrt(sum(squares)), rtol=1e-4)
        ours = jax.tree.map(lambda m: m / 0.5, network.opt_state[0].mu)
        theirs = from_torch(f"gradient/{key}", network.params)
        jax.tree.map(lambda a, b: close(a, b, 1e-4), ours, theirs)


def test_running_statistics_after_a_step():
    """G's move once in a step; D's three times: real, generated, generated again after its update.

    Flax averages the variance of the batch itself, PyTorch the unbiased estimate, n/(n - 1) of it.
    """
    before, (after, _) = recorded_state(), train_step(recorded_state(), images(0), KEY)
    for name, key, moves in (("generator", "G", 1), ("discriminator", "D", 3)):
        theirs = statistics(f"statistics/{key}", f"before/{key}", getattr(before, name).batch_stats)
        for block, statistic in getattr(after, name).batch_stats.items():
            number = int(block.split("_")[1])
            side = 4 * 2**number if key == "G" else SIZE // 2 ** (number + 1)
            n = BATCH * side**2
            close(statistic["BatchNorm_0"]["mean"], theirs[block]["BatchNorm_0"]["mean"], 1e-4)
            kept = 0.9**moves  # the variance of 1 that statistics start with
            biased = kept + (theirs[block]["BatchNorm_0"]["var"] - kept) * (n - 1) / n
            close(statistic["BatchNorm_0"]["var"], biased, 1e-4)


def test_ten_steps_follow_the_recorded_losses():
    state, trace = recorded_state(), []
    for step in range(STEPS):
        state, metrics = train_step(state, images(step), KEY)
        trace.append((metrics["loss_D"], metrics["loss_G"]))
    np.testing.assert_allclose(np.asarray(trace), GOLDEN["trace"], rtol=1e-3)
    for name, key in (("generator", "G"), ("discriminator", "D")):
        ours = getattr(state, name).params
        theirs = from_torch(f"after/{key}", ours)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), ours, theirs)
