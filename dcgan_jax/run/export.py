"""The generator of a run as files for others, and on the Hugging Face Hub."""

import importlib.util
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, assert_never, get_args

import flax.linen as nn
import numpy as np

from dcgan_jax.config import Config, has_alpha
from dcgan_jax.gan.networks import Generator
from dcgan_jax.gan.sampling import COLUMNS, sample, sheet
from dcgan_jax.gan.state import GeneratorParams
from dcgan_jax.run.figures import StepFigure, figures_of_step
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.init import Record, discriminators, read_record
from dcgan_jax.run.restore import Step, restore
from dcgan_jax.share import hub, latents, portable
from dcgan_jax.share.explorer import explorer
from dcgan_jax.share.folding import Folded, folded
from dcgan_jax.system.disk import reading, writing
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import read_bytes, write_bytes
from dcgan_jax.system.xla import random_key
from dcgan_jax.views.grid import show, visible

Format = Literal["html", "safetensors", "onnx"]
_LIBRARIES: dict[Format, str | None] = {"html": None, "safetensors": "safetensors", "onnx": "onnx"}
_COLOURS = {1: "grayscale", 2: "grayscale and alpha", 3: "RGB", 4: "RGB and alpha"}
_INSTALL = "python -m pip install 'dcgan_jax[export]'"
_INSTALL_HUB = "python -m pip install 'dcgan_jax[export,hub]'"


def export(
    workdir: str | Path,
    out: str | Path,
    *,
    formats: Sequence[Format] | None = None,
    step: Step = "best",
    push: str | None = None,
    license: str | None = None,
    generator: nn.Module | str | None = None,
    discriminator: bool = False,
    precision: portable.Precision = "float32",
) -> list[Path]:
    """Write the generator of a run as files for others, as ``python -m dcgan_jax.export`` does.

    What is left out, and the address of what is uploaded, is printed.

    Args:
      workdir: the folder of the run.
      out: folder for the files, made if it does not exist. Overwrites explorer.html and generator.* in it.
      formats: ``html``: a page that draws images in any browser; ``safetensors``: what ``restore`` reads; ``onnx``: for
        other programs. By default all whose libraries are installed (extra "export"). Only safetensors can hold a
        generator of your own: ``restore`` then needs its ``generator=`` too.
      step: of the checkpoint, as for ``restore``.
      push: USER/NAME, to upload the files to the Hugging Face Hub too (extra "hub"), with samples, the report if there
        is one, and a model card.
      license: of the weights, for the model card, as the Hub names it: "mit", "cc-by-4.0". By default "unknown".
      generator: as for ``restore``.
      discriminator: put the discriminators into the safetensors file too, for runs that start from it
        (``Config.init``). ``restore`` does not need them.
      precision: of the weights in the safetensors file; float16 makes it half as large.

    Returns:
      The files.

    Raises:
      InputError: an argument is wrong, a library is not installed, the run cannot be restored, the files cannot be
        written, or the Hub refuses them.
    """
    _check(formats, push, license)
    _check_start(formats, discriminator, precision)
    place, folder = RunFolder.output(out), RunFolder(workdir)
    if place.exists() and not place.is_dir():
        raise InputError(f"{place} is a file: give --out a folder")
    params = restore(folder.path, step, generator=generator)
    facts = _facts(folder, params)
    files = {}
    for name in _chosen(formats, params):
        more = {"precision": precision, **_more(folder, facts, discriminator)} if name == "safetensors" else {}
        file, content = _content(name, params, facts, **more)
        files[file] = content
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            write_bytes(place / file, content)
    if push:
        if license is None:
            print("the model card says that the licence is unknown: --license NAME, such as mit or cc-by-4.0, says it")
        print(_push(push, folder, params, facts, files, license or "unknown"))
    return [place / file for file in files]


class _Facts(NamedTuple):
    """What is said of a generator beside its weights."""

    name: str  # of the images
    count: int  # of them; 0 if that is not known
    step: int
    config: Config
    figures: list[StepFigure]
    init: Record | None  # what the run started from

    def title(self) -> str:
        return f"{self.name}, step {self.step:,}"

    def introduction(self) -> str:
        """What the page is, for a friend."""
        many = f"{self.count:,} pictures" if self.count else "pictures"
        return (
            f"A small neural network has looked at {many} and now draws pictures of its own, here in your browser. "
            "Nothing is downloaded or sent."
        )

    def metrics(self) -> dict[str, float]:
        return {figure.key: figure.value for figure in self.figures}

    def lines(self) -> list[str]:
        """For the page."""
        config, (height, width, channels) = self.config, self.config.image_shape
        prior = {"normal": "N(0, 1)", "uniform": "uniform"}[config.latent]
        lines = [
            f"DCGAN, step {self.step:,}",
            f"{height}×{width} {_COLOURS.get(channels, f'{channels} channels')}",
            f"width {config.outer_width}",
            f"{config.latent_dim} latent numbers, {prior}",
        ]
        shown = [figure for figure in self.figures if figure.metric in ("kid", "fd")]
        return lines + [f"{figure.name} {figure.value:.4g}" for figure in shown]


def _facts(folder: RunFolder, params: GeneratorParams) -> _Facts:
    assert params.step is not None  # a run's
    step, config = int(params.step), folder.config()
    name = printable(Path(config.data).stem or config.data if "/" in config.data else config.data)
    count = (folder.images_then() or {}).get("count", 0)
    return _Facts(name, count, step, config, figures_of_step(folder, step), read_record(folder))


def _missing() -> list[Format]:
    return [name for name, library in _LIBRARIES.items() if library and not importlib.util.find_spec(library)]


def _check(formats: Sequence[Format] | None, push: str | None, license: str | None) -> None:
    """Refuse what cannot be made here, before the work."""
    for name in formats or ():
        if name not in _LIBRARIES:
            raise InputError(f"format {name!r} is unknown: choose {' or '.join(get_args(Format))}")
        if name in _missing():
            raise InputError(f"{name} needs a library that is not installed: {_INSTALL}")
    if push is None:
        if license is not None:
            raise InputError("license is for the model card: give --push too, or leave it out")
        return
    if license is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license):
        raise InputError(f"license {license!r} is not as the Hub names them: such as mit, cc-by-4.0 or other")
    if push.count("/") != 1:
        raise InputError(f"push {push!r} is not USER/NAME")
    if formats is not None and "safetensors" not in formats:
        raise InputError("--push needs safetensors among the --formats: it is what others restore")
    if not (importlib.util.find_spec("huggingface_hub") and importlib.util.find_spec("safetensors")):
        raise InputError(f"--push needs libraries that are not installed: {_INSTALL_HUB}")


def _chosen(formats: Sequence[Format] | None, params: GeneratorParams) -> list[Format]:
    """The formats to write: those asked for, or else all that are possible."""
    if formats is not None:
        return list(dict.fromkeys(formats))
    if type(params.generator) is not Generator:
        if "safetensors" in _missing():
            raise InputError(f"safetensors needs a library that is not installed: {_INSTALL}")
        print("left out: html, onnx (they hold the built-in Generator only)")
        return ["safetensors"]
    if missing := _missing():
        print(f"left out: {', '.join(missing)} (to have it too: {_INSTALL})")
    return [name for name in _LIBRARIES if name not in missing]


def _check_start(formats: Sequence[Format] | None, discriminator: Any, precision: Any) -> None:
    """Refuse what only a safetensors file can hold, if there is none."""
    if type(discriminator) is not bool:
        raise InputError(f"discriminator {repr(discriminator)[:40]} must be True or False: whether the file has it")
    if precision not in get_args(portable.Precision):
        raise InputError(f"precision {precision!r} is unknown: choose {' or '.join(get_args(portable.Precision))}")
    if (discriminator or precision != "float32") and formats is not None and "safetensors" not in formats:
        flag = "--discriminator" if discriminator else f"--precision {precision}"
        raise InputError(f"{flag} is for generator.safetensors: add safetensors to the --formats, or leave it out")


def _more(folder: RunFolder, facts: _Facts, discriminator: bool) -> dict[str, Any]:
    """What a safetensors file has beside the generator and its figures."""
    more: dict[str, Any] = {} if facts.init is None else {"init": str(facts.init)}
    if discriminator:
        more["others"], more["settings"] = discriminators(folder.path, facts.config, facts.step)
    return more


def _content(name: Format, params: GeneratorParams, facts: _Facts, **more: Any) -> tuple[str, bytes]:
    """A file: its name, and what is in it."""
    if name == "safetensors":
        return portable.NAME, portable.to_safetensors(params, facts.metrics(), **more)
    network = folded(params)
    if name == "html":
        title = f"{facts.name}, drawn by a neural network"
        words = {"title": title, "introduction": facts.introduction(), "facts": facts.lines()}
        more = {"weights": latents.digest(params), "latent": params.latent, "classes": params.classes}
        page = explorer(_shown(network, facts.config), **words, **more)
        return "explorer.html", page.encode()
    if name == "onnx":
        from dcgan_jax.share.onnx_graph import onnx_graph  # an extra

        properties = {"step": facts.step, "latent": params.latent.distribution, "metrics": facts.metrics()}
        if has_alpha(facts.config.channels):
            properties["alpha"] = "premultiplied"
        if params.classes:
            properties["classes"] = params.classes.names
        written = {key: json.dumps(value) for key, value in properties.items()}
        return "generator.onnx", onnx_graph(network, written, classes=len(params.classes))
    assert_never(name)


def _shown(network: Folded, config: Config) -> Folded:
    """The network that draws the channels that pictures show."""
    *others, last = network.layers
    numbers = visible(np.arange(len(last.bias)), config.show)
    return network._replace(layers=[*others, last._replace(kernel=last.kernel[..., numbers], bias=last.bias[numbers])])


def _push(
    repository: str,
    folder: RunFolder,
    params: GeneratorParams,
    facts: _Facts,
    files: dict[str, bytes],
    license: str,
) -> str:
    """Upload the files with a model card; returns the address."""
    if folder.report.exists():
        with reading(folder.report):
            files = {**files, folder.report.name: read_bytes(folder.report)}
    buffer = io.BytesIO()
    if params.classes:
        picture = show(sheet(params, random_key(0)), columns=COLUMNS, channels=facts.config.show)  # a row for each
    else:
        picture = show(sample(params, random_key(0), 36), channels=facts.config.show)
    picture.save(buffer, "PNG")
    files = {**files, "samples.png": buffer.getvalue()}
    rows = [figure.row() for figure in facts.figures]
    own = "" if type(params.generator) is Generator else type(params.generator).__name__
    results = [
        (one.metric, one.name, one.value) for one in facts.figures if one.floor is not None or one.metric == "fid"
    ]
    card = hub.model_card(
        repository,
        facts.title(),
        facts.config,
        rows,
        list(files),
        own=own,
        data=facts.name,
        results=results,
        license=license,
        init=str(facts.init or ""),
        classes=params.classes.names,
    )
    return hub.push(repository, {"README.md": card.encode(), **files}, f"Step {facts.step}")
