"""From an image back to the z that draws it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dcgan_jax.gan.networks import Latent
from dcgan_jax.gan.sampling import as_labels, as_params
from dcgan_jax.gan.state import GANState, GeneratorParams, check_key
from dcgan_jax.metrics.features import features_of_floats
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.progress import progress
from dcgan_jax.system.xla import usual_numbers

_RATE = 0.1  # of Adam; falls to 0 along a cosine
_ADAM = optax.scale_by_adam()


@usual_numbers()
def project_images(
    params: GeneratorParams | GANState,
    images: jax.Array,
    key: jax.Array,
    *,
    starts: int = 8,
    steps: int = 300,
    feature_weight: float = 0.02,
    labels: Any = None,
) -> jax.Array:
    """Find the latent vectors whose images are most like the given ones, and show a progress bar.

    Adam on z, from several random starts for each image, of which the best is kept. z stays where the prior draws
    it: in [-1, 1], or no longer than all but one in a thousand of N(0, 1). Source: Lipton and Tripathi 2017.

    Args:
      params: as for ``sample``.
      images: (N, H, W, C) in [-1, 1], of the shape that the generator draws.
      key: of the starts. Those of image ``i`` depend on it and ``i`` only.
      starts: how many for each image.
      steps: of Adam.
      feature_weight: of the mean squared difference of the metrics' features, beside that of the pixels.
      labels: the classes of the images, as for ``sample``; a conditional run needs them.

    Returns:
      float32 (N, latent_dim), for ``decode``.

    Raises:
      InputError: an argument has the wrong type, shape or value.
    """
    check_key(key)
    params = as_params(params)
    z = jax.vmap(lambda i: params.latent.draw(jax.random.fold_in(key, i), starts))(jnp.arange(len(images)))
    if images.shape[1:] != params.image_shape:
        shape = ", ".join(map(str, params.image_shape))
        raise InputError(f"images must be of the shape (N, {shape}), not {images.shape}")
    classes = as_labels(params, labels, len(images))
    repeated = None if classes is None else classes.repeat(starts, axis=0)
    wanted = (images, features_of_floats(images), jnp.float32(feature_weight), repeated)
    rate, moments = optax.cosine_decay_schedule(_RATE, steps), _ADAM.init(z)
    for i in progress(range(steps), "looking for z", total=steps, unit="step"):
        z, moments = jax.block_until_ready(_step(params, wanted, z, moments, rate(i)))  # or the bar runs ahead
    best = _distance(params, wanted, z).argmin(axis=1)
    return jnp.take_along_axis(z, best[:, None, None], axis=1)[:, 0]


def _differences(params, wanted, z):
    """z (N, starts, dim) -> (N, starts)."""
    images, features, feature_weight, labels = wanted
    drawn = params(z.reshape(-1, z.shape[-1]), labels)
    pixels = jnp.square(drawn.reshape(*z.shape[:2], *images.shape[1:]) - images[:, None]).mean((2, 3, 4))
    seen = features_of_floats(drawn).reshape(*z.shape[:2], -1)
    return pixels + feature_weight * jnp.square(seen - features[:, None]).mean(2)


_distance = jax.jit(_differences)


@jax.jit
def _step(params, wanted, z, moments, rate):
    gradients = jax.grad(lambda z: _differences(params, wanted, z).sum())(z)
    updates, moments = _ADAM.update(gradients, moments)
    return _within(params.latent, z - rate * updates), moments


def _within(latent: Latent, z):
    """The nearest z that the prior is likely to draw."""
    if latent.distribution == "uniform":
        return jnp.clip(z, -1, 1)
    longest = jnp.sqrt(latent.dim) + 2.2  # the length is about N(sqrt(dim), 1/2)
    return z * jnp.minimum(1, longest / jnp.linalg.norm(z, axis=-1, keepdims=True))
