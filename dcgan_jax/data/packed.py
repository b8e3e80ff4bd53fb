"""Sources whose pictures lie in other files: tables, .tar archives, and sets on the Hub of Hugging Face."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path

from dcgan_jax.data import remote, tables, tars
from dcgan_jax.data.listing import folders, labels, pictures
from dcgan_jax.data.sources import EXPANSION_LIMIT, Item, Source, digest, hub_name, read_file
from dcgan_jax.system.disk import mib, user_path
from dcgan_jax.system.errors import InputError


def table(place: Path, files: list[Path], column: str) -> Source:
    """The pictures in a column of Parquet files, or of what ``datasets`` saved.

    Raises:
      InputError: a file cannot be read, or it is not clear which column holds pictures.
    """
    one = tables.table(files, column)
    facts = [f"{path.name}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}" for path in files]

    def items():
        return _items(tables.rows(one))

    image = one.columns.image
    return Source(str(place.resolve()), digest([*facts, image]), one.count, items, column=image)


def _items(rows) -> Iterator[Item]:
    for i, (content, label) in enumerate(rows):
        read = functools.partial(_read, content)
        yield Item(f"row {i}", label, read, head=read)


def _read(content: bytes | str | None) -> bytes:
    if content is None:
        raise ValueError("an empty cell")
    return content if isinstance(content, bytes) else read_file(Path(content))


def tar(place: Path, paths: list[Path]) -> Source:
    """The pictures in .tar archives, with the labels of .cls files beside them; if there are none, of their folders.

    Raises:
      InputError: one cannot be read, claims to expand too far, or there are no pictures in them.
    """
    listed = {path: {entry.name: entry for entry in tars.entries(path)} for path in paths}
    for path, files in listed.items():
        declared = sum(entry.size for entry in files.values())
        if declared > EXPANSION_LIMIT * path.stat().st_size:
            raise InputError(f"{path} claims to expand to {mib(declared)}, more than images do")
    labelled = any(entry.label for files in listed.values() for entry in files.values())
    others = [name for files in listed.values() for name in files if not (labelled and tars.is_label(name))]
    names = pictures(others, place)
    wanted, of_folders = set(names), dict(zip(names, labels(names), strict=True))

    def items():
        for path, files in listed.items():
            for name, content in tars.read(path, wanted):
                label = files[name].label if labelled else of_folders[name]
                read = functools.partial(_content, content)
                yield Item(name, label, read, head=read)

    facts = [f"{path.name}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}" for path in paths]
    return Source(str(place.resolve()), digest(facts), len(names), items, folders(names))


def _content(content: bytes | None) -> bytes:
    if content is None:
        raise ValueError("too large")
    return content


def hugging_face(spec: str, column: str, cache: Path) -> Source:
    """``NAME[:SPLIT]`` of the Hub, or the same of a local folder.

    Raises:
      InputError: there is no such set, split or column, the package ``datasets`` is missing, or there is no network.
    """
    name, split = hub_name(spec)
    place = user_path(name)
    if place.is_dir():
        names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
        if files := tables.tables_of(place, names, split):
            return table(place, files, column)
        raise InputError(f"{place} holds no tables: give a folder that datasets saved, or one of .parquet files")
    if place.is_file():
        raise InputError(f"--data hf:{spec}: {place} is a file: give it without hf:, as --data {place}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"--data hf:{spec}: no such folder, and not NAME or USER/NAME of a set on the Hub")
    count, rows = remote.hub_rows(name, split or "train", column, cache)
    facts = [name, split, column]
    place = f"hf-{name.replace('/', '-')}-{split or 'train'}"
    return Source(place, digest(facts), count, lambda: _items(rows()), column=column)
