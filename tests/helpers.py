"""What several test files share."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data.store import open_store
from dcgan_jax.gan.classes import NO_CLASSES
from dcgan_jax.gan.networks import Generator, Latent
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.run.folder import RunFolder


def start(*arguments, variables=None, **options):
    """A Python of its own, with the arguments of ``python`` and some more environment variables, as a ``Popen``."""
    command, environment = [sys.executable, *map(str, arguments)], {**os.environ, **(variables or {})}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, **{"env": environment, "stdout": pipe, "stderr": pipe, "text": True, **options})


def python(*arguments, input=None, **options):
    """The same, as a ``CompletedProcess``: at its end, with what it said. ``input`` is what it reads."""
    stdin = {} if input is None else {"stdin": subprocess.PIPE}
    with start(*arguments, **stdin, **options) as process:
        try:
            said, errors = process.communicate(input, timeout=300)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, said, errors)


def on_devices(number):
    """The environment variables that make ``number`` devices of the CPU."""
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={number}"}


_compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: _compiled.append(1) if event == "/jax/core/compile/backend_compile_duration" else None
)


def compilations():
    """How many programs JAX has compiled in this process, or taken from its cache on disk."""
    return len(_compiled)


def prepared(data, cache, **changes):
    """The store of what ``Config.data`` may name, 16x16 RGB unless changed."""
    return open_store(Config(**{"data": str(data), "image_size": 16, **changes}), cache=cache)


def metrics_of(workdir):
    """The lines of a run's metrics.jsonl."""
    return RunFolder(workdir).read_metrics()


def equal(a, b):
    """Whether two trees hold the same arrays, bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


class Even(nn.Module):
    """A generator of one colour, 0.25 everywhere, which compiles at once."""

    @nn.compact
    def __call__(self, z, *, train):
        nn.BatchNorm(use_running_average=not train)(z)
        return jnp.full((len(z), 16, 16, 3), 0.25) * self.param("one", nn.initializers.ones, ())


class Sum(nn.Module):
    """A discriminator whose logit is a sum of the pixels with weights that grow to the right and downwards."""

    @nn.compact
    def __call__(self, x, *, train):
        places = jnp.linspace(0, 2, 16 * 16 * 3).reshape(1, 16, 16, 3)
        across = jnp.linspace(-1, 1, 16).reshape(1, 1, 16, 1)
        return (x * (places + across)).mean((1, 2, 3)) * self.param("one", nn.initializers.ones, ())


def some_generator(latent="normal", latent_dim=8, classes=NO_CLASSES, **options):
    """A generator with numbers of the size that they have after training: pictures with contrast."""
    network, numbers_in = Generator(latent_dim=latent_dim, classes=len(classes), **options), latent_dim + len(classes)
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, numbers_in)), train=False))
    rng = np.random.default_rng(0)

    def numbers(path, leaf):
        kind, noise = path[-1].key, rng.standard_normal(leaf.shape, np.float32)
        if kind == "kernel":
            return noise / np.sqrt(2 * leaf.shape[3 if leaf.ndim == 4 else 0], dtype=np.float32)
        return 1 + 0.3 * np.tanh(noise) if kind in ("scale", "var") else 0.3 * noise

    leaves = jax.tree_util.tree_map_with_path(numbers, shapes)
    return GeneratorParams(**leaves, generator=network, latent=Latent(latent_dim, latent), step=7, classes=classes)
