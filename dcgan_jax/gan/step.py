"""One training step: the discriminator, then the generator through the updated discriminator."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from dcgan_jax.gan import augment
from dcgan_jax.gan.average import ema_decay
from dcgan_jax.gan.objectives import squared_gradient
from dcgan_jax.gan.pixels import from_pixels
from dcgan_jax.gan.state import GANState, ProjectedState, TrainState, check_key
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import compiler_options, usual_numbers


class Batch(NamedTuple):
    """Images (B, H, W, C) and the classes that they are of, int32 (B,): what a conditional state is trained with."""

    images: jax.Array
    labels: jax.Array


_NO_STEP = 2**31  # a number that no step has: augmentation draws from another stream than z


@usual_numbers()
def train_step(
    state: GANState, images: jax.Array | Batch, key: jax.Array, *, deterministic: bool = False
) -> tuple[GANState, dict[str, jax.Array]]:
    """Update both networks once (d2l, section DCGAN: ``update_D``, ``update_G``).

    Real and generated images pass through the discriminator as two batches, each normalised by its
    own statistics. Running statistics change, as in pytorch/examples, with every forward pass in
    training mode: the generator's once, the discriminator's three times (real, generated, generated
    again through the updated weights; then real again, if the objective is paired).

    Args:
      state: donated; do not use it after the call.
      images: (B, H, W, C), uint8, uint16, or floats in [-1, 1]; on a mesh of several devices, split along its axis
        "data". For a conditional state the pair of them and their labels, int32 (B,). The generated images get the same
        labels.
      key: the run's key; ``state.step`` is folded in here, so that the noise of a step depends on
        nothing that an interruption could lose.
      deterministic: on GPUs, the same bits at every run, and possibly slower. CPUs always compute the same.

    Returns:
      The new state and scalar metrics: ``loss_D``, ``loss_G``, ``D_x`` (mean probability, by
      D, that real images are real), ``D_G_z1`` and ``D_G_z2`` (the same for generated ones, before
      and after D's update), ``grad_norm_D``, ``grad_norm_G`` (Euclidean, over all weights), and ``penalty``, where
      there is one: what is added to ``loss_D``, γ/2 times the squared gradients. Those of a second discriminator,
      which sees features, end in ``_heads``; ``grad_norm_G`` is that of both discriminators' losses together.

    Raises:
      InputError: the images or the key are not of this kind; their range is looked at once for each shape.
    """
    check_key(key)
    _check_images(images, state)
    return compiled_step(**_options(state, deterministic))(state, images, key)


@usual_numbers()
def train_steps(
    state: GANState, batches: Sequence[jax.Array | Batch], key: jax.Array, *, at_most: int, deterministic: bool = False
) -> tuple[GANState, dict[str, jax.Array]]:
    """Several steps, sent to the device at once: ``train_step`` with each of ``batches``, up to rounding.

    It pays where a step takes less time than sending it: small batches on GPUs. Each call runs the same program, of
    ``at_most`` steps; the results of those beyond ``batches`` are thrown away. So it changes no bit how steps are
    grouped.

    Returns:
      The new state, and metrics of the shape (at_most,), of which the first ``len(batches)`` count.
    """
    check_key(key)
    if not 1 <= len(batches) <= at_most:
        raise ValueError(f"{len(batches)} batches for 1 to {at_most} steps")
    for images in batches:
        _check_images(images, state)
    padded = (*batches, *[batches[0]] * (at_most - len(batches)))
    return compiled_step(several=True, **_options(state, deterministic))(state, padded, key, np.int32(len(batches)))


@usual_numbers()
def compile_step(state: Any, images: Any, key: jax.Array, *, at_most: int = 1, deterministic: bool = False) -> None:
    """Compile ``train_step``, or ``train_steps`` if ``at_most`` is more than 1, so that its first call does not.

    Args:
      state: of the run; shapes with shardings, ``jax.ShapeDtypeStruct``, are enough, like for ``images``, a batch.
    """
    options = _options(state, deterministic)
    if at_most == 1:
        compiled_step(**options).lower(state, images, key).compile()
    else:
        compiled_step(several=True, **options).lower(state, (images,) * at_most, key, np.int32(1)).compile()


def _options(state, deterministic):
    devices = state.step.sharding.device_set
    return compiler_options(next(iter(devices)).platform, devices=len(devices), deterministic=deterministic)


_seen: set[tuple] = set()


def _check_images(images: Any, state: GANState) -> None:
    labels: Any = None
    if state.classes:
        if not isinstance(images, tuple) or len(images) != 2:
            raise InputError(
                "a conditional state is trained with images and labels, (images, labels), as batches yields"
            )
        images, labels = images
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise InputError(f"images must be an array, not {repr(images)[:40]}")
    kind = images.shape, str(images.dtype), state.image_shape, getattr(labels, "shape", None), len(state.classes)
    if kind in _seen:  # the device is not waited for at every step
        return
    if images.shape[1:] != state.image_shape or not len(images):
        raise InputError(f"images must be of the shape (batch, *{state.image_shape}), not {images.shape}")
    if state.classes and (getattr(labels, "shape", ()) != images.shape[:1] or labels.dtype != jnp.int32):
        raise InputError(f"labels must be int32 of the shape ({len(images)},), one for each image")
    if images.dtype in (jnp.uint8, jnp.uint16):
        return
    low, high = float(images.min()), float(images.max())
    if not jnp.issubdtype(images.dtype, jnp.floating) or not -1 <= low <= high <= 1:
        raise InputError(
            f"images must be uint8 or uint16, or floats in [-1, 1], as from_uint8 makes them, "
            f"not {images.dtype} in [{low:g}, {high:g}]"
        )
    _seen.add(kind)


@functools.cache
def compiled_step(*, several: bool = False, **options: bool | int | str) -> Callable:
    """``train_step``, or ``train_steps``, without checks, as a jitted function that is compiled with these options."""
    return jax.jit(_steps if several else step, donate_argnames="state", compiler_options=options)


def _steps(state, batches, key, count):
    def one(state, numbered):
        number, images = numbered
        new, metrics = step(state, images, key)
        return jax.tree.map(lambda new, old: jnp.where(number < count, new, old), new, state), metrics

    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *batches)
    return jax.lax.scan(one, state, (jnp.arange(len(batches)), stacked))


def step(state: GANState, images: Any, key: jax.Array) -> tuple[GANState, dict[str, jax.Array]]:
    """``train_step`` without its checks, not compiled."""
    images, labels = images if state.classes else (images, None)
    G, now = state.generator, state.annealing.at(state.step, images.shape[0])
    z, keys = _drawn(state, images, key)
    real, z = _floats(state, images, keys[4]), state.classes.beside(z, labels)
    fake, pull_to_params, g_stats = jax.vjp(lambda params: G(z, params=params), G.params, has_aux=True)

    critics = _critics(state, now, keys, labels)
    judged = {name: _judged(critic, real, fake, state, now) for name, critic in critics.items()}

    (g_grads,) = pull_to_params(functools.reduce(jnp.add, [gradient for _, _, gradient in judged.values()]))
    G = G.updated(grads=g_grads, batch_stats=g_stats, learning_rate=now.learning_rate_G, beta2=now.beta2)
    decay = ema_decay(state.step + 1, batch_size=images.shape[0], half_life=state.ema_half_life)
    return state.replace(
        step=state.step + 1,
        generator=G,
        **{name: network for name, (network, _, _) in judged.items()},
        ema=jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, state.ema, G.params),
    ), {
        **_named({name: metrics for name, (_, metrics, _) in judged.items()}),
        "grad_norm_G": optax.tree.norm(g_grads),
    }


class _Critic(NamedTuple):
    """A discriminator, and what it is shown of images: ``augment(see(images, i), j)``.

    i is 0 for the real, 1 for the generated images. j is 0 and 1 for these in its own update; in the generator's it is
    2 for the generated and 3 for the real images. ``gamma`` weighs the penalty, whose gradient is that with respect to
    ``see(images, i)``, and ``weight`` its loss in the generator's. ``choose`` picks from the logits of all classes
    those of the images' own.
    """

    network: TrainState
    gamma: jax.Array
    weight: jax.Array | float = 1.0
    see: Callable[[jax.Array, int], Any] = lambda x, i: x
    augment: Callable[[Any, int], Any] = lambda x, j: x
    choose: Callable[[jax.Array], jax.Array] = lambda logits: logits

    def judge(self, D, x, **options):
        """The logits that D, this network or a later state of it, gives, and its running statistics afterwards."""
        logits, stats = D(x, **options)
        return self.choose(logits), stats


def _critics(state, now, keys, labels):
    """The discriminators by their names in the state: one sees images, the other, if there is one, features of them."""

    def augmented(x, i):
        return augment.augment(keys[i], x, now.augment) if state.augments else x

    critics = {"discriminator": _Critic(state.discriminator, now.gamma, augment=augmented)}
    if isinstance(state, ProjectedState):
        gamma, weight = state.heads_gamma * now.gamma, state.heads_weight
        critics["heads"] = _Critic(state.heads, gamma, weight, see=lambda x, i: state.features(augmented(x, i)))
    if not state.classes:
        return critics
    choose = functools.partial(state.classes.chosen, labels=labels)  # pairs of a real and a generated image share them
    return {name: critic._replace(choose=choose) for name, critic in critics.items()}


def _judged(critic, real, fake, state, now):
    """A discriminator after its update; its metrics; and the gradient of the generator's loss by it, of the generated
    images."""
    real = critic.see(real, 0)
    fake, pull_to_images = jax.vjp(lambda x: critic.see(x, 1), fake)
    D, metrics = _updated(critic, real, fake, state, now)
    g_loss = functools.partial(_g_loss, critic=critic, D=D, real=real, objective=state.objective)
    (loss, (stats, logits)), gradient = jax.value_and_grad(g_loss, has_aux=True)(fake)
    (gradient,) = pull_to_images(jax.tree.map(lambda g: (critic.weight * g).astype(g.dtype), gradient))
    metrics |= {"loss_G": loss, "D_G_z2": jax.nn.sigmoid(logits).mean()}
    return D.replace(batch_stats=stats), metrics, gradient


def _updated(critic, real, fake, state, now):
    """A discriminator after its update with what it sees of real and generated images, and its metrics."""
    D, objective, penalty = critic.network, state.objective, state.penalty

    def punished(judge, x, j, wanted):  # the logits of x, D's statistics, and the penalty: 0 if it is not wanted
        return squared_gradient(
            judge,
            x,
            augment=lambda x: critic.augment(x, j),
            due=wanted and penalty.due(state.step),
            homogeneous=getattr(D.module, "homogeneous", False),
        )

    def d_loss(params):
        judge = functools.partial(critic.judge, D, params=params)
        real_logits, stats, r1 = punished(judge, real, 0, penalty.real)
        fake_logits, stats, r2 = punished(functools.partial(judge, batch_stats=stats), fake, 1, penalty.fake)
        loss = objective.discriminator(real_logits, fake_logits)
        weighed = penalty.every * critic.gamma / 2 * r1 + penalty.every * critic.gamma / 2 * r2
        return loss + weighed, (loss, weighed, stats, real_logits, fake_logits)

    grads, (loss, weighed, stats, real_logits, fake_logits) = jax.grad(d_loss, has_aux=True)(D.params)
    D = D.updated(grads=grads, batch_stats=stats, learning_rate=now.learning_rate_D, beta2=now.beta2)
    return D, {
        "loss_D": loss,
        "D_x": jax.nn.sigmoid(real_logits).mean(),
        "D_G_z1": jax.nn.sigmoid(fake_logits).mean(),
        "grad_norm_D": optax.tree.norm(D.free(grads)),
        **({"penalty": weighed} if penalty.real or penalty.fake else {}),
    }


def _g_loss(fake, *, critic, D, real, objective):
    """The generator's loss by one discriminator, of what that sees; its running statistics; and the generated images'
    logits."""
    logits, stats = critic.judge(D, critic.augment(fake, 2))
    if not objective.paired:
        return objective.generator(logits), (stats, logits)
    real_logits, stats = critic.judge(D, critic.augment(real, 3), batch_stats=stats)
    return objective.generator(logits, real_logits), (stats, logits)


def _named(metrics):
    """The metrics of all discriminators in one dictionary: those of the second have its name at their end."""
    first = metrics.pop("discriminator")
    return first | {f"{key}_{name}": value for name, values in metrics.items() for key, value in values.items()}


def _drawn(state, images, key):
    """The noise of a step, and five keys: four of augmentation, in the order of the passes through D, one of flips."""
    z = state.latent.draw(jax.random.fold_in(key, state.step), images.shape[0])
    if not (mesh := jax.typeof(images).sharding.mesh).empty:
        # Left to itself XLA lets every device generate the whole batch.
        z = jax.lax.with_sharding_constraint(z, NamedSharding(mesh, PartitionSpec("data")))
    return z, jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _NO_STEP), state.step), 5)


def _floats(state, images, key):
    """Real images in [-1, 1], mirrored at random where the run wants that."""
    if images.dtype in (jnp.uint8, jnp.uint16):
        images = jnp.asarray(from_pixels(images))
    return augment.flip(key, images) if state.flips else images
