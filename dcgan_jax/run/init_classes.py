"""The classes of a conditional run among those of the model that it starts from: by their names."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from dcgan_jax.config import Config
from dcgan_jax.gan.networks import Discriminator, Generator
from dcgan_jax.gan.projected import Heads
from dcgan_jax.gan.state import GANState, ProjectedState
from dcgan_jax.system.errors import InputError, shortened
from dcgan_jax.system.xla import random_key

_SHOWN = 8  # classes in a message


@dataclasses.dataclass(frozen=True)
class ClassRows:
    """Where the numbers of each class lie, in the model and in the run.

    Attributes:
      arrays: those that have numbers for each class, at the end of their last axis: by the names of a state. None where
        the classes are the same.
      theirs: how many classes the model has.
      places: of each class of the run, its number in the model; None where that lacks it. Empty where one of the two
        has no classes: then no such array is taken, also if more latent numbers or so give it the same shape.
    """

    arrays: frozenset[str] = frozenset()
    theirs: int = 0
    places: tuple[int | None, ...] = ()

    def lacking(self, names: Sequence[str]) -> list[str]:
        """The classes of the run, which has these ``names``, that the model lacks."""
        return [names[i] for i, place in enumerate(self.places) if place is None]

    def shapes(self, theirs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """The shapes of the model's arrays, if it had the classes of the run."""
        if not self.places:
            return {name: shape for name, shape in theirs.items() if name not in self.arrays}
        more = len(self.places) - self.theirs
        return {
            name: (*shape[:-1], shape[-1] + more) if name in self.arrays else shape for name, shape in theirs.items()
        }

    def moved(self, name: str, array: np.ndarray, start: Any) -> Any:
        """An array of the model with the classes of the run; those that it lacks are as in ``start``, the run's own."""
        if name not in self.arrays:
            return array
        others, new = array.shape[-1] - self.theirs, np.array(start)
        new[..., :others] = array[..., :others]
        for i, place in enumerate(self.places):
            if place is not None:
                new[..., others + i] = array[..., others + place]
        return new


def class_rows(config: Config, state: GANState, theirs: Sequence[str], networks: set[str]) -> ClassRows:
    """Match the classes of a run with those of a model.

    Args:
      state: of the run; shapes are enough.
      theirs: the names of the model's classes, none if it is not conditional.
      networks: those that the model has.

    Raises:
      InputError: it lacks a class, and the run is not to start from a part of it; or the classes are others, and a
        network is not built in.
    """
    ours = state.classes.names
    if ours == tuple(theirs):
        return ClassRows()
    if not ours or not theirs:
        return ClassRows(frozenset(_of_all(networks, state)), len(theirs))
    lacking = [name for name in ours if name not in theirs]
    if lacking and not config.init_partly:
        raise InputError(
            f"init {config.init} has the classes {_listed(theirs)}, not {_listed(lacking)}: call what is the same by "
            "the same name, or give --init-partly to start the others anew"
        )
    for network in networks & state.networks.keys():
        if not _is_built_in(network, state):
            raise InputError(
                f"init {config.init} has the classes {_listed(theirs)}, and the run {_listed(ours)}: which weights of "
                f"a {network} of your own belong to which is not known; use a model with the same classes"
            )
    places = tuple(theirs.index(name) if name in theirs else None for name in ours)
    return ClassRows(frozenset(_of_all(networks, state)), len(theirs), places)


def _is_built_in(network: str, state: GANState) -> bool:
    return type(state.networks[network].module) in (Generator, Discriminator, Heads)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(shortened, names[:_SHOWN])) + ", …" * (len(names) > _SHOWN)


def _of_all(networks: set[str], state: GANState) -> Iterator[str]:
    """The arrays of built-in networks whose shape depends on how many classes there are."""
    for network in networks & state.networks.keys():
        if _is_built_in(network, state):
            some, none = (_shapes(network, state, classes) for classes in (len(state.classes) or 2, 0))
            yield from (name for name, shape in some.items() if shape != none[name])


def _shapes(network: str, state: GANState, classes: int) -> dict[str, tuple[int, ...]]:
    """Those of the arrays that are taken of a network, by the names of a state, if it had so many classes."""
    module, inputs = state.networks[network].module.clone(classes=classes), jnp.zeros((1, *state.image_shape))
    if network == "generator":
        inputs = jnp.zeros((1, state.latent.dim + classes))
    elif isinstance(state, ProjectedState) and network == "heads":
        inputs = jax.eval_shape(state.features, inputs)
    tree: Any = jax.eval_shape(lambda x: module.init(random_key(0), x, train=False), inputs)
    leaves: dict[str, Any] = flatten_dict(
        {"ema": tree["params"]} if network == "generator" else {network: tree}, sep="/"
    )
    return {name: leaf.shape for name, leaf in leaves.items()}
