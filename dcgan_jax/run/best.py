"""The best of many samples of a run: those that are like its images, by its features and its discriminator."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from dcgan_jax.data.store import Store
from dcgan_jax.gan.opinion import Opinion, opinion_of
from dcgan_jax.gan.state import GANState, GeneratorParams, second_networks
from dcgan_jax.metrics.choose import Best
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.generators import Source, generator_of
from dcgan_jax.run.images import images_of
from dcgan_jax.run.restore import Step, read_arrays
from dcgan_jax.share.portable import is_portable
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.xla import usual_numbers


@usual_numbers()
def best(
    source: Source,
    key: jax.Array,
    num: int = 64,
    *,
    share: str | float = 0.1,
    start: int = 0,
    labels: str | int | None = None,
    images: Store | None = None,
    step: Step = "best",
    ema: bool = True,
    generator: nn.Module | str | None = None,
) -> jax.Array:
    """Draw images like ``sample``, but 1 / ``share`` times as many, and keep the best of them.

    For each image that is kept there is a real one, another one for each of 64: of what was drawn for these 64, those
    are kept that are, all in all, nearest to theirs in the features of the CIFAR-10 classifier, with regard to what the
    discriminator says that sees features, if the run has one (``recipe="projected"``). What that brings, and that
    neither the other discriminator nor truncating z brings anything: docs/results/choosing.md.

    Image ``i`` depends on the weights, the real images, the key, ``i``, its class and ``share``, not on ``num``. All
    are in memory at once, and 512 of those that are drawn for them.

    Args:
      source: the folder of a run; or what ``sample`` takes, with ``images``.
      key: as for ``sample``, like ``num`` and ``start``.
      share: of what is drawn that is kept: 0.1 or "10%", from 0.1% to less than 1.
      labels: of a conditional run, the class of all images, by its name or number. Without, each class is drawn as
        often as it has images: ``sample_labels`` says which image is of which.
      images: the real ones, as of ``open_store``; by default those that the run was trained on.
      step: of a run, as for ``restore``, like ``ema`` and ``generator``.

    Returns:
      float32 (num, H, W, C) in [-1, 1], as of ``sample``.

    Raises:
      InputError: an argument has the wrong type or value, the run cannot be restored, or its images are others now.
    """
    share = share_of("share", share)
    params = generator_of(source, step, ema=ema, generator=generator)
    with best_of(source, params, share=share, images=images) as draw:
        return draw(key, num, start=start, labels=labels)


@contextlib.contextmanager
def best_of(source: Source, params: GeneratorParams, *, share: float, images: Store | None = None) -> Iterator[Best]:
    """What draws the images of ``best``, while its real images are open; ``params`` is the generator of ``source``."""
    if images is not None:
        _check_store(images, params)
        yield Best(params, images, share, _opinion(source, params))
        return
    if not isinstance(source, str | Path) or is_portable(source):
        raise InputError(
            "the best are those that are most like the images of the run: give its folder, which knows them, in place "
            "of the generator alone"
        )
    with contextlib.closing(images_of(RunFolder(source), "compare samples with them")) as store:
        yield Best(params, store, share, _opinion(source, params))


def share_of(name: str, share: str | float) -> float:
    """The share that ``10%`` or ``0.1`` means, of the setting ``name``.

    Raises:
      InputError: it is none, or none that can be kept.
    """
    text = str(share).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0.001 <= number < 1:
        wanted = "must be the share that is kept, from 0.1% to less than all, such as 10% or 0.1"
        raise InputError(f"{name} {repr(share)[:20]} {wanted}")
    return number


def _check_store(images: Store, params: GeneratorParams) -> None:
    if not isinstance(images, Store):
        raise InputError(f"images must be what open_store returns, not {repr(images)[:40]}")
    if images.shape[1:] != params.image_shape:
        raise InputError(f"images are of the shape {images.shape[1:]}, those of the generator {params.image_shape}")
    if params.classes and params.classes.names != images.classes.names:
        raise InputError("images are of other classes than those of the generator")


def _opinion(source: Source, params: GeneratorParams) -> Opinion | None:
    """That of the heads of a run, or of a state, if it has them."""
    if isinstance(source, GANState):
        return opinion_of(source)
    if isinstance(source, GeneratorParams) or is_portable(source):
        return None
    folder = RunFolder(source)
    config = folder.config()
    if config.features == "none":
        return None

    def wanted(shapes):
        return {name: jax.ShapeDtypeStruct(x, np.float32) for name, x in shapes.items() if name.startswith(_HEADS)}

    arrays, _ = read_arrays(source, int(params.step), wanted)
    weights = unflatten_dict({name.removeprefix(_HEADS): array for name, array in arrays.items()}, sep="/")
    return Opinion(weights, *second_networks(config, len(params.classes)), params.classes)


_HEADS = "heads/params/"
