"""Which files of a folder or an archive are pictures to learn from, and which label each has."""

import os
import re
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from dcgan_jax.data import idx
from dcgan_jax.system.errors import InputError, printable

DRAWN = b"Software\0dcgan_jax"
"""Written into pictures that were drawn by a network, so that none is learned by mistake."""

ENDINGS = set(".png .jpg .jpeg .jpe .jfif .gif .webp .bmp .tif .tiff .ppm .pgm .pbm .avif .tga .jp2".split())

# What systems and programs put beside pictures, in lower case. What begins with a dot is hidden, and ignored too.
_SIDE_FOLDERS = {
    *("__macosx", "lost+found", "lost.dir"),
    *("$recycle.bin", "recycler", "system volume information", "windows photo gallery"),
    *("@eadir", "#recycle", "@recycle", "@__thumb", "#snapshot", "@recently-snapshot", "~snapshot"),  # NAS
    "captureone",
}
_SIDE_FOLDER_ENDINGS = (".lrdata", ".lrcat-data", ".cocatalogdb")  # previews and catalogues of Lightroom, Capture One
_LIBRARY_ENDINGS = (".photolibrary", ".photoslibrary", ".migratedphotolibrary", ".aplibrary")
_LIBRARY_PARTS = {"thumbnails", "previews", "resources", "database", "private", "internal", "faces", "derivatives"}
_THUMBNAILS = {"thumbnails", "thumbs"}
_SIDE_FILES = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "zbthumbnail.info", "descript.ion"),
    *("icon\r", ".ds_store", ".localized", ".apdisk", ".picasa.ini", ".nomedia"),
}
_SIDE_NAME = re.compile(r"(synophoto_thumb|synoindex_|albumart(small|_\{)|~\$)")
_SIDE_ENDINGS = set(".xmp .aae .thm .pp3 .dop .vrd .nksc .cos .arp .lrcat .lrprev .lnk".split())

_HINTS = {
    ".heic .heif": (
        "to learn from .heic too convert them, for example, with libheif's command: "
        'for f in *.[Hh][Ee][Ii][Cc]; do heif-convert "$f" "$f.jpg"; done'
    ),
    ".zip": "a .zip is read if it is given as --data itself",
    ".tar .tgz": "a .tar is read if it is given as --data itself",
    ".gz .rar .7z": "other archives are read when they are unpacked",
    ".npy .npz .parquet .arrow .h5 .hdf5": (
        "arrays and tables are read if one, or a folder of nothing else, is given as --data itself"
    ),
}
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
_SHOWN = 8  # kinds of ignored files


def walk(root: Path) -> list[str]:
    """The names of all files below a folder, relative to it with slashes. Links to folders are followed, but no folder
    is entered twice, nor one that ``root`` lies in.

    Raises:
      InputError: a folder cannot be read.
    """

    def refuse(error):
        if not _side(PurePosixPath(os.path.relpath(error.filename, root), "x")):  # such as lost+found
            raise InputError(f"{error.filename} cannot be read: {error.strerror}")

    def first(path):
        """The path by which the same folder was found first."""
        facts = path.stat()
        return entered.setdefault((facts.st_dev, facts.st_ino), path)

    def enter(start):
        for folder, folders, files in os.walk(start, onerror=refuse):
            names.extend(Path(folder, file).relative_to(root).as_posix() for file in files)
            paths = {name: Path(folder, name) for name in sorted(folders)}
            links.extend(path for path in paths.values() if path.is_symlink())
            folders[:] = [name for name, path in paths.items() if not path.is_symlink() and first(path) == path]

    names, links, circles = [], deque(), 0
    entered: dict[tuple[int, int], Path] = {}
    for folder in (root, *root.resolve().parents):
        first(folder)
    enter(root)
    while links:  # after the folders that lie here, so that these keep their names
        path = links.popleft()
        try:
            new = first(path) == path
        except OSError as error:
            refuse(error)
            continue
        circles += not new
        if new:
            enter(path)
    if circles:
        print(
            printable(f"ignored {circles} links in {root} to folders that are read already or hold it"), file=sys.stderr
        )
    return names


def slashed(names: Iterable[str]) -> Callable[[str], str]:
    """How the names of an archive are read: with ``\\`` as the separator where none has a ``/``, as on Windows."""
    if any("/" in name for name in names):
        return lambda name: name
    return lambda name: name.replace("\\", "/")


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture of a known format."""
    return PurePosixPath(name).suffix.lower() in ENDINGS


def pictures(names: Iterable[str], where: Path, *, read_as: Callable[[str], str] = str) -> list[str]:
    """The names of pictures, sorted. Prints how many other files there are, of which kinds.

    Raises:
      InputError: there are none; the message says what there is.
    """
    chosen, ignored, names = [], Counter(), list(names)
    runs = _runs(map(read_as, names))
    for name in names:
        path = PurePosixPath(read_as(name))
        if run := next((folder for folder in path.parents if folder in runs), None):
            ignored[f"of the run in {run}"] += 1
        elif side := _side(path):
            ignored[side] += 1
        elif path.suffix.lower() in ENDINGS:
            chosen.append(name)
        else:
            ignored[path.suffix.lower() or "without an extension"] += 1
    small = {name: folder for name in chosen if (folder := _thumbnails(PurePosixPath(read_as(name))))}
    if len(small) < len(chosen):  # else they are what is to be learned
        ignored.update(f"in {folder}" for folder in small.values())
        chosen = [name for name in chosen if name not in small]
    commonest = sorted(ignored.items(), key=lambda kind: (-kind[1], kind[0]))
    said = ", ".join(f"{count:,} {kind}" for kind, count in commonest[:_SHOWN]) + ", …" * (len(ignored) > _SHOWN)
    hints = "".join(f"; {hint}" for kinds, hint in _HINTS.items() if any(kind in ignored for kind in kinds.split()))
    if not chosen:
        if any(map(idx.is_images, map(read_as, names))):
            hints = "; to learn from IDX files unpack the archive, and give the folder as --data"
        wanted = "wanted files like .png, .jpg or .webp"
        raise InputError(f"{where} holds no images: found {said or 'nothing'}; {wanted}{hints}")
    if ignored:
        print(printable(f"ignored {said} in {where}{hints}"), file=sys.stderr)
    return sorted(chosen)


def _runs(names: Iterable[str]) -> set[PurePosixPath]:
    """The folders of runs: their pictures were drawn, and are not to be learned."""
    beside = {}
    for path in map(PurePosixPath, names):
        beside.setdefault(path.parent, set()).add(path.name)
    return {folder for folder, files in beside.items() if {"config.json", "images.json", "metrics.jsonl"} <= files}


def _side(path: PurePosixPath) -> str | None:
    """What a file is called that a system or a program put beside the pictures; None for others."""
    *folders, name = path.parts or [""]
    library = False
    for folder in folders:
        low = folder.lower()
        if low in _SIDE_FOLDERS or low.endswith(_SIDE_FOLDER_ENDINGS) or (library and low in _LIBRARY_PARTS):
            return f"in {folder}"
        if folder.startswith(".") and folder != "..":
            return f"in {folder}"
        library = library or low.endswith(_LIBRARY_ENDINGS) or low == "iphoto library"
    low = name.lower()
    if low.startswith("._"):
        return "._*"
    if low in _SIDE_FILES:
        return name
    if low.startswith("."):
        return "hidden"
    if match := _SIDE_NAME.match(low):
        return f"{name[: match.end()]}*"
    return path.suffix.lower() if path.suffix.lower() in _SIDE_ENDINGS else None


def _thumbnails(path: PurePosixPath) -> str | None:
    return next((folder for folder in path.parts[:-1] if folder.lower() in _THUMBNAILS), None)


def is_drawn(content: bytes) -> bool:
    """Whether a file says, by our ``DRAWN``, that it was drawn by a network."""
    return DRAWN in content[:2048] or DRAWN in content[-256:]


def folders(names: Iterable[str]) -> int:
    """In how many folders these files lie."""
    return len({PurePosixPath(name).parent for name in names})


def labels(names: Iterable[str]) -> list[str]:
    """The label of each name: its folder at the first level where folders differ, "" if it has none there.

    A level of which all folders are called train, test and the like is passed over.
    """
    paths = [PurePosixPath(name).parts[:-1] for name in names]
    level = _level(paths)
    return [parts[level] if level < len(parts) else "" for parts in paths]


def _level(paths):
    deepest = max(map(len, paths), default=0)
    for with_none in (False, True):  # first as if files that lie higher were not there
        for level in range(deepest):
            kinds = {parts[level] if level < len(parts) else "" for parts in paths if with_none or level < len(parts)}
            if len(kinds) > 1 and not {kind.lower() for kind in kinds} <= _SPLITS:
                return level
    return max(deepest - 1, 0)
