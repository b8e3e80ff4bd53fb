"""The state of training, which each step updates."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state

from dcgan_jax.config import Config
from dcgan_jax.gan.networks import Discriminator, Generator, Latent, build
from dcgan_jax.gan.objectives import BCE, Objective
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.errors import InputError


def count_parameters(params: Any) -> int:
    """Count the numbers in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


class TrainState(train_state.TrainState):
    """Parameters, optimizer state and BatchNorm's running statistics of one network, and the network itself."""

    batch_stats: Any
    module: nn.Module = struct.field(pytree_node=False)

    def __repr__(self):
        return f"TrainState({type(self.module).__name__}, {count_parameters(self.params):,} parameters)"


class GANState(struct.PyTreeNode):
    """Both networks, and the number of steps taken."""

    step: jax.Array
    generator: TrainState
    discriminator: TrainState
    latent: Latent = struct.field(pytree_node=False)
    objective: Objective = struct.field(pytree_node=False)
    image_shape: tuple[int, int, int] = struct.field(pytree_node=False)

    def __repr__(self):
        return f"GANState(step={self.step}, generator={self.generator!r}, discriminator={self.discriminator!r})"


class GeneratorParams(struct.PyTreeNode):
    """All that sampling needs, as one pytree: weights, statistics, the network, the prior over z; and the step."""

    params: Any
    batch_stats: Any
    generator: nn.Module = struct.field(pytree_node=False)
    latent: Latent = struct.field(pytree_node=False)
    step: Any = None

    def __repr__(self):
        name = type(self.generator).__name__
        return f"GeneratorParams({name}, {count_parameters(self.params):,} parameters, {self.latent})"


def generator_params(state: GANState) -> GeneratorParams:
    """The part of a training state that ``sample`` needs."""
    G = state.generator
    return GeneratorParams(G.params, G.batch_stats, G.module, state.latent, state.step)


def check_key(key: jax.Array) -> None:
    """Refuse anything but a JAX random key.

    Raises:
      InputError: says how to make one.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise InputError(f"the key must be a JAX random key such as jax.random.key(0), not {repr(key)[:40]}")


def create_state(
    config: Config,
    *,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    objective: Objective = BCE,
) -> GANState:
    """The state at step 0: a pure function of its arguments, the configuration's seed included.

    Args:
      config: the run.
      generator: a network of your own in place of ``Generator``: ``generator(z, train=True)``, z
        (B, latent_dim) -> images (B, image_size, image_size, channels) in [-1, 1].
      discriminator: one in place of ``Discriminator``: ``discriminator(images, train=True)`` -> one logit
        per image, of any shape.
      objective: the losses.
    """
    cache_compilations()  # a script's second start compiles nothing
    return _create(
        jax.random.key(config.seed),
        config.learning_rate,
        generator=generator or build(Generator, config),
        discriminator=discriminator or build(Discriminator, config),
        latent=Latent(config.latent_dim, config.latent),
        objective=objective,
        image_shape=(config.image_size, config.image_size, config.channels),
        beta1=config.beta1,
    )


# Seed and learning rate are arrays here and in the state: a new value needs no new compilation.
@functools.partial(
    jax.jit, static_argnames=("generator", "discriminator", "latent", "objective", "image_shape", "beta1")
)
def _create(key, learning_rate, *, generator, discriminator, latent, objective, image_shape, beta1):
    adam = optax.inject_hyperparams(optax.adam, static_args=("b1", "b2", "eps", "eps_root"))
    tx = adam(learning_rate=0.0, b1=beta1)

    def network(module, key, x):
        variables = module.init(key, x, train=False)
        state = TrainState.create(
            apply_fn=module.apply,
            module=module,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            tx=tx,
        )
        opt_state: Any = state.opt_state
        opt_state = opt_state._replace(hyperparams={"learning_rate": jnp.float32(learning_rate)})
        # The step already has the type that a training step returns: that compiles once, not twice.
        return state.replace(step=jnp.int32(0), opt_state=opt_state)

    keys = jax.random.split(key)
    G = network(generator, keys[0], jnp.zeros((1, latent.dim)))
    D = network(discriminator, keys[1], jnp.zeros((1, *image_shape)))
    return GANState(jnp.int32(0), G, D, latent, objective, image_shape)
