"""DCGAN in JAX/Flax: train on a set of images, restore, sample.

>>> from dcgan_jax import Config, fit, restore, sample
>>> fit(Config(data="photos"), "runs/photos")
>>> images = sample(restore("runs/photos"), jax.random.key(0))  # (64, 64, 64, 3) in [-1, 1]
"""

import ast
import importlib
import importlib.resources
import os
import sys
import types

# TensorFlow, which only reads images here, logs a lot unless this is set before its first import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

__version__ = "0.2.0"

# The stub lists the public names, for editors and type checkers. They are imported when they are first used
# (https://scientific-python.org/specs/spec-0001): `--help` and `import dcgan_jax` answer at once.
_STUB = ast.parse(importlib.resources.files(__name__).joinpath("__init__.pyi").read_text(encoding="utf-8"))
_HOME = {line.names[0].name: f"{__name__}.{line.module}" for line in _STUB.body if isinstance(line, ast.ImportFrom)}
__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll] - it reads the stub


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]


class _Face(types.ModuleType):
    """``from dcgan_jax import evaluate`` is the function, also after the module of the command has been imported.

    Python puts each submodule into its package under its name; one of a function's name only goes to ``sys.modules``.
    """

    def __setattr__(self, name, value):
        if name not in _HOME or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
