"""The generator that a function is given: that of a run, of an exported file, or of a script."""

from pathlib import Path

import flax.linen as nn

from dcgan_jax.gan.sampling import as_params
from dcgan_jax.gan.state import GANState, GeneratorParams
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.restore import Step, restore
from dcgan_jax.share.portable import is_portable
from dcgan_jax.system.errors import InputError

Source = str | Path | GeneratorParams | GANState
"""The folder of a run; what ``export`` made of it, a .safetensors file or hf:USER/NAME; or what ``sample`` takes."""


def shown_of(source: Source) -> tuple[int, ...] | None:
    """The channels that the run of a generator shows, ``Config.show``; None where the source is no run."""
    if not isinstance(source, str | Path) or is_portable(source):
        return None
    return RunFolder(source).config().show


def generator_of(
    source: Source, step: Step = "best", *, ema: bool = True, generator: nn.Module | str | None = None
) -> GeneratorParams:
    """What ``sample`` needs. The other arguments are those of ``restore``.

    Raises:
      InputError: from ``restore``; or they are given although ``source`` is no run.
    """
    if isinstance(source, str | Path):
        return restore(source, step, ema=ema, generator=generator)
    if (step, ema, generator) != ("best", True, None):
        raise InputError("step, ema and generator say which generator of a run: leave them out with parameters")
    return as_params(source)
