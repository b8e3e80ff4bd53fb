"""One file with a generator and all that is needed to sample from it: ``generator.safetensors``."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.config import CHANNELS
from dcgan_jax.gan.classes import NO_CLASSES, Classes
from dcgan_jax.gan.networks import Generator, Latent
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.share import hub
from dcgan_jax.sizes import ImageSize
from dcgan_jax.system.disk import mib, reading, user_path
from dcgan_jax.system.errors import InputError, first_line, printable
from dcgan_jax.system.files import parse_json, read_bytes
from dcgan_jax.system.schema import checked
from dcgan_jax.system.xla import random_key, usual_numbers

NAME = "generator.safetensors"
_HUB = "hf:"
_KEY = "dcgan_jax"
_HEADER, _WIDEST = 1 << 20, 1 << 16  # bytes, and numbers or channels at most; a real header has some kB
_LONGEST = 500  # characters of what an own network is called
_MOST = 2 << 30  # bytes of weights: 500 million numbers; those of width 64 and 256 pixels have 25 million


def is_portable(place: str | Path) -> bool:
    """Whether ``place`` names a file of this kind, or ``hf:USER/NAME``, rather than the folder of a run."""
    return str(place).startswith(_HUB) or Path(str(place)).suffix == ".safetensors"


Precision = Literal["float32", "float16"]
"""Of weights in a file. Statistics are float32 in any case: variances may be too large for float16."""


def to_safetensors(
    params: GeneratorParams,
    metrics: dict[str, float],
    *,
    precision: Precision = "float32",
    others: Mapping[str, np.ndarray] | None = None,
    settings: Mapping[str, Any] | None = None,
    **facts: Any,
) -> bytes:
    """A generator as the content of a safetensors file.

    Its metadata has one key, ``dcgan_jax`` (the library writes several in random order): a JSON object with
    ``generator`` (the fields of the built-in network, or ``own``: what another one is called), ``latent`` (the prior
    over z), ``step``, ``metrics``, ``settings``, and each of ``facts``, such as ``init``; of a conditional run also
    ``classes``: their ``names``, the ``counts`` of their images, and whether training was ``balanced``.

    Args:
      metrics: what is known of this step, by name.
      precision: of the weights.
      others: arrays of discriminators, by name: ``discriminator/params/...``.
      settings: of the run that these are made of.
      facts: others that the file is to hold, for JSON.

    Raises:
      InputError: a weight is too large for the precision.
    """
    from safetensors.numpy import save

    metadata = {
        "generator": _described(params.generator),
        "latent": dataclasses.asdict(params.latent),
        "step": None if params.step is None else int(params.step),
        "metrics": metrics,
        **({"settings": dict(settings)} if settings else {}),
        **facts,
    }
    if params.classes:
        metadata["classes"] = dataclasses.asdict(params.classes)
    arrays = {**_leaves(params), **(others or {})}
    return save({name: _stored(name, x, precision) for name, x in arrays.items()}, {_KEY: json.dumps(metadata)})


def _stored(name: str, array: Any, precision: Precision) -> np.ndarray:
    dtype = np.float32 if "batch_stats" in name.split("/") else np.dtype(precision)
    with np.errstate(over="ignore"):  # looked at below
        stored = np.ascontiguousarray(array, dtype)
    if not np.isfinite(stored).all():
        raise InputError(f"{name} has weights that are too large for {precision}: leave out --precision {precision}")
    return stored


def _described(network: nn.Module) -> dict[str, Any]:
    """The fields of the built-in network; of another one what it is called and was made with, for a message."""
    names = [field.name for field in dataclasses.fields(network) if field.name not in ("parent", "name")]
    fields = {name: getattr(network, name) for name in names}
    if type(network) is not Generator:
        arguments = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        return {"own": f"{type(network).__name__}({arguments})"[:_LONGEST]}
    del fields["activations"], fields["classes"]  # float32 wherever it is read; said beside it
    return {**fields, "dtype": jnp.dtype(fields["dtype"]).name}


@dataclasses.dataclass(frozen=True)
class _Own:
    """A network whose code the file does not have."""

    own: str


@dataclasses.dataclass(frozen=True)
class _Network:
    """The fields of a ``Generator``."""

    latent_dim: int
    width: int
    image_size: ImageSize
    channels: int
    batchnorm_scale_mean: float
    dtype: Literal["float32", "bfloat16"]
    self_modulation: bool = False  # older files do not say it


@dataclasses.dataclass(frozen=True)
class _Classes:
    """``Classes``."""

    names: list[str]
    counts: list[int]
    balanced: bool


@dataclasses.dataclass(frozen=True)
class _About:
    """What the metadata says, as ``to_safetensors`` writes it."""

    generator: _Network
    latent: Latent
    step: int | None
    classes: _Classes | None = None


@dataclasses.dataclass(frozen=True)
class _OfOwn:
    """The same of a network of the user's own."""

    generator: _Own
    latent: Latent
    step: int | None
    classes: _Classes | None = None


class _Header(NamedTuple):
    """What a file says of itself, the settings of its discriminators, the shape of each tensor, and its own length."""

    metadata: _About | _OfOwn
    settings: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    size: int


def _header(path: Path) -> _Header:
    """The header of a file.

    Raises:
      ValueError: it is another kind of file; a tensor is neither of float32 nor of float16; or what it says is not of
        the right type.
    """
    size = int.from_bytes(read_bytes(path, start=8), "little")
    if not 0 < size <= _HEADER:
        raise ValueError(f"a header of {size} bytes")
    header = parse_json(read_bytes(path, start=8 + size)[8:])
    values = parse_json(header.pop("__metadata__")[_KEY])
    metadata = checked(_OfOwn if "own" in values["generator"] else _About, values)
    sizes = [metadata.latent.dim]
    if isinstance(network := metadata.generator, _Network):
        sizes += [network.latent_dim, network.width]
        if not 1 <= network.channels <= CHANNELS:
            raise ValueError(f"a network of {network.channels} channels")
        if metadata.latent.dim != network.latent_dim:
            raise ValueError(f"latent vectors of {metadata.latent.dim} numbers for a network that takes another")
        _built_in(network)  # or it refuses its own fields
    if min(sizes) < 1 or max(sizes) > _WIDEST:
        raise ValueError("a network of an impossible size")
    if (classes := metadata.classes) and not (
        2 <= len(classes.names) == len(classes.counts) <= _WIDEST and min(classes.counts) > 0
    ):
        raise ValueError("classes without names or images")
    if metadata.step is not None and not 0 <= metadata.step < 2**31:
        raise ValueError(f"step is {metadata.step}")
    for name, tensor in header.items():
        if tensor["dtype"] not in ("F32", "F16"):
            raise ValueError(f"{name} is of type {tensor['dtype']}, not F32 or F16")
        if not all(type(side) is int and side >= 0 for side in tensor["shape"]):
            raise ValueError(f"{name} has an impossible shape")
    shapes = {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    return _Header(metadata, _plain(values.get("settings", {})), shapes, 8 + size)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that can be shown in a message.

    Raises:
      ValueError: one cannot.
    """
    for name, value in settings.items():
        if type(value) not in (bool, int, float) and not (type(value) is str and re.fullmatch(r"[\w.:-]{,99}", value)):
            raise ValueError(f"the setting {name[:20]!r} is {repr(value)[:40]}")
    return settings


def _network(metadata: _About | _OfOwn, path: Path, own: nn.Module | None) -> nn.Module:
    """The network that the file describes; or ``own``, where the file has no code of it.

    Raises:
      InputError: ``own`` is missing, or there is no use for it.
    """
    if isinstance(metadata, _OfOwn):
        if own is None:
            made = printable(metadata.generator.own[:_LONGEST])
            raise InputError(f"{path} holds the weights of {made}, not its code: give restore this generator=")
        return own
    if own is not None:
        raise InputError(f"{path} holds its own network: leave out generator=")
    return _built_in(metadata.generator, len(_classes(metadata)))


def _classes(metadata: _About | _OfOwn) -> Classes:
    some = metadata.classes
    return Classes(tuple(some.names), tuple(some.counts), some.balanced) if some else NO_CLASSES


def _built_in(network: _Network, classes: int = 0) -> Generator:
    """
    Raises:
      InputError: there is none of this image size.
    """
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[network.dtype]
    return Generator(**{**dataclasses.asdict(network), "dtype": dtype, "classes": classes})


def _shapes(network: nn.Module, metadata: _About | _OfOwn) -> GeneratorParams:
    """The generator with the shapes of its weights in their place."""
    classes = _classes(metadata)
    z = jax.ShapeDtypeStruct((1, metadata.latent.dim + len(classes)), jnp.float32)
    shapes: Any = jax.eval_shape(lambda z: network.init(random_key(0), z, train=False), z)
    trees = shapes["params"], shapes.get("batch_stats", {})
    return GeneratorParams(*trees, generator=network, latent=metadata.latent, classes=classes)


def _leaves(params: GeneratorParams) -> dict[str, Any]:
    return flatten_dict({"params": params.params, "batch_stats": params.batch_stats}, sep="/")


class Contents(NamedTuple):
    """What a file of this kind holds.

    Attributes:
      path: of the file.
      sha256: its checksum, as ``sha256sum`` prints it.
      step: of the run.
      settings: those of the run that the networks are made of, by their names in ``Config``, as far as it says them.
      classes: the names of a conditional run's, in the order of their labels.
      tensors: by name, such as ``params/GeneratorBlock_0/ConvTranspose_0/kernel``, those of a discriminator
        ``discriminator/params/...``; all finite, float32.
    """

    path: Path
    sha256: str
    step: int | None
    settings: dict[str, Any]
    classes: tuple[str, ...]
    tensors: dict[str, np.ndarray]


def contents(place: str | Path) -> Contents:
    """Read all that a file holds.

    Args:
      place: as for ``load``.

    Raises:
      InputError: there is no such file, or it is another kind of file, or damaged.
    """
    path, header, tensors, sha256 = _read(place)
    metadata, settings = header.metadata, {**header.settings, **_settings(header.metadata)}
    return Contents(path, sha256, metadata.step, settings, _classes(metadata).names, tensors)


def _settings(metadata: _About | _OfOwn) -> dict[str, Any]:
    network, names = metadata.generator, ("image_size", "channels", "width", "self_modulation")
    own = isinstance(network, _Own)
    prior = {"latent_dim": metadata.latent.dim, "latent": metadata.latent.distribution}
    prior["conditional"] = metadata.classes is not None
    return prior if own else {**{name: getattr(network, name) for name in names}, **prior}


def _read(place: str | Path) -> tuple[Path, _Header, dict[str, np.ndarray], str]:
    """The path of a file, its header, its tensors as float32, and its SHA-256.

    Raises:
      InputError: as from ``contents``.
    """
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise InputError("reading a .safetensors file needs one more package: pip install safetensors") from None

    path = hub.download(str(place).removeprefix(_HUB), NAME) if str(place).startswith(_HUB) else user_path(place)
    if not path.exists():
        raise InputError(f"{path} does not exist: give a file that export wrote, or the folder of a run")
    try:
        with reading(path):
            header = _header(path)
            if (weights := 4 * sum(map(math.prod, header.shapes.values()))) > _MOST:
                raise ValueError(f"more weights than the {mib(_MOST)} that it can have")
            content = read_bytes(path, most=header.size + weights)
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, InputError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _other_kind(path, first_line(error)) from None
    if bad := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise InputError(f"{path} holds weights that are not finite ({bad[0]}): export the run again")
    tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    return path, header, tensors, hashlib.sha256(content).hexdigest()


def _other_kind(path: Path, why: str) -> InputError:
    return InputError(f"{path} is not a generator that export wrote: {why}")


@usual_numbers()
def load(place: str | Path, step: Any = None, *, generator: nn.Module | None = None) -> GeneratorParams:
    """Read what ``to_safetensors`` made, from a file or from the Hugging Face Hub.

    Args:
      place: the file, or ``hf:USER/NAME``.
      step: the step that it must be of, if this is a number.
      generator: the network, if it is not the built-in one.

    Raises:
      InputError: there is no such file, or it is another kind of file, damaged or of another step; or the network is
        missing, is another one, or is not asked for.
    """
    path, (metadata, *_), tensors, _ = _read(place)
    params = _shapes(_network(metadata, path, generator), metadata)
    tensors = {name: x for name, x in tensors.items() if name.split("/")[0] in ("params", "batch_stats")}
    if {name: leaf.shape for name, leaf in _leaves(params).items()} != {name: x.shape for name, x in tensors.items()}:
        if generator is not None:
            raise InputError(f"{path} holds the weights of another network: give restore the generator= of its run")
        raise _other_kind(path, "its tensors do not fit its network")
    if isinstance(step, int) and step != metadata.step:
        raise InputError(f"{path} is of step {metadata.step}, not {step}: leave the step out")
    trees = unflatten_dict({name: jnp.asarray(tensor) for name, tensor in tensors.items()}, sep="/")
    return params.replace(**trees, step=metadata.step)
