"""One file with a generator and all that is needed to sample from it: ``generator.safetensors``."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.gan.networks import Generator, Latent
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.share import hub
from dcgan_jax.share.folding import check_built_in
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import mib, parse_json, read_bytes, reading, user_path
from dcgan_jax.system.schema import checked
from dcgan_jax.system.xla import random_key, usual_numbers

NAME = "generator.safetensors"
_HUB = "hf:"
_KEY = "dcgan_jax"
_HEADER, _WIDEST = 1 << 20, 1 << 16  # bytes, and numbers or channels at most; a real header has some kB
_MOST = 2 << 30  # bytes of weights: 500 million numbers; those of width 64 and 256 pixels have 25 million


def is_portable(place: str | Path) -> bool:
    """Whether ``place`` names a file of this kind, or ``hf:USER/NAME``, rather than the folder of a run."""
    return str(place).startswith(_HUB) or Path(str(place)).suffix == ".safetensors"


def to_safetensors(params: GeneratorParams, metrics: dict[str, float]) -> bytes:
    """A generator as the content of a safetensors file, in float32.

    Its metadata has one key, ``dcgan_jax`` (the library writes several in random order): a JSON object with
    ``generator`` (the fields of the network), ``latent`` (the prior over z), ``step`` and ``metrics``.

    Raises:
      InputError: the network is not the built-in one.
    """
    from safetensors.numpy import save

    check_built_in(params)
    fields = {f.name: getattr(params.generator, f.name) for f in dataclasses.fields(params.generator)}
    machine = ("activations",)  # float32 wherever it is read
    fields = {name: value for name, value in fields.items() if name not in ("parent", "name", *machine)}
    about = {
        "generator": {**fields, "dtype": jnp.dtype(fields["dtype"]).name},
        "latent": dataclasses.asdict(params.latent),
        "step": None if params.step is None else int(params.step),
        "metrics": metrics,
    }
    tensors = {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in _leaves(params).items()}
    return save(tensors, {_KEY: json.dumps(about)})


@dataclasses.dataclass(frozen=True)
class _Network:
    """The fields of a ``Generator``."""

    latent_dim: int
    width: int
    image_size: int
    channels: int
    batchnorm_scale_mean: float
    dtype: Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class _About:
    """What the metadata says, as ``to_safetensors`` writes it."""

    generator: _Network
    latent: Latent
    step: int | None


def _header(path: Path) -> tuple[_About, dict[str, tuple[int, ...]], int]:
    """What a file says of itself, the shape of each of its tensors, and how long this header is.

    Raises:
      ValueError: it is another kind of file, or a tensor is not of float32; or what it says is not of the right type.
    """
    size = int.from_bytes(read_bytes(path, start=8), "little")
    if not 0 < size <= _HEADER:
        raise ValueError(f"a header of {size} bytes")
    header = parse_json(read_bytes(path, start=8 + size)[8:])
    about = checked(_About, parse_json(header.pop("__metadata__")[_KEY]))
    sizes = about.generator.latent_dim, about.generator.width
    if min(sizes) < 1 or max(sizes) > _WIDEST or about.generator.channels not in (1, 3):
        raise ValueError("a network of an impossible size")
    if about.latent.dim != about.generator.latent_dim:
        raise ValueError(f"latent vectors of {about.latent.dim} numbers for a network that takes another")
    if about.step is not None and not 0 <= about.step < 2**31:
        raise ValueError(f"step is {about.step}")
    for name, tensor in header.items():
        if tensor["dtype"] != "F32":
            raise ValueError(f"{name} is of type {tensor['dtype']}, not F32")
    return about, {name: tuple(tensor["shape"]) for name, tensor in header.items()}, 8 + size


def _generator(about: _About) -> GeneratorParams:
    """The generator that ``about`` describes, with the shapes of its weights in their place."""
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[about.generator.dtype]
    network = Generator(**{**dataclasses.asdict(about.generator), "dtype": dtype})
    z = jax.ShapeDtypeStruct((1, about.latent.dim), jnp.float32)
    shapes: Any = jax.eval_shape(lambda z: network.init(random_key(0), z, train=False), z)
    return GeneratorParams(**shapes, generator=network, latent=about.latent)


def _leaves(params: GeneratorParams) -> dict[str, Any]:
    return flatten_dict({"params": params.params, "batch_stats": params.batch_stats}, sep="/")


@usual_numbers()
def load(place: str | Path, step: Any = None) -> GeneratorParams:
    """Read what ``to_safetensors`` made, from a file or from the Hugging Face Hub.

    Args:
      place: the file, or ``hf:USER/NAME``.
      step: the step that it must be of, if this is a number.

    Raises:
      InputError: there is no such file, or it is another kind of file, damaged or of another step.
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
            about, shapes, size = _header(path)
            params = _generator(about)
            wanted = {name: leaf.shape for name, leaf in _leaves(params).items()}
            if shapes != wanted:
                raise ValueError("its tensors do not fit its network")
            if (weights := 4 * sum(map(math.prod, shapes.values()))) > _MOST:
                raise ValueError(f"{mib(weights)} of weights, more than the {mib(_MOST)} that it can have")
            tensors = safetensors.numpy.load(read_bytes(path, most=size + weights))
    except (safetensors.SafetensorError, InputError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a generator that export wrote: {first_line(error)}") from None
    if bad := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise InputError(f"{path} holds weights that are not finite ({bad[0]}): export the run again")
    if isinstance(step, int) and step != about.step:
        raise InputError(f"{path} is of step {about.step}, not {step}: leave the step out")
    trees = unflatten_dict({name: jnp.asarray(tensor) for name, tensor in tensors.items()}, sep="/")
    return params.replace(**trees, step=about.step)
