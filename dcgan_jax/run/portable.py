"""One file with a generator and all that is needed to sample from it: ``generator.safetensors``."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from dcgan_jax.gan.networks import Generator, Latent
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.run import hub
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import parse_json, reading, user_path
from dcgan_jax.views.folding import check_built_in

NAME = "generator.safetensors"
_HUB = "hf:"
_KEY = "dcgan_jax"


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
    leaves = flatten_dict({"params": params.params, "batch_stats": params.batch_stats}, sep="/")
    tensors = {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in leaves.items()}
    return save(tensors, {_KEY: json.dumps(about)})


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
    except ImportError:
        raise InputError("reading a .safetensors file needs one more package: pip install safetensors") from None

    path = hub.download(str(place).removeprefix(_HUB), NAME) if str(place).startswith(_HUB) else user_path(place)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give a file that export wrote, or the folder of a run")
    try:
        with reading(path), safetensors.safe_open(path, "np") as file:
            about = parse_json((file.metadata() or {})[_KEY])
            tensors = {name: jnp.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no iterator
        fields, latent, there = (about[name] for name in ("generator", "latent", "step"))
        generator = Generator(
            **{**fields, "dtype": {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[fields["dtype"]]}
        )
        params = GeneratorParams(**unflatten_dict(tensors, sep="/"), generator=generator, latent=Latent(**latent))
        wanted = jax.eval_shape(lambda: generator.init(jax.random.key(0), jnp.zeros((1, latent["dim"])), train=False))
        if jax.tree.map(jnp.shape, flatten_dict(wanted, sep="/")) != jax.tree.map(jnp.shape, tensors):
            raise ValueError("its tensors do not fit its network")
    except (safetensors.SafetensorError, InputError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a generator that export wrote: {first_line(error)}") from None
    if isinstance(step, int) and step != there:
        raise InputError(f"{path} is of step {there}, not {step}: leave the step out")
    return params.replace(step=there)
