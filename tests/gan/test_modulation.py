"""Self-modulation of the generator, against numbers that PyTorch computed (golden/make_modulation.py)."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import some_generator

from dcgan_jax import recipe, restore, sample
from dcgan_jax.gan.networks import Generator, Hidden
from dcgan_jax.gan.state import create_state
from dcgan_jax.share.portable import to_safetensors

GOLDEN = np.load(Path(__file__).parent / "golden" / "modulation.npz", allow_pickle=False)
NETWORK = Generator(latent_dim=8, width=2, image_size=32, self_modulation=True)


@pytest.fixture
def hidden(monkeypatch):
    """As many hidden numbers as were recorded."""
    monkeypatch.setattr("dcgan_jax.gan.networks.Hidden", lambda: Hidden(5, name="Hidden_0"))


def tree(of):
    """Recorded arrays as the parameters of the network."""

    def kernel(name):  # (in, out, h, w) -> (h, w, out, in)
        return jnp.asarray(GOLDEN[f"{of}/{name}"].transpose(2, 3, 1, 0))

    def block(i):
        layer = {"ConvTranspose_0": {"kernel": kernel(f"{i}/kernel")}}
        scale, shift = (GOLDEN[f"{of}/{i}/{part}/bias"] for part in ("scale", "shift"))
        if i == 2:  # the last has a BatchNorm as ever, whose scale is the recorded one + 1
            return {
                **layer,
                "BatchNorm_0": {"scale": jnp.asarray(scale + (of == "weights")), "bias": jnp.asarray(shift)},
            }
        kernels = [GOLDEN[f"{of}/{i}/{part}/weight"].T for part in ("scale", "shift")]
        return {**layer, "Dense_0": {"kernel": jnp.hstack(kernels), "bias": jnp.hstack([scale, shift])}}

    hidden = {"kernel": jnp.asarray(GOLDEN[f"{of}/hidden/weight"]), "bias": jnp.asarray(GOLDEN[f"{of}/hidden/bias"])}
    blocks = {f"GeneratorBlock_{i}": block(i) for i in range(3)}
    return {**blocks, "Hidden_0": hidden, "ConvTranspose_0": {"kernel": kernel("kernel")}}


def statistics(i):
    return {kind: jnp.asarray(GOLDEN[f"stats/{i}/{kind}"]) for kind in ("mean", "var")}


def test_images_and_gradients_are_those_of_pytorch(hidden):
    def weighed(params, z):
        training, changed = NETWORK.apply({"params": params}, z, train=True, mutable=["batch_stats"])
        return (training * GOLDEN["weight"]).sum(), (training, changed["batch_stats"])

    z = jnp.asarray(GOLDEN["weights/z"])
    (_, (training, after)), gradients = jax.value_and_grad(weighed, (0, 1), has_aux=True)(tree("weights"), z)
    np.testing.assert_allclose(training, GOLDEN["training"], atol=2e-6)
    np.testing.assert_allclose(gradients[1], GOLDEN["gradients/z"], rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), gradients[0], tree("gradients"))
    assert after.keys() == {"GeneratorBlock_0", "GeneratorBlock_1", "GeneratorBlock_2"}


def test_images_by_running_statistics_are_those_of_pytorch(hidden):
    stats = {f"GeneratorBlock_{i}": {"BatchNorm_0": statistics(i)} for i in range(3)}
    images = NETWORK.apply({"params": tree("weights"), "batch_stats": stats}, GOLDEN["weights/z"], train=False)
    np.testing.assert_allclose(images, GOLDEN["inference"], atol=2e-6)


def test_the_recipe_for_pictures_of_your_own_has_it_and_no_other():
    config = recipe("projected", image_size=16, width=4, batch_size=4)
    assert config.self_modulation and not recipe("robust").self_modulation and not recipe("classic").self_modulation
    state, plain = (create_state(dataclasses.replace(config, self_modulation=on)) for on in (True, False))
    assert state.ema.keys() - plain.ema.keys() == {"Hidden_0"}
    assert sample(state, jax.random.key(1), 3).shape == (3, 16, 16, 3)


def test_hidden_numbers_start_with_the_variance_of_he():
    kernel = Hidden().init(jax.random.key(0), jnp.zeros((1, 50)))["params"]["kernel"]
    assert kernel.shape == (128, 50)
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / 50), rtol=0.05)


def test_a_file_says_that_it_has_it(tmp_path):
    params = some_generator(image_size=16, width=4, self_modulation=True)
    (tmp_path / "a.safetensors").write_bytes(to_safetensors(params, {}))
    back = restore(tmp_path / "a.safetensors")
    assert back.generator == params.generator
    np.testing.assert_array_equal(sample(back, jax.random.key(0), 3), sample(params, jax.random.key(0), 3))
