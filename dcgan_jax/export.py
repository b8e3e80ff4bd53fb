"""Share a trained generator: ``python -m dcgan_jax.export --workdir runs/ --out DIR``.

explorer.html draws images in any browser, generator.safetensors is what restore reads, generator.onnx is for others."""

import dataclasses
import importlib.util
import io
import json
from pathlib import Path
from typing import Literal

from dcgan_jax import cli
from dcgan_jax.system.errors import InputError, printable
from dcgan_jax.system.files import read_bytes, reading, write_bytes, writing

Format = Literal["html", "safetensors", "onnx"]
_LIBRARIES: dict[Format, str | None] = {"html": None, "safetensors": "safetensors", "onnx": "onnx"}
_INSTALL = "python -m pip install 'dcgan_jax[export]'"
_INSTALL_HUB = "python -m pip install 'dcgan_jax[export,hub]'"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The flags of ``export``."""

    workdir: Path
    """Folder of the run."""
    out: Path
    """Folder for the files, made if it does not exist. Overwrites explorer.html and generator.* in it."""
    formats: tuple[Format, ...] | None = None
    """Which files; by default all of them, safetensors and onnx if the extra "export" is installed."""
    step: int | Literal["best", "newest"] = "best"
    """Step of the checkpoint; by default the one that restore takes."""
    push: str | None = None
    """USER/NAME: upload the files to the Hugging Face Hub too, with samples, the report if there is one, and a model
    card. Needs the extra "hub". restore("hf:USER/NAME") reads it."""

    def __post_init__(self):
        if self.push is not None and self.push.count("/") != 1:
            raise InputError(f"push {self.push!r} is not USER/NAME")
        if self.push and self.formats is not None and "safetensors" not in self.formats:
            raise InputError("--push needs safetensors among the --formats: it is what others restore")

    def chosen(self) -> list[Format]:
        """The formats to write.

        Raises:
          InputError: one was asked for whose library is not installed.
        """
        missing = [name for name, library in _LIBRARIES.items() if library and not importlib.util.find_spec(library)]
        if self.push and not (importlib.util.find_spec("huggingface_hub") and importlib.util.find_spec("safetensors")):
            raise InputError(f"--push needs libraries that are not installed: {_INSTALL_HUB}")
        if self.formats is None:
            if missing:
                print(f"left out: {', '.join(missing)} (to have it too: {_INSTALL})")
            return [name for name in _LIBRARIES if name not in missing]
        if lacking := [name for name in self.formats if name in missing]:
            raise InputError(f"{lacking[0]} needs a library that is not installed: {_INSTALL}")
        return list(dict.fromkeys(self.formats))


def export(arguments: Arguments) -> None:
    """Write the files and name them with their sizes.

    Raises:
      InputError: the run cannot be restored, its generator is not the built-in one, or ``out`` cannot be written.
    """
    from dcgan_jax.run.checkpoints import restore
    from dcgan_jax.run.figures import figures_of_step
    from dcgan_jax.run.folder import RunFolder
    from dcgan_jax.share import hub, portable
    from dcgan_jax.share.explorer import explorer
    from dcgan_jax.share.folding import folded

    formats, out, folder = arguments.chosen(), RunFolder.output(arguments.out), RunFolder(arguments.workdir)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give --out a folder")
    params = restore(folder.path, arguments.step)
    layers, config = folded(params), folder.config()
    assert params.step is not None  # a run's
    step = int(params.step)
    known, title = figures_of_step(folder, step), f"{_title(config.data)}, step {step:,}"
    metrics = {figure.key: figure.value for figure in known}
    files: dict[str, bytes] = {}
    for name in formats:
        if name == "html":
            page = explorer(layers, latent=params.latent, title=title, facts=_facts(config, known))
            files["explorer.html"] = page.encode()
        elif name == "safetensors":
            files[portable.NAME] = portable.to_safetensors(params, metrics)
        else:
            from dcgan_jax.share.onnx_graph import onnx_graph

            about = {"step": step, "latent": params.latent.distribution, "metrics": metrics}
            files["generator.onnx"] = onnx_graph(layers, {key: json.dumps(value) for key, value in about.items()})
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_bytes(out / name, content)
    print("\n".join(f"{out / name}  {len(content) / 1e6:,.1f} MB" for name, content in files.items()))
    if arguments.push:
        if folder.report.exists():
            with reading(folder.report):
                files[folder.report.name] = read_bytes(folder.report)
        files["samples.png"] = _sheet(params)
        card = hub.model_card(arguments.push, title, config, [figure.row() for figure in known], list(files))
        print(hub.push(arguments.push, {"README.md": card.encode(), **files}, f"Step {step}"))


def _sheet(params) -> bytes:

    from dcgan_jax.gan.sampling import sample
    from dcgan_jax.system.xla import random_key
    from dcgan_jax.views.grid import show

    buffer = io.BytesIO()
    show(sample(params, random_key(0), 36)).save(buffer, "PNG")
    return buffer.getvalue()


def _title(data: str) -> str:
    return printable(Path(data).stem or data if "/" in data else data)


def _facts(config, known) -> list[str]:
    prior = {"normal": "N(0, 1)", "uniform": "uniform"}[config.latent]
    facts = [
        f"{config.image_size}×{config.image_size} {'RGB' if config.channels == 3 else 'grayscale'}",
        f"width {config.width}",
        f"{config.latent_dim} latent numbers, {prior}",
    ]
    shown = [figure for figure in known if figure.metric in ("kid", "fd")]
    return facts + [f"{figure.name} {figure.value:.4g}" for figure in shown]


def main() -> None:
    cli.run(export, cli.parse(Arguments, description=__doc__))


if __name__ == "__main__":
    main()
