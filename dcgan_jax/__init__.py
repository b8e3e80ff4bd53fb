"""DCGAN in JAX/Flax: train on a set of images, restore, sample.

>>> from dcgan_jax import Config, fit, restore, sample
>>> fit(Config(data="photos"), "runs/photos")
>>> images = sample(restore("runs/photos"), jax.random.key(0))  # (64, 64, 64, 3) in [-1, 1]
"""

import importlib
import os
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcgan_jax.config import Config
    from dcgan_jax.gan.average import generator_params
    from dcgan_jax.gan.networks import Discriminator, DiscriminatorBlock, Generator, GeneratorBlock
    from dcgan_jax.gan.objectives import Objective
    from dcgan_jax.gan.pixels import from_uint8, to_uint8
    from dcgan_jax.gan.sampling import decode, sample, slerp
    from dcgan_jax.gan.state import create_state
    from dcgan_jax.gan.step import train_step
    from dcgan_jax.metrics.projection import project_images
    from dcgan_jax.recipes import recipe
    from dcgan_jax.run.checkpoints import restore, restore_state
    from dcgan_jax.run.classes import Classes, evaluate_classes
    from dcgan_jax.run.evaluation import Evaluation, evaluate
    from dcgan_jax.run.loop import fit
    from dcgan_jax.run.report import report
    from dcgan_jax.system.cache import cache_compilations
    from dcgan_jax.system.errors import InputError, Stopped
    from dcgan_jax.views.grid import show

# TensorFlow, which only reads images here, logs a lot unless this is set before its first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

__version__ = "0.2.0"

__all__ = [
    "Classes",
    "Config",
    "Discriminator",
    "DiscriminatorBlock",
    "Evaluation",
    "Generator",
    "GeneratorBlock",
    "InputError",
    "Objective",
    "Stopped",
    "cache_compilations",
    "create_state",
    "decode",
    "evaluate",
    "evaluate_classes",
    "fit",
    "from_uint8",
    "generator_params",
    "project_images",
    "recipe",
    "report",
    "restore",
    "restore_state",
    "sample",
    "show",
    "slerp",
    "to_uint8",
    "train_step",
]

_ROOMS = {
    "config": "Config",
    "gan.average": "generator_params",
    "gan.networks": "Discriminator DiscriminatorBlock Generator GeneratorBlock",
    "gan.objectives": "Objective",
    "gan.pixels": "from_uint8 to_uint8",
    "gan.sampling": "decode sample slerp",
    "gan.state": "create_state",
    "gan.step": "train_step",
    "metrics.projection": "project_images",
    "recipes": "recipe",
    "run.checkpoints": "restore restore_state",
    "run.classes": "Classes evaluate_classes",
    "run.evaluation": "Evaluation evaluate",
    "run.loop": "fit",
    "run.report": "report",
    "system.cache": "cache_compilations",
    "system.errors": "InputError Stopped",
    "views.grid": "show",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}


def __getattr__(name):  # PEP 562: `--help` and `import dcgan_jax` import only what they use
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Face(types.ModuleType):
    """``from dcgan_jax import evaluate`` is the function, also after the module of the command has been imported.

    Python puts each submodule into its package under its name; one of a function's name only goes to ``sys.modules``.
    """

    def __setattr__(self, name, value):
        if name not in _HOME or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face


def __dir__():
    return [*globals(), *__all__]
