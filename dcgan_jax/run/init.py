"""The model that a new run starts from: ``Config.init``."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from dcgan_jax.config import Config
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.projected import ProjectedFeatures
from dcgan_jax.gan.state import GANState
from dcgan_jax.recipes import RECIPES
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.init_classes import ClassRows, class_rows
from dcgan_jax.run.restore import filled, read_arrays
from dcgan_jax.run.trees import named_leaves
from dcgan_jax.share import portable
from dcgan_jax.system.disk import reading, user_path, writing
from dcgan_jax.system.errors import InputError, first_line, printable
from dcgan_jax.system.files import read_bytes, write_text
from dcgan_jax.system.schema import checked
from dcgan_jax.system.xla import usual_numbers

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of arrays by their names, such as ``discriminator/params/DiscriminatorBlock_0/Conv_0/kernel``."""
_NETWORKS = {
    "generator": (
        *("image_size", "channels", "width", "latent_dim", "latent", "self_modulation", "conditional", "generator"),
    ),
    "discriminator": (
        *("image_size", "channels", "width", "discriminator_norm", "extra_convs", "first_batchnorm", "leaky_slope"),
        *("conditional", "discriminator"),
    ),
    "heads": ("image_size", "features", "features_size", "leaky_slope", "conditional"),
}
"""What is taken of a model, and the settings that it depends on."""
_BY_MEANING = {"latent", "leaky_slope"}
"""Settings that change what a network draws or says, but no shape."""
_HIDDEN = "generator/Hidden_0"  # the layer that self-modulation needs
_LATENTS = 1024  # for BatchNorm's statistics, as where a state is sampled from


@dataclasses.dataclass(frozen=True)
class Record:
    """Where a run started from: ``init.json``.

    Attributes:
      source: as ``Config.init`` has it.
      step: of the source, as far as it is known.
      file: the file with this ``sha256``; of a run the manifest of its checkpoint, which has the checksums of the rest.
      taken: the networks that were taken.
      anew: the layers that start anew, as others do not fit, or the source does not have them.
      classes_anew: the classes that start anew, as the source does not have them, in layers that are taken otherwise.
    """

    source: str
    step: int | None
    file: str
    sha256: str
    taken: list[str]
    anew: list[str]
    classes_anew: list[str] = dataclasses.field(default_factory=list)

    def __str__(self):
        """For a page that is passed on."""
        step = "" if self.step is None else f"step {self.step:,}, "
        return f"{name_of(self.source)} ({step}SHA-256 {printable(self.sha256)} of {printable(self.file)})"


@dataclasses.dataclass(frozen=True)
class Start:
    """The model that a run starts from, the arrays that are taken of it, by the names of a state, and where in them the
    classes of the run are."""

    record: Record
    arrays: dict[str, np.ndarray]
    rows: ClassRows

    @usual_numbers()
    def state(self, state: GANState) -> GANState:
        """The state at step 0 with what is taken in place of its own.

        The generator has the averaged weights, which go on being averaged, and BatchNorm's statistics for them.
        Optimizers, annealing and the number of steps stay as they are.
        """
        tree = serialization.to_state_dict(state)
        names = dict(named_leaves(tree)).keys()
        leaves = [
            self.rows.moved(name, self.arrays[name], leaf) if name in self.arrays else leaf
            for name, leaf in named_leaves(tree)
        ]
        assert self.arrays.keys() <= names
        state = filled(state, jax.tree.unflatten(jax.tree.structure(tree), leaves))
        if "generator" not in self.record.taken:
            return state
        statistics = generator_params(state, num=_LATENTS).batch_stats
        weights = jax.tree.map(jnp.array, state.ema)  # a copy: a step overwrites both
        return state.replace(generator=state.generator.replace(params=weights, batch_stats=statistics))


def name_of(init: str) -> str:
    """What a model is called on a page that is passed on: no path of this machine."""
    if init.startswith("hf:"):
        return printable(init)
    path = Path(init)
    return printable("/".join(path.parts[-2:]) if path.suffix == ".safetensors" else path.name)


def absolute(config: Config) -> Config:
    """The configuration with a path in ``init`` that means the same in any folder."""
    if not config.init or config.init.startswith("hf:"):
        return config
    return dataclasses.replace(config, init=str(user_path(config.init).absolute()))


def as_started(config: Config) -> Config:
    """The configuration with the ``features_size`` of the model that the run starts from in place of ``auto``: others
    do not fit its heads.

    Raises:
      InputError: there is no such model.
    """
    if not config.init or config.features == "none" or config.features_size != "auto":
        return config
    _check_place(config)
    is_file = portable.is_portable(config.init)
    theirs = portable.contents(config.init).settings if is_file else RunFolder(config.init).config().__dict__
    if theirs.get("features", "none") == "none":
        return config
    config = dataclasses.replace(config, features_size=theirs.get("features_size", 0))  # which is looked at here
    seen = ProjectedFeatures(config.features_size, theirs.get("image_size", 64))
    return dataclasses.replace(config, features_size=min(seen.size))


def _check_place(config):
    if (file := Path(config.init, portable.NAME)).exists() and not RunFolder(config.init).settings.exists():
        raise InputError(f"init {config.init} is no run, but what export wrote: give {file}")


def start_from(config: Config, shapes: GANState) -> Start:
    """Read what ``config.init`` has for a run.

    Args:
      shapes: ``jax.ShapeDtypeStruct`` in place of the arrays of a state of the run.

    Raises:
      InputError: there is no such model, or it does not fit: the message names the settings with which it does.
    """
    ours = {name: leaf for name, leaf in named_leaves(serialization.to_state_dict(shapes)) if _network(name)}
    _check_place(config)
    read = _of_file if portable.is_portable(config.init) else _of_run
    return read(config, ours, shapes)


def write_record(folder: RunFolder, record: Record) -> None:
    """Note what a run starts from.

    Raises:
      InputError: it cannot be written.
    """
    with writing(folder.init):
        write_text(folder.init, json.dumps(dataclasses.asdict(record), indent=2) + "\n")


def read_record(folder: RunFolder) -> Record | None:
    """What a run started from; None for random weights.

    Raises:
      InputError: ``init.json`` is damaged.
    """
    try:
        values = folder.read_json(folder.init)
        return None if values is None else checked(Record, values)
    except ValueError as error:
        raise InputError(f"{folder.init} is damaged ({first_line(error)}): delete it") from None


def say_start(folder: RunFolder) -> Iterator[str]:
    """Sentences on what a run starts from."""
    if record := read_record(folder):
        step = "" if record.step is None else f", step {record.step:,}"
        yield f"starting from {record.source}{step}: {' and '.join(record.taken)}"
        if record.anew:
            yield f"starting anew: {', '.join(record.anew)}"
        if record.classes_anew:
            yield printable(f"classes that start anew: {', '.join(record.classes_anew)}")


def _of_file(config, ours, shapes: GANState) -> Start:
    file = portable.contents(config.init)
    arrays = {_named(name): array for name, array in file.tensors.items() if _network(_named(name))}
    rows = class_rows(config, shapes, file.classes, _networks(arrays))
    theirs = rows.shapes({name: x.shape for name, x in arrays.items()})
    names = _chosen(config, file.settings, ours, theirs, shapes.discriminator.frozen)
    record = _record(config, file.step, file.path.name, file.sha256, names, ours, rows.lacking(shapes.classes.names))
    return Start(record, {name: arrays[name].astype(ours[name].dtype) for name in names}, rows)


def discriminators(workdir: str | Path, config: Config, step: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The discriminators of a checkpoint, by the names of their arrays, and the settings that they are made of.

    Raises:
      InputError: as from ``restore``.
    """

    def wanted(shapes: Shapes) -> dict[str, Any]:
        names = [name for name in shapes if _network(name) in ("discriminator", "heads")]
        return {name: jax.ShapeDtypeStruct(shapes[name], np.float32) for name in names}

    arrays, _ = read_arrays(workdir, step, wanted)
    networks = _networks(arrays)
    names = ("recipe", *(name for network in _NETWORKS if network in networks for name in _NETWORKS[network]))
    return arrays, {name: getattr(config, name) for name in names}


def _named(name: str) -> str:
    """The name in a state of what a file has under ``name``."""
    return f"ema/{name.removeprefix('params/')}" if name.startswith("params/") else name


def _of_run(config, ours, shapes: GANState) -> Start:
    folder = RunFolder(config.init)
    settings = folder.config()
    rows = class_rows(config, shapes, folder.learned(settings).names, set(shapes.networks))

    def wanted(every: Shapes) -> dict[str, Any]:
        theirs = rows.shapes({name: shape for name, shape in every.items() if _network(name)})
        names = _chosen(config, dataclasses.asdict(settings), ours, theirs, shapes.discriminator.frozen)
        return {name: jax.ShapeDtypeStruct(every[name], ours[name].dtype) for name in names}

    arrays, manifest = read_arrays(config.init, "best", wanted)
    path = folder.manifest(manifest.step)
    with reading(path):
        sha256 = hashlib.sha256(read_bytes(path)).hexdigest()
    file, lacking = path.relative_to(folder.path).as_posix(), rows.lacking(shapes.classes.names)
    return Start(_record(config, manifest.step, file, sha256, arrays, ours, lacking), arrays, rows)


def _networks(names) -> set[str]:
    return {str(_network(name)) for name in names}


def _network(name: str) -> str | None:
    """The network, among those of which something is taken, that an array belongs to."""
    part, *path = name.split("/")
    if part == "ema":
        return "generator"
    return part if part in ("discriminator", "heads") and path[:1] in (["params"], ["batch_stats"]) else None


def _layer(name: str) -> str:
    """The layer of an array: it is taken as a whole."""
    *path, _ = name.split("/")
    return "/".join([str(_network(name)), *path[1 if path[0] == "ema" else 2 :]])


def _layers(shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        layers.setdefault(_layer(name), {})[name] = shape
    return layers


def _chosen(config: Config, settings: Mapping[str, Any], ours, theirs: Shapes, frozen) -> list[str]:
    """The names of the arrays to take.

    Raises:
      InputError: they do not fit, or no array does; or a block that is to be frozen is not among them.
    """
    layers, others = _layers({name: x.shape for name, x in ours.items()}), _layers(theirs)
    fitting = {layer for layer, shapes in layers.items() if others.get(layer) == shapes}
    if not config.init_partly:
        _check_whole(config, settings, layers, others)
    if not fitting:
        raise InputError(f"init {config.init} has no layer that fits the networks of this run")
    if missing := [block for block in frozen if not _all_taken(f"discriminator/{block}", layers, fitting)]:
        raise InputError(
            f"freeze_layers {len(frozen)} would freeze random weights: {config.init} has no {missing[0]} of a "
            "discriminator that fits; leave it out"
        )
    return [name for layer in layers if layer in fitting for name in layers[layer]]


def _all_taken(block, layers, fitting):
    return all(layer in fitting for layer in layers if layer == block or layer.startswith(f"{block}/"))


def _check_whole(config, settings, layers, others):
    """Refuse a model of which a network is another than ours; one that is missing in it starts anew."""
    misfits, differing = [], {}
    for network, names in _NETWORKS.items():
        mine, its = ({key: x for key, x in part.items() if key.split("/")[0] == network} for part in (layers, others))
        other = {name: settings[name] for name in names if settings.get(name, value := getattr(config, name)) != value}
        if (_HIDDEN in mine) == (_HIDDEN in its):  # of networks that have no use for the setting
            other.pop("self_modulation", None)
        if mine and its and (mine != its or _BY_MEANING & other.keys()):
            misfits.append((network, _unlike(mine, its)))
            differing |= other
    if not misfits:
        return
    which = " and ".join(network for network, _ in misfits) + (" have" if misfits[1:] else " has")
    what = ", ".join(f"{name} {value}" for name, value in differing.items()) or misfits[0][1]
    flags = " ".join(_flags(config, settings, differing))
    remedy = f"{flags}, or --init-partly" if flags else "--init-partly"
    raise InputError(
        f"init {config.init} does not fit: its {which} {what}: give {remedy} to take only the layers that fit"
    )


def _unlike(mine, its) -> str:
    """The first array, or layer, in which two networks differ."""
    for layer, shapes in mine.items():
        for name, shape in shapes.items():
            if (other := its.get(layer, {}).get(name)) != shape:
                return f"no {name}" if other is None else f"{name} of the shape {other}, not {shape}"
    return f"also {next(iter({*its} - {*mine}), 'other arrays')}"


def _flags(config, settings, differing) -> Iterator[str]:
    """What gives a run the ``differing`` settings of another; one flag for all that its recipe brings."""
    ours = RECIPES[config.recipe].config
    theirs = RECIPES[settings["recipe"]].config if settings.get("recipe") in RECIPES else ours
    brought = [
        name
        for name, value in differing.items()
        if getattr(ours, name) == getattr(config, name) != getattr(theirs, name) == value
    ]
    if brought:
        yield f"--recipe {theirs.recipe}"
        differing = differing | _beyond(theirs, ours, config, settings)
    for name, value in differing.items():
        if name not in brought:
            flag = name.replace("_", "-")
            yield f"--{'no-' * (value is False)}{flag}" if isinstance(value, bool) else f"--{flag} {value}"


def _beyond(theirs: Config, ours: Config, config: Config, settings) -> dict[str, Any]:
    """Settings in which a run agrees with a model, but would not with the recipe of that, which has changed since."""
    agreed = {
        name: value
        for name in itertools.chain(*_NETWORKS.values())
        if (value := getattr(config, name)) == settings.get(name) == getattr(ours, name)
    }
    return {name: value for name, value in agreed.items() if getattr(theirs, name) not in (value, "auto")}


def _record(config: Config, step, file: str, sha256: str, names, ours, lacking: list[str]) -> Record:
    networks = _networks(names)
    anew = sorted({_layer(name) for name in ours} - {_layer(name) for name in names})
    return Record(config.init, step, file, sha256, [name for name in _NETWORKS if name in networks], anew, lacking)
