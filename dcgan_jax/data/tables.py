"""Pictures in columns of tables: Parquet files, what ``datasets`` of Hugging Face saves, and its Hub."""

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dcgan_jax.system.disk import reading
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import open_regular, parse_json, read_text

_ROWS = 16  # that are in memory at a time, where a file does not have fewer or more together
_BUFFER = 1 << 20  # bytes
_USUAL = ("image", "img", "picture", "jpg", "png")
LABELS = ("label", "labels", "class", "fine_label")
"""Usual names of columns of labels."""


class Columns(NamedTuple):
    """Which columns of a table hold the pictures and their labels ("" for none), and what numbers of labels mean."""

    image: str
    label: str
    names: list[str]

    def text(self, value: Any) -> str:
        """A label in words; "" for none."""
        if value is None or value == -1:
            return ""
        if isinstance(value, int) and 0 <= value < len(self.names):
            return self.names[value]
        return str(value)


class Table(NamedTuple):
    """Files that make one table, all of one kind, and its columns."""

    files: list[Path]
    columns: Columns
    count: int


def _library(name: str, needed: str) -> Any:
    if importlib.util.find_spec(name) is None:
        raise InputError(f"{needed} needs one more package: python -m pip install 'dcgan_jax[datasets]'")
    return importlib.import_module(name)


def tables_of(root: Path, names: list[str], split: str) -> list[Path]:
    """The files of a table in a folder: of a split, by default ``train``; none if it holds no table.

    Raises:
      InputError: there is no such split, or several and none is called train.
    """
    if (root / "dataset_dict.json").is_file():  # of DatasetDict.save_to_disk
        splits = [path.name for path in sorted(root.iterdir()) if (path / "state.json").is_file()]
        folder = root / _split(root, splits, split)
        return tables_of(folder, [path.name for path in folder.iterdir()], "")
    if (root / "state.json").is_file():  # of Dataset.save_to_disk
        state = parse_json(read_text(root / "state.json"))
        return [root / one["filename"] for one in state["_data_files"]]
    files = sorted(name for name in names if name.lower().endswith(".parquet"))
    by_split: dict[str, list[Path]] = {}
    for name in files:
        by_split.setdefault(_split_of(name), []).append(root / name)
    return by_split[_split(root, list(by_split), split)] if files else []


def _split_of(name: str) -> str:
    """The split that the name of a Parquet file says, as train-00000-of-00002.parquet; "" if it says none."""
    match = re.search(r"(?:^|[/_.-])(train|test|validation|valid|val|dev)(?=[/_.-])", name)
    return match[1] if match else ""


def _split(root: Path, splits: list[str], wanted: str) -> str:
    if wanted in splits:
        return wanted
    if not wanted and (len(splits) == 1 or "train" in splits):
        return "train" if "train" in splits else splits[0]
    choices = ", ".join(one or "without a name" for one in splits)
    raise InputError(f"{root} has the splits {choices}: give one of them as --data hf:{root}:SPLIT")


def table(files: list[Path], column: str) -> Table:
    """What a table holds.

    Raises:
      InputError: a file cannot be read, or no column, or not just one, holds pictures, or a file has other columns.
    """
    with _readable(files[0]):
        columns = _columns(files[0], _schema(files[0]), column)
    count = 0
    for path in files:
        with _readable(path):
            if missing := {columns.image, columns.label} - {"", *_schema(path).names}:
                raise InputError(
                    f"{path} has no column {min(missing)}, but {files[0]} has one: keep the files of one table"
                )
            count += _count(path)
    return Table(files, columns, count)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    arrow = _library("pyarrow", str(path))
    try:
        with reading(path):
            yield
    except (arrow.ArrowException, KeyError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as a table ({first_line(error)}): get it again") from None


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _schema(path: Path) -> Any:
    with open_regular(path) as file:
        if _is_parquet(path):
            return importlib.import_module("pyarrow.parquet").read_schema(file)
        return importlib.import_module("pyarrow.ipc").open_stream(file).schema


def _count(path: Path) -> int:
    with open_regular(path) as file:
        if _is_parquet(path):
            return importlib.import_module("pyarrow.parquet").ParquetFile(file).metadata.num_rows
        return sum(batch.num_rows for batch in importlib.import_module("pyarrow.ipc").open_stream(file))


def _columns(path: Path, schema: Any, wanted: str) -> Columns:
    metadata = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    kinds = {name: feature.get("_type", "") for name, feature in features.items() if isinstance(feature, dict)}
    images = [field.name for field in schema if kinds.get(field.name) == "Image" or _may_hold_pictures(field.type)]
    label = next((name for name in LABELS if name in schema.names), "")
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), label)
    image = chosen(str(path), images, schema.names, wanted)
    kind = str(schema.field(image).type)
    if not kind.startswith(("struct", "binary", "large_binary", "string", "large_string")):
        raise InputError(f"{path} holds {kind} in its column {image}, not files of pictures: give another --column")
    return Columns(image, label, features.get(label, {}).get("names", []))


def _may_hold_pictures(kind: Any) -> bool:
    """Whether a column is of bytes, or of files as ``datasets`` has them."""
    return str(kind) in ("binary", "large_binary") or str(kind).startswith("struct<bytes: binary")


def chosen(name: str, images: list[str], every: list[str], wanted: str) -> str:
    """The column of pictures: the one that is wanted, the only one, or the one that is called so.

    Raises:
      InputError: there is none, or it is not clear which.
    """
    if wanted and wanted in every:
        return wanted
    usual = [column for column in _USUAL if column in images]
    if wanted or not images:
        raise InputError(f"{name} has no column {wanted or 'of pictures'}, only {', '.join(every)}: give --column")
    if len(images) > 1 and not usual:
        raise InputError(f"{name} has several columns of pictures ({', '.join(images)}): name one with --column")
    return images[0] if len(images) == 1 else usual[0]


def rows(one: Table) -> Iterator[tuple[Any, str]]:
    """Each picture, as bytes or the path of its file, with its label; a few rows are in memory at a time.

    Raises:
      InputError: a file cannot be read any more.
    """
    columns = one.columns
    for path in one.files:
        with _readable(path), open_regular(path) as file:
            for batch in _batches(path, file, [columns.image, *([columns.label] if columns.label else [])]):
                labels = batch.column(columns.label) if columns.label else [None] * batch.num_rows
                for image, label in zip(batch.column(columns.image), labels, strict=True):
                    text = columns.text(label.as_py() if label is not None else None)
                    yield content(image.as_py()), text


def content(value: Any) -> bytes | str | None:
    """The bytes of a picture in a cell, or the path of its file; None of an empty one."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return value if isinstance(value, bytes | str) else None


def _batches(path: Path, file: Any, columns: list[str]) -> Iterator[Any]:
    if _is_parquet(path):
        reader = importlib.import_module("pyarrow.parquet").ParquetFile
        parquet = reader(file, buffer_size=_BUFFER, pre_buffer=False)  # else a whole group of rows, often all, is read
        yield from parquet.iter_batches(batch_size=_ROWS, columns=columns)
    else:
        for batch in importlib.import_module("pyarrow.ipc").open_stream(file):
            yield batch.select(columns)
