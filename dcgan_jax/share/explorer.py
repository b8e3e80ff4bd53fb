"""A web page, one file, that runs the generator in the browser of whoever opens it."""

import base64
import importlib.resources
import json
from typing import Any

import numpy as np

from dcgan_jax.config import has_alpha
from dcgan_jax.gan.classes import NO_CLASSES, Classes
from dcgan_jax.gan.directions import strongest
from dcgan_jax.gan.networks import Latent
from dcgan_jax.share.folding import Folded, Layer
from dcgan_jax.views.template import filled

_SLIDERS = 6  # directions


def packed(layer: Layer) -> np.ndarray:
    """A layer as a row of texels, four float16 each, in the order that ``explorer.glsl`` reads; padded with zeros."""
    kernel = np.pad(layer.kernel, [(0, 0), (0, 0), *((0, -n % 4) for n in layer.kernel.shape[2:])])
    y, x, inputs, outputs = kernel.shape
    kernel = kernel.reshape(y * x, inputs // 4, 4, outputs // 4, 4).transpose(3, 1, 0, 2, 4)
    bias = np.pad(layer.bias, (0, -len(layer.bias) % 4))
    return np.concatenate([kernel.ravel(), bias]).astype("<f2")


def _plain(network: Folded) -> list[np.ndarray]:
    """What makes scales and shifts of z, as ``explorer_network.js`` reads it: of each dense layer kernel and bias."""
    parts = [network.hidden, *(part for layer in network.layers for part in (layer.scale, layer.shift))]
    return [array.ravel().astype("<f2") for part in parts if part for array in part]


def explorer(
    network: Folded,
    *,
    latent: Latent,
    title: str,
    introduction: str = "",
    facts: list[str],
    weights: str,
    classes: Classes = NO_CLASSES,
) -> str:
    """The page as HTML. It needs no network and no other file; at width 64 it has about 10 MB.

    Args:
      network: what ``folded`` returns.
      latent: the prior over z.
      title: for those who know nothing of networks, as what follows.
      introduction: a sentence or two below it.
      facts: for those who do, folded away.
      weights: what ``latents.digest`` says of them; the page opens latent vectors of no others.
      classes: of a conditional run: each gets a button.
    """
    layers = network.layers
    model: dict[str, Any] = {
        "title": title,
        "introduction": introduction,
        "facts": facts,
        "weights": weights,
        "latent": {"dim": latent.dim, "distribution": latent.distribution},
        "classes": {"names": classes.names, "counts": classes.counts},
        "map": layers[0].kernel.shape[:2],  # height and width of the first, which each layer doubles
        "directions": strongest(layers[0].kernel, latent_dim=latent.dim, num=_SLIDERS).round(5).tolist(),
        "layers": [layer.kernel.shape[2:] for layer in layers],  # channels in, channels out
        "modulated": sum(layer.scale is not None for layer in layers),  # so many layers, from the first on
        "hidden": 0 if network.hidden is None else len(network.hidden.bias),
        "alpha": has_alpha(layers[-1].kernel.shape[3]),
    }
    texels = np.concatenate([*map(packed, layers), *_plain(network)]).tobytes()
    here = importlib.resources.files("dcgan_jax.share")
    parts = {
        "model": json.dumps(model).replace("<", "\\u003c"),
        "weights": base64.b64encode(texels).decode(),
        "shader": (here / "explorer.glsl").read_text(encoding="utf-8"),
        "network": (here / "explorer_network.js").read_text(encoding="utf-8"),
        "script": (here / "explorer.js").read_text(encoding="utf-8"),
    }
    return filled((here / "explorer.html").read_text(encoding="utf-8"), parts)
