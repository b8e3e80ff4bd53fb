"""Imports point down the floors only."""

import ast
from pathlib import Path

import dcgan_jax

ROOT = Path(dcgan_jax.__file__).parent
FLOORS = [
    {"errors"},
    {"config", "peers", "quiet", "files", "signals", "conv", "losses", "images"},
    {"cluster", "cache", "models", "data.sprites", "data.sources"},
    {"state", "data.store"},
    {"step", "sampling", "data.pipeline"},
    {"checkpoint", "runlog", "cli"},
    {"workdir"},
    {"loop", "generate"},
    {"train"},
]
FLOOR = {f"dcgan_jax.{name}": floor for floor, names in enumerate(FLOORS) for name in names}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def modules():
    for path in ROOT.rglob("*.py"):
        if path.name != "__init__.py":
            yield ".".join(("dcgan_jax", *path.relative_to(ROOT).with_suffix("").parts)), path


def test_imports_point_down():
    for name, path in modules():
        for target in imported(path):
            # sprites is read by sources, on the same floor of the data room
            assert FLOOR.get(target, -1) < FLOOR[name] or target == "dcgan_jax.data.sprites", f"{name} imports {target}"


def test_orbax_and_tensorflow_have_one_home_each():
    homes = {"orbax": {"checkpoint"}, "tensorflow": {"data.pipeline", "runlog"}, "tensorflow_datasets": {"data.sources"}}
    for name, path in modules():
        for target in imported(path):
            if home := homes.get(target.split(".")[0]):
                assert name.removeprefix("dcgan_jax.") in home, f"{name} imports {target}"
