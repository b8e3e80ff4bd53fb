"""Imports point down from folder to folder, and each third-party API that changes often has one home."""

import ast
from pathlib import Path

import dcgan_jax

ROOT = Path(dcgan_jax.__file__).parent
FLOORS = (
    "system",
    "sizes",
    "config",
    "recipes",
    "pretrained",
    "gan",
    "data",
    "metrics",
    "views",
    "share",
    "run",
    "cli",
    "commands",
)
HOMES = {
    "orbax": {"run/trees.py", "system/cluster.py"},  # the latter for its barrier
    "tensorflow": {"data/pipeline.py", "metrics/inception.py"},  # the FID's network is a graph of it
    "tensorboardX": {"run/board.py"},
    "tensorflow_datasets": {"data/remote.py"},
    "pooch": {"data/remote.py"},
    "huggingface_hub": {"share/hub.py"},
    "datasets": {"data/remote.py"},
    "pyarrow": {"data/tables.py"},
    "h5py": {"data/hdf5.py"},
}
MATHEMATICS = {"jax", "flax", "optax", "numpy", "math", "functools", "dataclasses", "typing", "collections"}
BELOW_GAN = (
    "dcgan_jax.gan",
    "dcgan_jax.config",
    "dcgan_jax.sizes",
    "dcgan_jax.pretrained",  # reads the weights of a network that is frozen
    "dcgan_jax.system.errors",
    "dcgan_jax.system.xla",
    "dcgan_jax.system.amx",  # products that a CPU has units for
)  # no files, no clocks


def floor(name):
    """``run/loop.py`` stands on the floor ``run``; a file of the top folder is a floor of its own or a command."""
    first = name.split("/")[0].removesuffix(".py")
    return FLOORS.index(first if first in FLOORS else "commands")


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    for path in ROOT.rglob("*.py"):
        if path != ROOT / "__init__.py":
            yield path.relative_to(ROOT).as_posix(), list(imports(path))


def test_imports_point_down():
    for name, targets in modules():
        for target in targets:
            if target.startswith("dcgan_jax."):
                assert floor(target.removeprefix("dcgan_jax.").replace(".", "/")) <= floor(name), (
                    f"{name} imports {target}"
                )


def test_churning_apis_have_one_home():
    for name, targets in modules():
        for target in targets:
            assert name in HOMES.get(target.split(".")[0], {name}), f"{name} imports {target}"


def test_gan_is_pure_mathematics():
    for name, targets in modules():
        if name.startswith("gan/"):
            others = {target for target in targets if not target.startswith(BELOW_GAN)}
            assert {target.split(".")[0] for target in others} <= MATHEMATICS, name


WRITERS = {
    "system/files.py",
    "data/build.py",  # a folder of its own, which is renamed when it is complete
    "run/log.py",  # adds lines to metrics.jsonl
    "cli.py",  # to the null device
}


def writes(node):
    """Whether a call opens a file for writing, or saves to a path rather than to an open file."""
    if not isinstance(node, ast.Call):
        return False
    method = isinstance(node.func, ast.Attribute)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    first = node.args[0].id if node.args and isinstance(node.args[0], ast.Name) else ""
    if name in ("open", "fdopen"):
        modes = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
    saves = name in ("save", "savez", "savefig", "save_file", "tofile", "dump") and first not in ("file", "buffer")
    if method and ast.unparse(node.func.value) in ("orbax", "checkpoints", "self._checkpoints"):
        return False  # whose folders are renamed when they are complete
    return method and (saves or name in ("write_text", "write_bytes"))  # methods of Path, and of libraries


def test_files_are_written_in_one_way():
    for name, _ in modules():
        calls = [node.lineno for node in ast.walk(ast.parse((ROOT / name).read_text())) if writes(node)]
        assert not calls or name in WRITERS, f"{name}, lines {calls}: write with system/files.py"


def reads(node):
    """Whether a call opens a file by its name to read it, other than one of this package."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
        return False
    text = ast.unparse(node)
    if isinstance(node.func, ast.Name):
        return node.func.id == "open" and "devnull" not in text
    receiver, name = ast.unparse(node.func.value), node.func.attr
    if name in ("read_text", "read_bytes"):
        return not any(ours in receiver for ours in ("__file__", "_WEIGHTS", "here", "importlib.resources"))
    if (name == "load" and receiver == "np") or (name == "open" and receiver in ("Image", "gzip")):
        return not any(ours in text for ours in ("BytesIO", "_WEIGHTS"))
    return name in ("memmap", "fromfile", "safe_open", "load_file", "file_hash")


def test_files_are_read_in_one_way():
    for name, _ in modules():
        calls = [
            node.lineno for node in ast.walk(ast.parse((ROOT / name).read_text())) if reads(node) and not writes(node)
        ]
        assert not calls or name == "system/files.py", f"{name}, lines {calls}: read with system/files.py"
