"""Downloads: one file with pooch, data sets with tensorflow-datasets and with datasets of Hugging Face."""

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests

from dcgan_jax.data.tables import LABELS, Columns, chosen, content
from dcgan_jax.system.disk import writing
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import locked, open_regular, parse_json, read_bytes, write_text


def download(urls: Sequence[str], sha1: str, target: Path) -> Path:
    """Download a file once, from the first of ``urls`` that works; ``target`` exists only complete and checked.

    Raises:
      InputError: no network, a broken transfer, or a wrong checksum, also of a file that was put there by hand.
    """
    with locked(target.parent.with_name("locks") / f"{target.name}.lock"), writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        partial.unlink(missing_ok=True)  # a killed process left it
        failure = None
        for url in urls if not target.exists() else ():
            try:
                print(f"downloading {url}", file=sys.stderr)
                pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 20, timeout=60)(url, str(partial), None)
                if (actual := _hash(partial, "sha1")) == sha1:
                    partial.rename(target)
                    break
                failure = f"{url} has SHA-1 {actual}, not {sha1}"
            except requests.RequestException as error:
                failure = f"{url} could not be downloaded ({first_line(error)})"
            finally:
                partial.unlink(missing_ok=True)
        else:
            if failure:
                raise InputError(f"{failure}: try again, or put the file at {target} yourself")
        # SHA-1 can be forged. What has passed it once, over https, is recognised by SHA-256 from then on.
        learned, sha256 = target.with_name(f"{target.name}.sha256"), _hash(target, "sha256")
        if (actual := _hash(target, "sha1")) != sha1 or (learned.exists() and read_bytes(learned) != sha256.encode()):
            raise InputError(f"{target} has SHA-1 {actual}, not {sha1}, or was changed: delete it and {learned}")
        if not learned.exists():
            write_text(learned, sha256)
    return target


def _hash(path, kind):
    with open_regular(path) as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _is_reachable(urls: Iterable[str]) -> bool:
    """Whether a server of ``urls`` answers; tensorflow-datasets itself would try for minutes."""
    hosts = {urlsplit(url).netloc: url for url in urls if url.startswith("http")}
    for url in list(hosts.values())[:3]:
        with contextlib.suppress(requests.RequestException):
            requests.head(url, timeout=5)
            return True
    return not hosts


def _interruptibly(function: Callable[[], object]) -> None:
    """Call it in a thread that nobody waits for: Ctrl-C would otherwise wait for its downloads."""
    failed = []

    def work():
        try:
            function()
        except BaseException as error:  # raised below
            failed.append(error)

    thread = threading.Thread(target=work, name="tfds", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if failed:
        raise failed[0]


def tensorflow_dataset(spec: str, cache: Path) -> tuple[str, list[str], int, Callable[[], Iterator]]:
    """Open ``NAME[/CONFIG][:VERSION][:SPLIT]`` of tensorflow-datasets, the split ``train`` by default.

    Returns:
      Its full name with the split, facts that change with its content, the number of pictures, and a
      function that yields each as uint8 (H, W) or (H, W, C) with its label.

    Raises:
      InputError: there is no such data set or split, it has no images, or it cannot be prepared.
    """
    parts = re.fullmatch(r"([^:]+(?::[\d.*]+)?)(?::(.+))?", spec)
    if not parts:
        raise InputError(f"--data tfds:{spec} is not of the form tfds:NAME[/CONFIG][:VERSION][:SPLIT]")
    builder, split = _prepared(spec, parts[1], cache), parts[2] or "train"
    features = builder.info.features
    if "image" not in features:
        raise InputError(f"--data tfds:{spec} has no feature 'image', only {', '.join(features)}")
    try:
        dataset = builder.as_dataset(split=split)
    except (KeyError, ValueError):
        splits = ", ".join(builder.info.splits)
        raise InputError(f"--data tfds:{spec}: there is no split {split!r}; there are {splits}") from None
    count = int(dataset.cardinality())
    to_name = getattr(features["label"] if "label" in features else None, "int2str", str)  # noqa: SIM401 - it has no get

    def examples():
        for example in dataset.as_numpy_iterator():
            pixels = example["image"]
            label = to_name(example["label"]) if "label" in example else ""
            yield np.squeeze(pixels, -1) if pixels.shape[-1] == 1 else pixels, label

    full_name = f"{builder.info.full_name}-{split}"
    return f"tfds-{full_name}", [full_name, str(count), str(builder.data_dir)], count, examples


def _prepared(spec: str, name: str, cache: Path) -> Any:
    """The builder of a data set, all of whose files are there."""
    if missing := [name for name in ("tensorflow", "tensorflow_datasets") if not importlib.util.find_spec(name)]:
        install = "python -m pip install tensorflow tensorflow-datasets"
        raise InputError(f"--data tfds:{spec} needs {' and '.join(missing)}: {install}")
    import tensorflow_datasets as tfds

    builder: Any
    try:
        with locked(cache / "locks" / f"tfds-{re.sub(r'[^A-Za-z0-9]+', '-', name)[:80]}.lock"):  # tfds has no lock
            folder = None if "TFDS_DATA_DIR" in os.environ else str(cache / "tfds")
            builder = tfds.builder(name, data_dir=folder)
            if not builder.data_path.exists() and not _is_reachable(builder.url_infos or {}):
                raise InputError(f"--data tfds:{spec} cannot be downloaded: connect to the network")
            _interruptibly(builder.download_and_prepare)
    except tfds.core.DatasetNotFoundError:
        raise InputError(f"--data tfds:{spec}: tensorflow-datasets has no data set {name!r}") from None
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        raise InputError(
            f"--data tfds:{spec} cannot be prepared ({type(error).__name__}): {first_line(error)}"
        ) from None
    return builder


def hub_rows(name: str, split: str, column: str, cache: Path) -> tuple[int, Callable[[], Iterator]]:
    """Open a set on the Hub of Hugging Face, whose rows are streamed: nothing but the decoded images is kept.

    What has once been opened needs no network, as long as its images are in the cache.

    Returns:
      The number of pictures, 0 if the Hub does not say it; and a function that yields each, as bytes, with its label.

    Raises:
      InputError: there is no such set, split or column, ``datasets`` is not installed, or there is no network.
    """
    spec = f"--data hf:{name}:{split}"
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"{spec} needs one more package: python -m pip install 'dcgan_jax[datasets]'")
    noted = cache / "hub" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', f'{name}-{split}-{column}')}.json"
    if not noted.exists():
        *_, count = _hub(spec, name, split, column)
        with writing(noted):
            noted.parent.mkdir(parents=True, exist_ok=True)
            write_text(noted, json.dumps(count))
    count = parse_json(read_bytes(noted))

    def rows():
        data, columns, _ = _hub(spec, name, split, column)
        try:
            for row in data:
                label = columns.text(row[columns.label]) if columns.label else ""
                picture = content(row[columns.image])
                yield (picture if isinstance(picture, bytes) else None), label  # a path would be one of this machine
        except Exception as error:  # its libraries raise anything where the network fails
            raise InputError(f"{spec} cannot be read any more ({first_line(error)}): run the same again") from error

    return count, rows


def _hub(spec: str, name: str, split: str, column: str) -> tuple[Any, Columns, int]:
    import datasets

    if not _is_reachable([os.environ.get("HF_ENDPOINT", "https://huggingface.co")]):
        raise InputError(f"{spec} cannot be reached: connect to the network, or give a folder of it as hf:FOLDER")
    try:
        data: Any = datasets.load_dataset(name, split=split, streaming=True)
        features: Any = data.features or dict.fromkeys(next(iter(data)))
    except Exception as error:  # its libraries raise anything of their own
        raise InputError(f"{spec} cannot be opened ({type(error).__name__}): {first_line(error)}") from None
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    image = chosen(spec, images, list(features), column)
    named = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    label = next(iter(named), next((key for key in LABELS if key in features), ""))
    names = getattr(features.get(label), "names", [])
    data = data.select_columns([image, *([label] if label else [])]).cast_column(image, datasets.Image(decode=False))
    splits: Any = data.info.splits or {}
    count = getattr(splits.get(split), "num_examples", 0) or 0
    return data, Columns(image, label, names), count
