"""Latent vectors as a small file that the page of the same generator opens."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from flax.traverse_util import flatten_dict

from dcgan_jax.gan.state import GeneratorParams

NAME = "z.json"


def digest(params: GeneratorParams) -> str:
    """Which weights these are, in 16 hexadecimal digits.

    Without the statistics of BatchNorm: those of an average are computed anew, and another machine may round otherwise.
    """
    sha = hashlib.sha256()
    for name, leaf in sorted(flatten_dict(params.params, sep="/").items()):
        sha.update(f"{name} {leaf.shape}\n".encode() + np.asarray(leaf, "<f4").tobytes())
    return sha.hexdigest()[:16]


def to_json(params: GeneratorParams, z: np.ndarray, labels: Sequence[int] | None, *, run: str) -> str:
    """What ``explorer.html`` opens: z of each picture, its class if there are classes, and whose they are.

    Args:
      params: which drew them.
      z: (N, latent_dim).
      labels: the class of each, in a conditional run.
      run: its name, for whoever opens the file beside the page of another.
    """
    pictures: list[dict[str, object]] = [{"z": [float(number) for number in one]} for one in z]
    for picture, label in zip(pictures, labels if labels is not None else (), strict=labels is not None):
        picture["class"] = params.classes.names[label]
    step = None if params.step is None else int(params.step)
    return json.dumps({"run": run, "step": step, "weights": digest(params), "pictures": pictures}, allow_nan=False)
