"""One training step: the discriminator, then the generator through the updated discriminator."""

import functools
from collections.abc import Sequence

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
from dcgan_jax.system.xla import compiler_options

_NO_STEP = 2**31  # a number that no step has: augmentation draws from another stream than z


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


def train_steps(
    state: GANState, batches: Sequence[jax.Array], key: jax.Array, *, at_most: int, deterministic: bool = False
) -> tuple[GANState, dict[str, jax.Array]]:
    """Several steps, sent to the device at once: ``train_step`` with each of ``batches``, up to rounding.

    It pays where a step takes less time than sending it: small batches on GPUs. It always computes ``at_most`` steps
    and throws away those beyond the batches, so that how steps are grouped changes no bit.

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
    kind = images.shape, str(images.dtype), state.image_shape
    if kind in _seen:  # the device is not waited for at every step
        return
    if images.shape[1:] != state.image_shape:
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
def compiled_step(*, several: bool = False, **options: bool | int | str):
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
    G, D, now = state.generator, state.discriminator, state.current(images.shape[0])
    objective, penalty = state.objective, state.penalty
    z = state.latent.draw(jax.random.fold_in(key, state.step), images.shape[0])
    if not (mesh := jax.typeof(images).sharding.mesh).empty:
        # Left to itself XLA lets every device generate the whole batch.
        z = jax.lax.with_sharding_constraint(z, NamedSharding(mesh, PartitionSpec("data")))
    if images.dtype == jnp.uint8:
        images = jnp.asarray(from_uint8(images))
    keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _NO_STEP), state.step), 5)
    if state.flips:
        images = augment.flip(keys[4], images)

    def generate(g_params):
        fake, new = G.apply_fn(
            {"params": g_params, "batch_stats": G.batch_stats}, z, train=True, mutable=["batch_stats"]
        )
        return fake, new["batch_stats"]

    def augmented(x, key):
        return augment.augment(key, x, now["augment"]) if state.augments else x

    def judge(d_params, batch_stats, x, **bias_scale):
        variables = {"params": d_params, "batch_stats": batch_stats}
        logits, new = D.apply_fn(variables, x, train=True, mutable=["batch_stats"], **bias_scale)
        return logits, new.get("batch_stats", {})

    def judge_and_penalize(d_params, batch_stats, x, *, key, wanted):
        if not wanted:
            return *judge(d_params, batch_stats, augmented(x, key)), 0.0
        logits, new, steepness = squared_gradient(
            functools.partial(judge, d_params, batch_stats),
            x,
            augment=functools.partial(augmented, key=key),
            due=True if penalty.every == 1 else state.step % penalty.every == 0,
            homogeneous=getattr(D.module, "homogeneous", False),
        )
        return logits, new, penalty.every * now["gamma"] / 2 * steepness

    fake, _ = generate(G.params)

    def d_loss(d_params):
        real_logits, stats, r1 = judge_and_penalize(d_params, D.batch_stats, images, key=keys[0], wanted=penalty.real)
        fake_logits, stats, r2 = judge_and_penalize(d_params, stats, fake, key=keys[1], wanted=penalty.fake)
        loss = objective.discriminator(real_logits, fake_logits)
        return loss + (r1 + r2), (loss, r1 + r2, stats, real_logits, fake_logits)

    (_, (loss_D, punished, d_stats, real_logits, fake_logits)), d_grads = jax.value_and_grad(d_loss, has_aux=True)(
        D.params
    )
    D = D.updated(grads=d_grads, batch_stats=d_stats, learning_rate=now["learning_rate_D"], beta2=now["beta2"])

    def g_loss(g_params):
        fake, g_stats = generate(g_params)  # the pass above, which XLA recognises and does not repeat
        logits, d_stats = judge(D.params, D.batch_stats, augmented(fake, keys[2]))
        seen = (logits,)
        if objective.paired:
            real_logits, d_stats = judge(D.params, d_stats, augmented(images, keys[3]))
            seen = (logits, real_logits)
        return objective.generator(*seen), (g_stats, d_stats, logits)

    (loss_G, (g_stats, d_stats, logits)), g_grads = jax.value_and_grad(g_loss, has_aux=True)(G.params)

    G = G.updated(grads=g_grads, batch_stats=g_stats, learning_rate=now["learning_rate_G"], beta2=now["beta2"])
    decay = ema_decay(state.step + 1, batch_size=images.shape[0], half_life=state.ema_half_life)

    metrics = {
        "loss_D": loss_D,
        "loss_G": loss_G,
        "D_x": jax.nn.sigmoid(real_logits).mean(),
        "D_G_z1": jax.nn.sigmoid(fake_logits).mean(),
        "D_G_z2": jax.nn.sigmoid(logits).mean(),
        "grad_norm_D": optax.tree.norm(d_grads),
        "grad_norm_G": optax.tree.norm(g_grads),
    }
    if penalty.real or penalty.fake:
        metrics["penalty"] = punished
    return state.replace(
        step=state.step + 1,
        generator=G,
        discriminator=D.replace(batch_stats=d_stats),
        ema=jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, state.ema, G.params),
    ), metrics
