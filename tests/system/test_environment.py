"""Settings of JAX in the environment: the numbers are the same under all of them, or one line says what to do."""

import dataclasses
import os

import helpers
import pytest

from dcgan_jax import fit

# Each number here must not depend on the environment; types belong to them.
PROGRAM = """
import hashlib, sys
import jax, jax.numpy as jnp, numpy as np
from dcgan_jax import Config, create_state, decode, generator_params, sample, slerp, train_step

key = jax.random.key(0, impl="threefry2x32")
state = create_state(Config(image_size=16, width=4, latent_dim=8, batch_size=4, augment="full", flip=True))
pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
for images in (pixels, pixels / 127.5 - 1):
    state, metrics = train_step(state, images, key)
params = generator_params(state, num=64)
z = np.random.default_rng(1).normal(size=(2, 8))
way = slerp(z[0], z[1], np.linspace(0, 1, 3))
tree = state, metrics, params, sample(params, key, 3), decode(params, z), way
sums = hashlib.sha256()
for leaf in jax.tree.leaves(tree):
    assert leaf.dtype in (np.float32, np.int32), leaf.dtype
    sums.update(np.asarray(leaf).tobytes())
print(sums.hexdigest())
"""


# Compiled programs are shared with the other tests where this is given.
SHARED = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))}


def python(code, *arguments, **variables):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    return helpers.python("-c", code, *arguments, env={**plain, **variables})


@pytest.fixture(scope="module")
def usual():
    done = python(PROGRAM, **SHARED)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"JAX_ENABLE_X64": "1", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_DEFAULT_PRNG_IMPL": "rbg"},
        {"JAX_DEFAULT_PRNG_IMPL": "unsafe_rbg", "JAX_DISABLE_JIT": "1"},
        {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_DEBUG_NANS": "1", "JAX_NUMPY_RANK_PROMOTION": "raise"},
    ],
    ids=["types", "random", "precision"],
)
def test_settings_of_jax_change_no_bit(usual, variables):
    done = python(PROGRAM, **SHARED | variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout == usual


@pytest.mark.slow
def test_a_key_of_other_random_numbers_is_refused():
    code = PROGRAM.replace(', impl="threefry2x32"', "")
    done = python(code, JAX_DEFAULT_PRNG_IMPL="rbg")
    assert "the key's random numbers are rbg: make it by jax.random.key(0, impl='threefry2x32')" in done.stderr


@pytest.mark.parametrize("platform", ["cuda", "nonesuch"])
def test_a_platform_that_is_not_there_is_one_line(photos, tmp_path, platform):
    code = "from dcgan_jax.train import main; main()"
    tiny = ["--recipe", "classic", "--image-size", 16, "--width", 4, "--steps", 1, "--batch-size", 4]
    done = python(code, "--workdir", tmp_path / "run", "--data", photos, *tiny, JAX_PLATFORMS=platform)
    if done.returncode == 0:
        pytest.skip("there is such a device")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"JAX_PLATFORMS is '{platform}'" in last and "unset it, or for cuda install the extra" in last
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_without_a_home_training_names_the_cache_and_sampling_needs_none(photos, tiny, tmp_path):
    fit(dataclasses.replace(tiny, data=str(photos)), tmp_path / "run")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "", "DCGAN_JAX_CACHE": ""}
    code = "from dcgan_jax.train import main; main()"
    done = python(code, "--workdir", tmp_path / "other", "--data", photos, "--image-size", 16, **nowhere)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 2, done.stderr
    assert "cannot write the cache folder /dev/null/.cache/dcgan_jax" in done.stderr
    assert "set DCGAN_JAX_CACHE to a folder that can be written" in done.stderr
    code = "from dcgan_jax.generate import main; main()"
    for place in (nowhere, {"DCGAN_JAX_CACHE": str(photos / "even" / "00.png")}):
        out = tmp_path / f"out{len(place)}"
        done = python(code, "--workdir", tmp_path / "run", "--num", 2, "--out", out, **place)
        assert done.returncode == 0 and (out / "00001.png").exists(), done.stderr


def test_the_cache_that_the_message_names_is_used(photos, tiny, tmp_path):
    """The remedy: with DCGAN_JAX_CACHE set, the same start has a cache."""
    code = "from dcgan_jax.system.cache import writable_cache; print(writable_cache())"
    done = python(code, HOME="/dev/null", DCGAN_JAX_CACHE=str(tmp_path / "mine"))
    assert done.stdout.strip() == str(tmp_path / "mine") and (tmp_path / "mine").is_dir()
