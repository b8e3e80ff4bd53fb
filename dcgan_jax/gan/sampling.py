"""Images from a trained generator."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.chunks import in_chunks
from dcgan_jax.gan.networks import apply
from dcgan_jax.gan.state import GANState, GeneratorParams, check_key
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import usual_numbers

COLUMNS, _ROWS = 8, 16
_CHUNK = 64  # images: one compilation of the network for any number of them
_STATISTICS = 1024  # latents for BatchNorm's statistics when a training state is given: fewer than ``restore`` takes


@functools.partial(jax.jit, static_argnames="num")
def _latents(params: GeneratorParams, key, start, num):
    """z (num, latent_dim), and labels (num,) of a conditional run, else None."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(start + jnp.arange(num))
    z = jax.vmap(lambda k: params.latent.draw(k, 1)[0])(keys)
    return z, jax.vmap(lambda k: params.classes.draw(k, 1)[0])(keys) if params.classes else None


@jax.jit
def _decode(params: GeneratorParams, x):
    return apply(params.generator, params.params, params.batch_stats, x, train=False)[0]


def floats(name: str, values: Any) -> jax.Array:
    """``values`` as a float32 array.

    Raises:
      InputError: they are no real numbers.
    """
    try:
        array = jnp.asarray(values)
        if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
            raise TypeError
        return array.astype(jnp.float32)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name} must be an array of numbers, not {repr(values)[:40]}") from None


def as_params(params: Any) -> GeneratorParams:
    """What ``sample`` and the like draw with.

    Raises:
      InputError: ``params`` is neither that nor a training state.
    """
    if isinstance(params, GANState):
        return generator_params(params, num=_STATISTICS)
    if not isinstance(params, GeneratorParams):
        raise InputError(
            f"params must be what restore(workdir) or generator_params(state) returns, not {type(params).__name__}"
        )
    return params


def as_labels(params: GeneratorParams, labels: Any, num: int) -> jax.Array | None:
    """The classes that a user means for ``num`` images: see ``Classes.labels``.

    Raises:
      InputError: there are none of this name or number, or a conditional run gets none.
    """
    if params.classes and labels is None:
        raise InputError(
            "the run is conditional: say which class each image is to be, by labels= (numbers or names) or --class"
        )
    return params.classes.labels(labels, num)


@usual_numbers()
def decode(params: GeneratorParams | GANState, z: jax.Array, *, labels: Any = None) -> jax.Array:
    """Map latent vectors to their images. BatchNorm is in inference mode: no image depends on the others.

    Args:
      params: as for ``sample``.
      z: (N, latent_dim). Gradients with respect to it are defined.
      labels: as for ``sample``; a conditional run needs them here.

    Returns:
      float32 (N, H, W, C) in [-1, 1], as of ``sample``.

    Raises:
      InputError: an argument has the wrong type or shape.
    """
    params = as_params(params)
    z = floats("z", z)
    if z.ndim != 2 or z.shape[1] != params.latent.dim:
        raise InputError(f"z must be of the shape (N, {params.latent.dim}), not {z.shape}")
    x = params.classes.beside(z, as_labels(params, labels, len(z)))
    return in_chunks(lambda part: _decode(params, part), x, _CHUNK)


@usual_numbers()
def sample(
    params: GeneratorParams | GANState, key: jax.Array, num: int = 64, *, start: int = 0, labels: Any = None
) -> jax.Array:
    """Draw ``num`` images from a trained generator.

    Image ``i`` depends only on ``params``, ``key``, ``i`` and its label, not on ``num``. All are in memory at once, for
    a moment twice: 98 kB each at 64x64 RGB. Draw many in parts: ``sample(params, key, 500, start=1500)``.

    Args:
      params: what ``dcgan_jax.restore`` or ``generator_params`` returns, or a whole training state, whose averaged
        weights are used.
      key: a JAX random key, such as ``jax.random.key(0)``.
      num: how many images, at least 1.
      start: the number of the first image.
      labels: of a conditional run, which classes: one for all images, or (num,), numbers or names of
        ``params.classes.names``; or how much of each class, floats (num, classes). Without, each class is drawn as
        often as it has images (``sample_labels``).

    Returns:
      float32 (num, H, W, C) in [-1, 1]. With alpha (2 or 4 channels) the colours are premultiplied, multiplied by alpha
      where both run from 0 to 1; ``to_uint8`` makes of them what files hold.

    Raises:
      InputError: an argument has the wrong type or value.
    """
    params = as_params(params)
    z, drawn = numbered(params, key, num, start)
    return decode(params, z, labels=drawn if labels is None else labels)


@usual_numbers()
def sample_labels(params: GeneratorParams | GANState, key: jax.Array, num: int = 64, *, start: int = 0) -> jax.Array:
    """The classes of the images that ``sample`` draws with the same arguments: int32 (num,).

    Raises:
      InputError: the run is not conditional, or an argument has the wrong type or value.
    """
    params = as_params(params)
    labels = numbered(params, key, num, start)[1]
    if labels is None:
        raise InputError("the run is not conditional: it has no classes")
    return labels


@usual_numbers()
def sheet(params: GeneratorParams | GANState, key: jax.Array) -> jax.Array:
    """Images for a sheet of ``COLUMNS`` columns: float32 (N, H, W, C) in [-1, 1].

    They are the first 64 that ``sample`` draws. Of a conditional run there is a row for each class, up to 16, and each
    column has one z, that of the first images.
    """
    params = as_params(params)
    if not params.classes:
        return sample(params, key)
    z, rows = numbered(params, key, COLUMNS, 0)[0], min(len(params.classes), _ROWS)
    return decode(params, jnp.tile(z, (rows, 1)), labels=np.repeat(np.arange(rows), COLUMNS))


def numbered(params: GeneratorParams, key: jax.Array, num: int, start: int) -> tuple[jax.Array, jax.Array | None]:
    """What images ``start``, ``start`` + 1 and so on are drawn of: z (num, latent_dim), and their labels, int32 (num,),
    in a conditional run, else None.

    Raises:
      InputError: an argument has the wrong type or value.
    """
    num, start = check_numbers(key, num, start)
    return _latents(params, key, start, num)


def check_numbers(key: jax.Array, num: int, start: int) -> tuple[int, int]:
    """``num`` and ``start`` as plain numbers, if images ``start`` to ``start + num`` of a key can be drawn.

    Raises:
      InputError: an argument has the wrong type or value.
    """
    check_key(key)
    for name, value in (("num", num), ("start", start)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise InputError(f"{name} {value!r} must be a whole number")
    num, start = int(num), int(start)
    if num < 1:
        raise InputError(f"num {num} must be at least 1")
    if not 0 <= start <= 2**31 - num:
        raise InputError(f"start {start} must lie in [0, 2**31 - num]")
    return num, start


@usual_numbers()
def slerp(a: jax.Array, b: jax.Array, t: jax.Array) -> jax.Array:
    """Go from the latent vectors ``a`` to ``b`` along an arc (Shoemake 1985).

    On a straight line the middle would be shorter than any draw of N(0, 1).

    Args:
      a: (..., latent_dim), like ``b``.
      t: (T,) in [0, 1].

    Returns:
      (T, ..., latent_dim). The length changes evenly from that of ``a`` to that of ``b``. From or to zero the way is
      straight.

    Raises:
      InputError: an argument has the wrong type, or the shapes of ``a`` and ``b`` differ.
    """
    a, b, t = floats("a", a), floats("b", b), floats("t", t)
    if a.shape != b.shape or a.ndim < 1:
        raise InputError(f"a and b must be of one shape (..., latent_dim), not {a.shape} and {b.shape}")
    return _slerp(a, b, t)


@jax.jit
def _slerp(a, b, t):
    t = t.reshape(-1, *[1] * a.ndim)
    lengths = [jnp.linalg.norm(z, axis=-1, keepdims=True)[None] for z in (a, b)]
    a, b = (z[None] / jnp.where(length > 0, length, 1) for z, length in zip((a, b), lengths))
    a, b = jnp.where(lengths[0] > 0, a, b), jnp.where(lengths[1] > 0, b, a)
    # Never 0 or pi: the sine is divided by.
    angle = jnp.arccos(jnp.clip((a * b).sum(-1, keepdims=True), -1 + 1e-6, 1 - 1e-6))
    way = (jnp.sin((1 - t) * angle) * a + jnp.sin(t * angle) * b) / jnp.sin(angle)
    return ((1 - t) * lengths[0] + t * lengths[1]) * way
