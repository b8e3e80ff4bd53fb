"""One training step: the discriminator, then the generator through the updated discriminator."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec

from dcgan_jax.gan.average import ema_decay
from dcgan_jax.gan.pixels import from_uint8
from dcgan_jax.gan.state import GANState, check_key
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import compiler_options


def train_step(
    state: GANState, images: jax.Array, key: jax.Array, *, deterministic: bool = False
) -> tuple[GANState, dict[str, jax.Array]]:
    """Update both networks once (d2l, section DCGAN: ``update_D``, ``update_G``).

    Real and generated images pass through the discriminator as two batches, each normalised by its
    own statistics. Running statistics change, as in pytorch/examples, with every forward pass in
    training mode: the generator's once, the discriminator's three times (real, generated, generated
    again through the updated weights).

    Args:
      state: donated; do not use it after the call.
      images: (B, H, W, C), uint8, or floats in [-1, 1]; on a mesh of several devices, split along its axis "data".
      key: the run's key; ``state.step`` is folded in here, so that the noise of a step depends on
        nothing that an interruption could lose.
      deterministic: on GPUs, the same bits at every run, and possibly slower. CPUs always compute the same.

    Returns:
      The new state and scalar metrics: ``loss_D``, ``loss_G``, ``D_x`` (mean probability, by
      D, that real images are real), ``D_G_z1`` and ``D_G_z2`` (the same for generated ones, before
      and after D's update), ``grad_norm_D``, ``grad_norm_G`` (Euclidean, over all weights).

    Raises:
      InputError: the images or the key are not of this kind; their range is looked at once for each shape.
    """
    check_key(key)
    _check_images(images, state)
    devices = state.step.sharding.device_set
    options = compiler_options(next(iter(devices)).platform, devices=len(devices), deterministic=deterministic)
    return compiled_step(**options)(state, images, key)


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
def compiled_step(**options: bool | int | str):
    """``train_step`` without its checks, as a jitted function that is compiled with these options."""
    return jax.jit(_step, donate_argnames="state", compiler_options=options)


def _step(state: GANState, images: jax.Array, key: jax.Array) -> tuple[GANState, dict[str, jax.Array]]:
    G, D = state.generator, state.discriminator
    z = state.latent.draw(jax.random.fold_in(key, state.step), images.shape[0])
    if not (mesh := jax.typeof(images).sharding.mesh).empty:
        # Left to itself XLA lets every device generate the whole batch.
        z = jax.lax.with_sharding_constraint(z, NamedSharding(mesh, PartitionSpec("data")))
    if images.dtype == jnp.uint8:
        images = jnp.asarray(from_uint8(images))

    def generate(g_params):
        fake, new = G.apply_fn(
            {"params": g_params, "batch_stats": G.batch_stats}, z, train=True, mutable=["batch_stats"]
        )
        return fake, new["batch_stats"]

    def judge(d_params, batch_stats, x):
        logits, new = D.apply_fn(
            {"params": d_params, "batch_stats": batch_stats}, x, train=True, mutable=["batch_stats"]
        )
        return logits, new.get("batch_stats", {})

    fake, _ = generate(G.params)

    def d_loss(d_params):
        real_logits, batch_stats = judge(d_params, D.batch_stats, images)
        fake_logits, batch_stats = judge(d_params, batch_stats, fake)
        return state.objective.discriminator(real_logits, fake_logits), (batch_stats, real_logits, fake_logits)

    (loss_D, (d_stats, real_logits, fake_logits)), d_grads = jax.value_and_grad(d_loss, has_aux=True)(D.params)
    D = D.apply_gradients(grads=d_grads, batch_stats=d_stats)

    def g_loss(g_params):
        fake, g_stats = generate(g_params)  # the pass above, which XLA recognises and does not repeat
        logits, d_stats = judge(D.params, D.batch_stats, fake)
        return state.objective.generator(logits), (g_stats, d_stats, logits)

    (loss_G, (g_stats, d_stats, logits)), g_grads = jax.value_and_grad(g_loss, has_aux=True)(G.params)

    G = G.apply_gradients(grads=g_grads, batch_stats=g_stats)
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
    return state.replace(
        step=state.step + 1,
        generator=G,
        discriminator=D.replace(batch_stats=d_stats),
        ema=jax.tree.map(lambda average, new: decay * average + (1 - decay) * new, state.ema, G.params),
    ), metrics
