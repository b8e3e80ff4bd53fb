"""DCGAN in JAX/Flax: train on a set of images, restore, sample.

>>> from dcgan_jax import restore, sample
>>> images = sample(restore("runs/"), jax.random.key(0))
"""

import importlib
import os

# TensorFlow, which only reads images here, is noisy unless told so before its first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

__version__ = "0.1.0"

_HOME = {
    "Config": "config",
    "Generator": "gan.networks",
    "Discriminator": "gan.networks",
    "train": "run.loop",
    "create_state": "gan.state",
    "train_step": "gan.step",
    "sample": "gan.sampling",
    "restore": "run.checkpoints",
}
__all__ = sorted(_HOME)


def __getattr__(name):  # PEP 562: `--help` and `import dcgan_jax` pay for nothing they do not use
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
