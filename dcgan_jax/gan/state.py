"""The state of training, which each step updates."""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict

from dcgan_jax.config import OWN, Config
from dcgan_jax.gan.augment import probability
from dcgan_jax.gan.classes import NO_CLASSES, Classes
from dcgan_jax.gan.networks import Discriminator, Generator, Latent, apply, build
from dcgan_jax.gan.objectives import OBJECTIVES, Objective, Penalty
from dcgan_jax.gan.projected import Heads, ProjectedFeatures
from dcgan_jax.pretrained import efficientnet
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import RANDOM, random_key, usual_numbers


def count_parameters(params: Any) -> int:
    """Count the numbers in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@dataclasses.dataclass(frozen=True)
class Adam:
    """``optax.adam`` with a learning rate and a beta2 that are given at each step.

    Attributes:
      beta1: decay rate of the first moment.
      clip_norm: longer gradients are shortened to this Euclidean norm first; 0 for no limit.
    """

    beta1: float = 0.5
    clip_norm: float = 0.0

    def __call__(self, *, learning_rate: jax.Array | float, beta2: jax.Array | float) -> optax.GradientTransformation:
        adam = optax.adam(learning_rate, b1=self.beta1, b2=beta2)
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), adam) if self.clip_norm else adam


class TrainState(struct.PyTreeNode):
    """One network in training: its weights, BatchNorm's running statistics and Adam's moments.

    ``frozen`` names those of its outermost modules whose weights stay what they are.
    """

    params: Any
    batch_stats: Any
    opt_state: Any
    module: nn.Module = struct.field(pytree_node=False)
    optimizer: Adam = struct.field(pytree_node=False)
    frozen: tuple[str, ...] = struct.field(pytree_node=False, default=())

    def __call__(
        self, x: Any, *, params: Any = None, batch_stats: Any = None, train: bool = True, **arguments: Any
    ) -> tuple[jax.Array, Any]:
        """The network's output and its running statistics afterwards.

        Args:
          x: its input.
          params: in place of its own, like ``batch_stats``.
          train: as for the network; without it the statistics stay what they are.
          arguments: others that the network takes.
        """
        params = self.params if params is None else params
        batch_stats = self.batch_stats if batch_stats is None else batch_stats
        return apply(self.module, params, batch_stats, x, train=train, **arguments)

    def free(self, grads: Any) -> Any:
        """The gradients, but zero for what is frozen."""
        return {**grads, **{name: jax.tree.map(jnp.zeros_like, grads[name]) for name in self.frozen}}

    def updated(
        self, *, grads: Any, batch_stats: Any, learning_rate: jax.Array | float, beta2: jax.Array | float
    ) -> "TrainState":
        """One step of Adam, with the numbers of this step."""
        adam = self.optimizer(learning_rate=learning_rate, beta2=beta2)
        updates, opt_state = adam.update(self.free(grads), self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        return self.replace(params=params, batch_stats=batch_stats, opt_state=opt_state)

    def __repr__(self):
        return f"TrainState({type(self.module).__name__}, {count_parameters(self.params):,} parameters)"


class Hyperparameters(struct.PyTreeNode):
    """The numbers that may change during a run: float32 scalars. ``augment`` is the probability of ``augment``."""

    learning_rate_G: Any
    learning_rate_D: Any
    beta2: Any
    gamma: Any
    augment: Any


class Annealing(struct.PyTreeNode):
    """From ``start`` to ``end`` by half a cosine, while ``images`` images are seen. Constant from then on.

    If ``hyperbolic``, gamma goes on falling: it is start / (1 + images seen / h), where h makes it ``end`` after
    ``images``. All others are arrays of the state: a run with other values needs no new compilation.
    """

    start: Hyperparameters
    end: Hyperparameters
    images: Any
    hyperbolic: bool = struct.field(pytree_node=False, default=False)

    def at(self, step: jax.Array, batch_size: int) -> Hyperparameters:
        """The numbers of step ``step`` (from 0), of ``batch_size`` images."""
        share = step * jnp.float32(batch_size) / self.images
        left = (1 + jnp.cos(jnp.pi * jnp.minimum(share, 1))) / 2
        now = jax.tree.map(lambda start, end: end + left * (start - end), self.start, self.end)
        if not self.hyperbolic:
            return now
        start, end = self.start.gamma, self.end.gamma
        return now.replace(gamma=start * end / (end + share * (start - end)))


class GANState(struct.PyTreeNode):
    """Both networks, the number of steps taken, and the running average of the generator's weights.

    ``ema_half_life`` is in images, ``batch_size`` that of training.
    ``classes`` are those of a conditional run.
    """

    step: jax.Array
    generator: TrainState
    discriminator: TrainState
    ema: Any
    annealing: Annealing
    latent: Latent = struct.field(pytree_node=False)
    objective: Objective = struct.field(pytree_node=False)
    penalty: Penalty = struct.field(pytree_node=False)
    augments: bool = struct.field(pytree_node=False)
    flips: bool = struct.field(pytree_node=False)
    image_shape: tuple[int, int, int] = struct.field(pytree_node=False)
    batch_size: int = struct.field(pytree_node=False)
    ema_half_life: float = struct.field(pytree_node=False)
    classes: Classes = struct.field(pytree_node=False)

    @property
    def networks(self) -> dict[str, TrainState]:
        """Those in training, by their names here: the generator, then the discriminators."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def __repr__(self):
        networks = ", ".join(f"{name}={network!r}" for name, network in self.networks.items())
        return f"{type(self).__name__}(step={self.step}, {networks})"


class ProjectedState(GANState):
    """A state with a second discriminator, ``heads``, which sees ``features`` of the images.

    ``heads_weight`` is that of its loss in the generator's, ``heads_gamma`` its penalty's, as a multiple of gamma:
    float32 scalars.
    """

    heads: TrainState
    heads_weight: Any
    heads_gamma: Any
    features: ProjectedFeatures = struct.field(pytree_node=False)

    @property
    def networks(self) -> dict[str, TrainState]:
        return {**super().networks, "heads": self.heads}

    __repr__ = GANState.__repr__


class GeneratorParams(struct.PyTreeNode):
    """All that sampling needs, as one pytree: weights and statistics; the network, the prior over z, the step, and the
    classes of a conditional run."""

    params: Any
    batch_stats: Any
    generator: nn.Module = struct.field(pytree_node=False)
    latent: Latent = struct.field(pytree_node=False)
    step: Any = None
    classes: Classes = struct.field(pytree_node=False, default=NO_CLASSES)

    def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """The images of z, in inference mode: no image depends on the others. ``labels`` as in ``Classes.beside``."""
        return apply(self.generator, self.params, self.batch_stats, self.classes.beside(z, labels), train=False)[0]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of the images."""
        z = jax.ShapeDtypeStruct((1, self.latent.dim), jnp.float32)
        return jax.eval_shape(self, z, jax.ShapeDtypeStruct((1,), jnp.int32)).shape[1:]

    def __repr__(self):
        numbers = f"{count_parameters(self.params):,} parameters, {self.latent}, step={self.step}"
        classes = f", {len(self.classes)} classes" * bool(self.classes)
        return f"GeneratorParams({type(self.generator).__name__}, {numbers}{classes})"


def check_key(key: jax.Array) -> None:
    """Refuse anything but a JAX random key.

    Raises:
      InputError: says how to make one.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise InputError(f"the key must be a JAX random key such as jax.random.key(0), not {repr(key)[:40]}")
    if str(kind := jax.random.key_impl(key)) != RANDOM:
        raise InputError(f"the key's random numbers are {kind}: make it by jax.random.key(0, impl={RANDOM!r})")


def check_kinds(
    config: Any, *, images: Any = None, generator: Any = None, discriminator: Any = None, objective: Any = None
) -> None:
    """Refuse arguments of another type than those of ``create_state``.

    Raises:
      InputError: names the first.
    """
    if not isinstance(config, Config):
        raise InputError(f"the configuration must be a Config, such as Config(data='sprites'), not {repr(config)[:40]}")
    if images is not None and (type(images) is not int or images < 0):
        raise InputError(f"images {images!r} must be how many images there are, or None")
    for name, module in (("generator", generator), ("discriminator", discriminator)):
        if module is not None and not isinstance(module, nn.Module | str):
            raise InputError(f"the {name} must be a Flax module, such as Mine(), not {repr(module)[:40]}")
    if objective is not None and not isinstance(objective, Objective | str):
        raise InputError(f"the objective must be an Objective, not {repr(objective)[:40]}")


def with_names(config: Config, networks: dict[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Move those ``networks`` (also an objective) that are names into the configuration, where a run stores them."""
    names = {kind: given for kind, given in networks.items() if isinstance(given, str)}
    return dataclasses.replace(config, **names), {kind: x for kind, x in networks.items() if kind not in names}


def _named(config: Config, kind: str, classes: int) -> Any:
    """What the configuration names as its ``kind``, made from its settings if it is a class; None for the built-in.

    Raises:
      InputError: it cannot be imported, or is something else.
    """
    value = config.imported(kind)
    if kind == "objective":
        wanted, fits = "an Objective", isinstance(value, Objective)
    elif isinstance(value, type) and issubclass(value, nn.Module):
        return build(value, config, classes=classes)
    else:
        wanted, fits = "a Flax module or its class", isinstance(value, nn.Module)
    if value is not None and not fits:
        raise InputError(f"{kind} {getattr(config, kind)} must be {wanted}, not {repr(value)[:40]}")
    return value


@usual_numbers()
def create_state(
    config: Config,
    *,
    images: int | None = None,
    classes: Classes | None = None,
    generator: nn.Module | str | None = None,
    discriminator: nn.Module | str | None = None,
    objective: Objective | str | None = None,
) -> GANState:
    """The state at step 0: a pure function of its arguments, the configuration's seed included.

    Args:
      config: the run. The model that ``init`` names is not read here, but by ``fit``.
      images: how many there are to train on, for ``augment="auto"``, which is off without it.
      classes: those of the images, ``store.classes``, which a conditional run needs; another one ignores them.
      generator: a network of your own in place of ``Generator``: ``generator(z, train=True)``, z
        (B, latent_dim) -> images (B, *config.image_shape) in [-1, 1]. Or its name, as in ``config``.
        In a conditional run z is (B, latent_dim + classes): 1 for the image's class and 0 for others at its end.
      discriminator: one in place of ``Discriminator``: ``discriminator(images, train=True)`` -> one logit
        per image, of any shape. If its attribute ``homogeneous`` is true, a penalty costs less: see
        ``squared_gradient``. In a conditional run one logit for each class, of the shape (B, ..., classes).
      objective: losses of your own, in place of ``config.loss``.

    Raises:
      InputError: an argument has the wrong type, a network's output the wrong shape, a name cannot be imported, or
        the discriminator has BatchNorm, with which it cannot be penalised; or a conditional run gets no classes.
    """
    networks = {"generator": generator, "discriminator": discriminator, "objective": objective}
    check_kinds(config, images=images, **networks)
    config, networks = with_names(config, networks)
    classes = _classes(config, classes)
    own = {kind: networks.get(kind) or _named(config, kind, len(classes)) for kind in OWN}
    p = probability(config.augment, images)
    state = _create(
        random_key(config.seed),
        jax.tree.map(np.float32, _annealing(config, p)),
        generator=own["generator"] or build(Generator, config, classes=len(classes)),
        discriminator=own["discriminator"] or build(Discriminator, config, classes=len(classes)),
        latent=Latent(config.latent_dim, config.latent),
        objective=own["objective"] or OBJECTIVES[config.loss],
        penalty=Penalty(config.penalty in ("r1", "both"), config.penalty in ("r2", "both"), config.penalty_every),
        augments=p > 0,
        flips=config.flip,
        image_shape=config.image_shape,
        batch_size=config.batch_size,
        ema_half_life=config.ema_half_life,
        classes=classes,
        optimizer=Adam(config.beta1, config.clip_norm),
        **_second(config, len(classes)),
    )
    state = state.replace(discriminator=_partly_frozen(state.discriminator, config.freeze_layers))
    _check_penalty(config, state.discriminator.batch_stats)
    return state


def _classes(config: Config, classes: Classes | None) -> Classes:
    """Those that the run is conditional on: none if it is not."""
    if not config.conditional:
        return NO_CLASSES
    if not isinstance(classes, Classes) or len(classes) < 2:
        raise InputError(f"a conditional run needs classes=store.classes, of two classes at least, not {classes!r:.60}")
    return dataclasses.replace(classes, balanced=config.class_sampling == "balanced")


def _gamma(config: Config) -> float:
    """The squared gradient is a sum over pixels: for images that are not square the side of the square of as many."""
    height, width, _ = config.image_shape
    return config.gamma or math.sqrt(height * width) / config.batch_size


def _annealing(config: Config, p: float) -> Annealing:
    gamma = _gamma(config)
    start = Hyperparameters(
        learning_rate_G=config.learning_rate,
        learning_rate_D=config.learning_rate * config.discriminator_rate,
        beta2=config.beta2,
        gamma=gamma,
        augment=p,
    )
    end = start.replace(
        learning_rate_G=start.learning_rate_G * config.learning_rate_final,
        learning_rate_D=start.learning_rate_D * config.learning_rate_final,
        beta2=1 - (1 - config.beta2) * config.beta2_final,
        gamma=gamma * config.gamma_final,
    )
    return Annealing(start, end, config.anneal_images, config.gamma_schedule == "hyperbolic")


def _check_penalty(config: Config, batch_stats: Any) -> None:
    names = {path[-1] for path in flatten_dict(batch_stats)}
    if config.penalty != "none" and names & {"mean", "var"}:  # spectral norm has others
        raise InputError(
            f"penalty {config.penalty} needs a discriminator without BatchNorm: --discriminator-norm none or spectral, "
            "or one of your own, or --recipe classic, which has no penalty; with BatchNorm each logit depends on all "
            "images of the batch, so that none has a gradient of its own"
        )


def _partly_frozen(D: TrainState, count: int) -> TrainState:
    """A discriminator whose first blocks stay what they are.

    Raises:
      InputError: it has fewer, or does not name them.
    """
    blocks = tuple(getattr(D.module, "blocks", ()))
    if count and not blocks:
        raise InputError(
            f"freeze_layers {count} needs to know what the blocks of {type(D.module).__name__} are: give it the "
            'attribute blocks, the names of its outermost modules from the image on, such as ("Conv_0", "Conv_1")'
        )
    if count > len(blocks):
        raise InputError(f"freeze_layers {count} is more than the discriminator's {len(blocks)} blocks")
    if unknown := sorted(set(blocks) - D.params.keys()):
        raise InputError(f"the discriminator names {unknown[0]!r} among its blocks, but has no weights of that name")
    return D.replace(frozen=blocks[:count])


def _second(config: Config, classes: int) -> dict[str, Any]:
    """What ``ProjectedState`` has more than ``GANState``, if it is wanted; its network is still without weights."""
    if config.features == "none":
        return {}
    efficientnet.load(efficientnet.LITE0)  # or say at once what is missing
    heads, features = second_networks(config, classes)
    return {
        "heads": heads,
        "features": features,
        "heads_weight": np.float32(config.features_weight),
        "heads_gamma": np.float32(config.features_gamma / _gamma(config)),
    }


def second_networks(config: Config, classes: int) -> tuple[Heads, ProjectedFeatures]:
    """The second discriminator of a run with ``classes`` classes, or 0, and the features that it sees."""
    return build(Heads, config, classes=classes), build(ProjectedFeatures, config)


# The seed, what is annealed and the weights of losses are arrays here and in the state: new values need no new
# compilation.
@functools.partial(
    jax.jit,
    static_argnames=(
        *("generator", "discriminator", "latent", "objective", "penalty", "augments", "flips", "image_shape"),
        *("batch_size", "ema_half_life", "classes", "optimizer", "heads", "features"),
    ),
)
def _create(key, annealing, *, generator, discriminator, latent, image_shape, classes, optimizer, heads=None, **others):
    def network(module, key, x):
        output, variables = module.init_with_output(key, x, train=False)
        moments = optimizer(learning_rate=0.0, beta2=0.0).init(variables["params"])
        network = TrainState(variables["params"], variables.get("batch_stats", {}), moments, module, optimizer)
        return network, output.shape

    keys = jax.random.split(key)
    G, drawn = network(generator, keys[0], classes.beside(jnp.zeros((1, latent.dim)), jnp.zeros(1, jnp.int32)))
    if drawn != (1, *image_shape):
        raise InputError(f"the generator's images of one z are of the shape {drawn}, not {(1, *image_shape)}")
    D, logits = network(discriminator, keys[1], jnp.zeros((1, *image_shape)))
    many = len(classes) or 1
    if np.prod(logits) != many or (logits[-1] != many and classes):
        wanted = f"{many}, one for each class, along the last axis" if classes else "one"
        raise InputError(f"the discriminator's logits of one image are of the shape {logits}: it must give {wanted}")
    kind, others = GANState, {**others, "latent": latent, "image_shape": image_shape, "classes": classes}
    if heads:
        kind, maps = ProjectedState, jax.eval_shape(others["features"], jnp.zeros((1, *image_shape)))
        zeros = jax.tree.map(jnp.zeros_like, maps)
        others["heads"] = network(heads, jax.random.fold_in(keys[1], 1), zeros)[0]
    return kind(jnp.int32(0), G, D, G.params, annealing, **others)
