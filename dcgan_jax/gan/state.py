"""The state of training, which each step updates."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.training import train_state

from dcgan_jax.config import Config
from dcgan_jax.gan.augment import probability
from dcgan_jax.gan.networks import Discriminator, Generator, Latent, build
from dcgan_jax.gan.objectives import OBJECTIVES, Objective, Penalty
from dcgan_jax.system.cache import cache_compilations
from dcgan_jax.system.errors import InputError


def count_parameters(params: Any) -> int:
    """Count the numbers in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


class TrainState(train_state.TrainState):
    """Parameters, optimizer state and BatchNorm's running statistics of one network, and the network itself."""

    batch_stats: Any
    module: nn.Module = struct.field(pytree_node=False)

    def updated(self, *, grads: Any, batch_stats: Any, learning_rate: jax.Array, beta2: jax.Array) -> "TrainState":
        """One step of Adam, with the numbers of this step."""
        opt_state: Any = self.opt_state
        opt_state = opt_state._replace(hyperparams={"learning_rate": learning_rate, "b2": beta2})
        return self.replace(opt_state=opt_state).apply_gradients(grads=grads, batch_stats=batch_stats)

    def __repr__(self):
        return f"TrainState({type(self.module).__name__}, {count_parameters(self.params):,} parameters)"


class GANState(struct.PyTreeNode):
    """Both networks, the number of steps taken, and the running average of the generator's weights.

    ``settings`` has a value for the start and one for the end of annealing, float32 (2,), for each number that may
    change, and ``anneal_images``. ``ema_half_life`` is in images, ``batch_size`` that of training.
    """

    step: jax.Array
    generator: TrainState
    discriminator: TrainState
    ema: Any
    settings: dict[str, jax.Array]
    latent: Latent = struct.field(pytree_node=False)
    objective: Objective = struct.field(pytree_node=False)
    penalty: Penalty = struct.field(pytree_node=False)
    augments: bool = struct.field(pytree_node=False)
    flips: bool = struct.field(pytree_node=False)
    image_shape: tuple[int, int, int] = struct.field(pytree_node=False)
    batch_size: int = struct.field(pytree_node=False)
    ema_half_life: float = struct.field(pytree_node=False)

    def current(self, images: int) -> dict[str, jax.Array]:
        """The numbers of this step, of ``images`` images: annealed by half a cosine from start to end."""
        share = jnp.minimum(self.step * jnp.float32(images) / self.settings["anneal_images"], 1)
        left = (1 + jnp.cos(jnp.pi * share)) / 2
        pairs = {name: pair for name, pair in self.settings.items() if pair.ndim}
        return {name: end + left * (start - end) for name, (start, end) in pairs.items()}

    def __repr__(self):
        return f"GANState(step={self.step}, generator={self.generator!r}, discriminator={self.discriminator!r})"


class GeneratorParams(struct.PyTreeNode):
    """All that sampling needs, as one pytree: weights and statistics; the network and the prior over z; the step."""

    params: Any
    batch_stats: Any
    generator: nn.Module = struct.field(pytree_node=False)
    latent: Latent = struct.field(pytree_node=False)
    step: Any = None

    def __repr__(self):
        name = type(self.generator).__name__
        return f"GeneratorParams({name}, {count_parameters(self.params):,} parameters, {self.latent}, step={self.step})"


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
    images: int | None = None,
    generator: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    objective: Objective | None = None,
) -> GANState:
    """The state at step 0: a pure function of its arguments, the configuration's seed included.

    Args:
      config: the run.
      images: how many there are to train on, for ``augment="auto"``, which is off without it.
      generator: a network of your own in place of ``Generator``: ``generator(z, train=True)``, z
        (B, latent_dim) -> images (B, image_size, image_size, channels) in [-1, 1].
      discriminator: one in place of ``Discriminator``: ``discriminator(images, train=True)`` -> one logit
        per image, of any shape. If its attribute ``homogeneous`` is true, a penalty costs less: see
        ``squared_gradient``.
      objective: losses of your own, in place of ``config.loss``.
    """
    cache_compilations()  # a script's second start compiles nothing
    p = probability(config.augment, images)
    rates = {"G": config.learning_rate, "D": config.learning_rate * config.discriminator_rate}
    gamma = config.gamma or config.image_size / config.batch_size
    pairs = {
        **{f"learning_rate_{name}": (rate, rate * config.learning_rate_final) for name, rate in rates.items()},
        "beta2": (config.beta2, 1 - (1 - config.beta2) * config.beta2_final),
        "gamma": (gamma, gamma * config.gamma_final),
        "augment": (p, p),
    }
    settings = {name: np.array(pair, np.float32) for name, pair in pairs.items()}
    return _create(
        jax.random.key(config.seed),
        {**settings, "anneal_images": np.float32(config.anneal_images)},
        generator=generator or build(Generator, config),
        discriminator=discriminator or build(Discriminator, config),
        latent=Latent(config.latent_dim, config.latent),
        objective=objective or OBJECTIVES[config.loss],
        penalty=Penalty(config.penalty in ("r1", "both"), config.penalty in ("r2", "both"), config.penalty_every),
        augments=p > 0,
        flips=config.flip,
        image_shape=(config.image_size, config.image_size, config.channels),
        batch_size=config.batch_size,
        ema_half_life=config.ema_half_life,
        beta1=config.beta1,
        clip_norm=config.clip_norm,
    )


# The seed and the settings are arrays here and in the state: new values need no new compilation.
@functools.partial(
    jax.jit,
    static_argnames=(
        *("generator", "discriminator", "latent", "objective", "penalty", "augments", "flips", "image_shape"),
        *("batch_size", "ema_half_life", "beta1", "clip_norm"),
    ),
)
def _create(key, settings, *, generator, discriminator, latent, image_shape, beta1, clip_norm, **constants):
    def optimizer(learning_rate, b2):
        adam = optax.adam(learning_rate, b1=beta1, b2=b2)
        return optax.chain(optax.clip_by_global_norm(clip_norm), adam) if clip_norm else adam

    tx = optax.inject_hyperparams(optimizer)(learning_rate=0.0, b2=0.0)

    def network(module, key, x, name):
        variables = module.init(key, x, train=False)
        state = TrainState.create(
            apply_fn=module.apply,
            module=module,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            tx=tx,
        )
        opt_state: Any = state.opt_state
        hyperparams = {"learning_rate": settings[f"learning_rate_{name}"][0], "b2": settings["beta2"][0]}
        # The step already has the type that a training step returns: that compiles once, not twice.
        return state.replace(step=jnp.int32(0), opt_state=opt_state._replace(hyperparams=hyperparams))

    keys = jax.random.split(key)
    G = network(generator, keys[0], jnp.zeros((1, latent.dim)), "G")
    D = network(discriminator, keys[1], jnp.zeros((1, *image_shape)), "D")
    return GANState(jnp.int32(0), G, D, G.params, settings, latent=latent, image_shape=image_shape, **constants)
