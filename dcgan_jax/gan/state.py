"""What training carries from step to step."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.training import train_state

from dcgan_jax.config import Config
from dcgan_jax.gan.networks import Discriminator, Generator, Latent


class TrainState(train_state.TrainState):
    """Parameters, optimizer state and BatchNorm's running statistics of one network."""

    batch_stats: Any


class GANState(struct.PyTreeNode):
    """Both networks, and the number of steps taken."""

    step: jax.Array
    generator: TrainState
    discriminator: TrainState
    latent: Latent = struct.field(pytree_node=False)


class GeneratorParams(struct.PyTreeNode):
    """All that sampling needs, as one pytree: weights, running statistics, and the prior over z."""

    params: Any
    batch_stats: Any
    latent: Latent = struct.field(pytree_node=False)


def generator_params(state: GANState) -> GeneratorParams:
    """The part of a training state that ``sample`` needs."""
    return GeneratorParams(state.generator.params, state.generator.batch_stats, state.latent)


@functools.partial(jax.jit, static_argnames="config")
def create_state(config: Config) -> GANState:
    """The state at step 0: a pure function of the configuration, its seed included."""
    dtype = jnp.bfloat16 if config.precision == "bf16" else jnp.float32
    generator = Generator(
        latent_dim=config.latent_dim,
        width=config.width,
        image_size=config.image_size,
        channels=config.channels,
        batchnorm_scale_mean=config.batchnorm_scale_mean,
        dtype=dtype,
    )
    discriminator = Discriminator(
        width=config.width,
        image_size=config.image_size,
        first_batchnorm=config.first_batchnorm,
        leaky_slope=config.leaky_slope,
        batchnorm_scale_mean=config.batchnorm_scale_mean,
        dtype=dtype,
    )

    def network(model, key, x):
        variables = model.init(key, x, train=False)
        return TrainState.create(
            apply_fn=model.apply,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            tx=optax.adam(config.learning_rate, b1=config.beta1),
        ).replace(step=jnp.int32(0))  # typed as it is after a step, which is then compiled once, not twice

    size = config.image_size
    inputs = jnp.zeros((1, config.latent_dim)), jnp.zeros((1, size, size, config.channels))
    keys = jax.random.split(jax.random.key(config.seed))
    networks = map(network, (generator, discriminator), keys, inputs)
    return GANState(jnp.int32(0), *networks, Latent(config.latent_dim, config.latent))
