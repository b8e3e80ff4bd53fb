"""Runs on the Hugging Face Hub: the only file that imports huggingface_hub. HF_ENDPOINT and HF_TOKEN are its own."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from dcgan_jax.config import Config
from dcgan_jax.system.errors import InputError, first_line, printable


@contextlib.contextmanager
def _explained(action: str):
    try:
        from huggingface_hub.errors import (
            HfHubHTTPError,  # an OSError
            HFValidationError,
            HTTPError,  # pyright: ignore[reportPrivateImportUsage] - that of the HTTP library it uses
        )
    except ImportError:
        raise InputError("the Hub needs one more package: python -m pip install huggingface_hub") from None
    try:
        yield
    except (HFValidationError, HTTPError, OSError) as error:
        refused = isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403)
        remedy = " (log in with: hf auth login)" if refused else ""
        raise InputError(f"cannot {action}: {first_line(error)}{remedy}") from error


def download(repository: str, name: str) -> Path:
    """A file of ``USER/NAME`` in the Hub's own cache.

    Raises:
      InputError: it is not there, or cannot be fetched.
    """
    with _explained(f"download {name} of {repository}"):
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(repository, name))


def push(repository: str, files: dict[str, bytes], message: str) -> str:
    """Upload files to ``USER/NAME``, made if it does not exist, as one commit; returns its address.

    Raises:
      InputError: this is not allowed, or there is no connection.
    """
    with _explained(f"upload to {repository}"):
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi()
        address = hub.create_repo(repository, exist_ok=True)
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        hub.create_commit(repository, added, commit_message=message)
        return str(address)


def _plain(text: str) -> str:
    """Text that means nothing else in Markdown."""
    return re.sub(r"[\\`*\[\]{}<>#|!~&]", r"\\\g<0>", printable(text))


_DESCRIPTIONS = {
    "samples.png": "![Samples](samples.png)",
    "explorer.html": "`explorer.html`: download and open it. It draws images in your browser.",
    "report.html": "`report.html`: how training went.",
    "generator.onnx": "`generator.onnx`: `z` (N, latent_dim) -> `images` (N, H, W, C) in [-1, 1].",
}
"""What each file of a repository is, for its README."""


_TASK = "unconditional-image-generation"


def _for_the_hub(title: str, data: str, results: Sequence[tuple[str, str, float]], license: str, init: str) -> str:
    """What the Hub reads of a model card, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    name = printable(data) or "images"
    shown = [
        EvalResult(
            task_type=_TASK,
            dataset_type=re.sub(r"[^\w./-]+", "-", name.removeprefix("tfds:")),
            dataset_name=name,
            metric_type=metric,
            metric_name=full_name,
            metric_value=round(value, 6),
        )
        for metric, full_name, value in results
    ]
    return ModelCardData(
        license=license,
        base_model=base[1] if (base := re.match(r"hf:([\w.-]+/[\w.-]+) ", init)) else None,
        library_name="dcgan_jax",
        pipeline_tag=_TASK,
        tags=["dcgan", "gan", "jax", "flax"],
        metrics=sorted({metric for metric, _, _ in results}) or None,
        model_name=printable(title),
        eval_results=shown or None,
    ).to_yaml()


_SETTINGS = "image_size channels width latent_dim latent batch_size learning_rate beta1 precision seed".split()


def model_card(
    repository: str,
    title: str,
    config: Config,
    figures: Sequence[tuple[str, str, str]],
    names: list[str],
    *,
    own: str = "",
    data: str = "",
    results: Sequence[tuple[str, str, float]] = (),
    license: str = "unknown",
    init: str = "",
    classes: Sequence[str] = (),
) -> str:
    """The README.md of a repository with the files ``names``. It holds no path of this machine.

    Args:
      figures: what is known of this step: full name, value, what real images get.
      own: the class of the generator, if it is not the built-in one.
      data: what the images are called.
      results: those of the figures that say how good it is: metric, full name, value. The Hub shows them.
      license: of the weights, as the Hub names it.
      init: the model that training started from, if there is one.
      classes: of a conditional run, in the order of their labels.
    """
    given = f", generator={own}(...)" if own else ""
    present = "\n\n".join(text for name, text in _DESCRIPTIONS.items() if name in names)
    if classes:
        present = present.replace("`z` (N, latent_dim) ->", "`z` (N, latent_dim), `labels` (N,), int64 ->")
    return f"""---
{_for_the_hub(title, data, results, license, init)}
---

# {_plain(title)}

A DCGAN generator, trained with dcgan_jax{f", starting from {_plain(init)}" if init else ""}.

{present}

```python
import jax
from dcgan_jax import restore, sample

images = sample(restore("hf:{repository}"{given}), jax.random.key(0){", labels=0" * bool(classes)})  # floats in [-1, 1]
```

{_tables(config, classes, figures)}"""


def _tables(config: Config, classes: Sequence[str], figures: Sequence[tuple[str, str, str]]) -> str:
    """The settings, and the figures."""
    shown = {name: getattr(config, name) for name in _SETTINGS}
    if classes:
        shown["classes: `labels=`"] = ", ".join(f"{i} = {_plain(name)}" for i, name in enumerate(classes))
    settings = "".join(f"| {name} | {value} |\n" for name, value in shown.items())
    rows = "".join(f"| {' | '.join(map(_plain, row))} |\n" for row in figures)
    return f"""| setting | |
|---|---|
{settings}
| figure at this step | value | real images |
|---|---|---|
{rows}"""
