"""One training step: the discriminator, then the generator through the updated discriminator."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from dcgan_jax.gan import augment
from dcgan_jax.gan.average import ema_decay
from dcgan_jax.gan.objectives import squared_gradient
from dcgan_jax.gan.pixels import from_uint8
from dcgan_jax.gan.state import GANState, check_key
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import compiler_options, usual_numbers

_NO_STEP = 2**31  # a number that no step has: augmentation draws from another stream than z


@usual_numbers()
def train_step(
    state: GANState, images: jax.Array, key: jax.Array, *, deterministic: bool = False
) -> tuple[GANState, dict[str, jax.Array]]:
    """Update both networks once (d2l, section DCGAN: ``update_D``, ``update_G``).

    Real and generated images pass through the discriminator as two batches, each normalised by its
    own statistics. Running statistics change, as in pytorch/examples, with every forward pass in
    training mode: the generator's once, the discriminator's three times (real, generated, generated
    again through the updated weights; then real again, if the objective is paired).

    Args:
      state: donated; do not use it after the call.
      images: (B, H, W, C), uint8, or floats in [-1, 1]; on a mesh of several devices, split along its axis "data".
      key: the run's key; ``state.step`` is folded in here, so that the noise of a step depends on
        nothing that an interruption could lose.
      deterministic: on GPUs, the same bits at every run, and possibly slower. CPUs always compute the same.

    Returns:
      The new state and scalar metrics: ``loss_D``, ``loss_G``, ``D_x`` (mean probability, by
      D, that real images are real), ``D_G_z1`` and ``D_G_z2`` (the same for generated ones, before
      and after D's update), ``grad_norm_D``, ``grad_norm_G`` (Euclidean, over all weights), and ``penalty``, where
      there is one: what is added to ``loss_D``, γ/2 times the squared gradients.

    Raises:
      InputError: the images or the key are not of this kind; their range is looked at once for each shape.
    """
    check_key(key)
    _check_images(images, state)
    return compiled_step(**_options(state, deterministic))(state, images, key)


@usual_numbers()
def train_steps(
    state: GANState, batches: Sequence[jax.Array], key: jax.Array, *, at_most: int, deterministic: bool = False
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


def _options(state, deterministic):
    devices = state.step.sharding.device_set
    return compiler_options(next(iter(devices)).platform, devices=len(devices), deterministic=deterministic)


_seen: set[tuple] = set()


def _check_images(images, state):
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise InputError(f"images must be an array, not {repr(images)[:40]}")
    kind = images.shape, str(images.dtype), state.image_shape
    if kind in _seen:  # the device is not waited for at every step
        return
    if images.shape[1:] != state.image_shape or not len(images):
        raise InputError(f"images must be of the shape (batch, *{state.image_shape}), not {images.shape}")
    if images.dtype == jnp.uint8:
        return
    low, high = float(images.min()), float(images.max())
    if not jnp.issubdtype(images.dtype, jnp.floating) or not -1 <= low <= high <= 1:
        raise InputError(
            f"images must be uint8, or floats in [-1, 1], as from_uint8 makes them, "
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

    return jax.lax.scan(one, state, (jnp.arange(len(batches)), jnp.stack(batches)))


def step(state: GANState, images: jax.Array, key: jax.Array) -> tuple[GANState, dict[str, jax.Array]]:
    """``train_step`` without its checks, not compiled."""
    G, D, objective, penalty = state.generator, state.discriminator, state.objective, state.penalty
    now = state.annealing.at(state.step, images.shape[0])
    z, keys = _drawn(state, images, key)
    real = _floats(state, images, keys[4])

    def augmented(x, i):
        return augment.augment(keys[i], x, now.augment) if state.augments else x

    def punished(judge, x, i, wanted):  # the logits of x and how D changes; and how steep D is there
        due = wanted and penalty.due(state.step)
        return squared_gradient(
            judge, x, augment=lambda x: augmented(x, i), due=due, homogeneous=getattr(D.module, "homogeneous", False)
        )

    fake, _ = G(z)

    def d_loss(params):
        judge = functools.partial(D, params=params)
        real_logits, stats, r1 = punished(judge, real, 0, penalty.real)
        fake_logits, stats, r2 = punished(functools.partial(judge, batch_stats=stats), fake, 1, penalty.fake)
        loss = objective.discriminator(real_logits, fake_logits)
        weighed = penalty.every * now.gamma / 2 * r1 + penalty.every * now.gamma / 2 * r2
        return loss + weighed, (loss, weighed, stats, real_logits, fake_logits)

    d_grads, (loss_D, weighed, stats, real_logits, fake_logits) = jax.grad(d_loss, has_aux=True)(D.params)
    D = D.updated(grads=d_grads, batch_stats=stats, learning_rate=now.learning_rate_D, beta2=now.beta2)

    def g_loss(params):
        fake, g_stats = G(z, params=params)  # the pass above, which XLA recognises and does not repeat
        logits, d_stats = D(augmented(fake, 2))
        if not objective.paired:
            return objective.generator(logits), (g_stats, d_stats, logits)
        real_logits, d_stats = D(augmented(real, 3), batch_stats=d_stats)
        return objective.generator(logits, real_logits), (g_stats, d_stats, logits)

    (loss_G, (g_stats, d_stats, logits)), g_grads = jax.value_and_grad(g_loss, has_aux=True)(G.params)
    G = G.updated(grads=g_grads, batch_stats=g_stats, learning_rate=now.learning_rate_G, beta2=now.beta2)
    decay = ema_decay(state.step + 1, batch_size=images.shape[0], half_life=state.ema_half_life)

    metrics = {
        "loss_D": loss_D,
        "loss_G": loss_G,
        "D_x": jax.nn.sigmoid(real_logits).mean(),
        "D_G_z1": jax.nn.sigmoid(fake_logits).mean(),
        "D_G_z2": jax.nn.sigmoid(logits).mean(),
        "grad_norm_D": optax.tree.norm(d_grads),
        "grad_norm_G": optax.tree.norm(g_grads),
        **({"penalty": weighed} if penalty.real or penalty.fake else {}),
    }
    return state.replace(
        step=state.step + 1,
        generator=G,
        discriminator=D.replace(batch_stats=d_stats),
        ema=jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, state.ema, G.params),
    ), metrics


def _drawn(state, images, key):
    """The noise of a step, and five keys: four of augmentation, in the order of the passes through D, one of flips."""
    z = state.latent.draw(jax.random.fold_in(key, state.step), images.shape[0])
    if not (mesh := jax.typeof(images).sharding.mesh).empty:
        # Left to itself XLA lets every device generate the whole batch.
        z = jax.lax.with_sharding_constraint(z, NamedSharding(mesh, PartitionSpec("data")))
    return z, jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _NO_STEP), state.step), 5)


def _floats(state, images, key):
    """Real images in [-1, 1], mirrored at random where the run wants that."""
    if images.dtype == jnp.uint8:
        images = jnp.asarray(from_uint8(images))
    return augment.flip(key, images) if state.flips else images
