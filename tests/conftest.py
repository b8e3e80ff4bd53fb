import os
from pathlib import Path

os.environ |= {  # of this process and of those that it starts
    # Kept for the next test run, and shared with the other workers of this one.
    "JAX_COMPILATION_CACHE_DIR": str(Path(__file__).parents[1] / ".pytest_cache" / "xla"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 << 30),  # with a limit JAX locks the folder
}
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")  # compiles in half the time

import jax
import pytest
from PIL import Image

from dcgan_jax.config import Config

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache folder of the test run's own, for this process and those it starts."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCGAN_JAX_CACHE", str(folder))
        patch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
        yield folder


@pytest.fixture
def tiny():
    """The smallest network there is: 16x16, width 4, latent 8."""
    return Config(
        image_size=16, width=4, latent_dim=8, batch_size=4, steps=6, log_every=2, sample_every=3, checkpoint_every=3
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of 12 single-coloured 20x16 PNG files, red rising from 0 to 220, in two subfolders."""
    root = tmp_path_factory.mktemp("photos")
    for i in range(12):
        folder = root / ("even" if i % 2 == 0 else "odd")
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (20, 16), (20 * i, 40, 90)).save(folder / f"{i:02d}.png")
    return root
