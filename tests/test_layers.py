"""Imports point down from folder to folder, and each third-party API that changes often has one home."""

import ast
from pathlib import Path

import dcgan_jax

ROOT = Path(dcgan_jax.__file__).parent
FLOORS = ("system", "config", "recipes", "gan", "data", "metrics", "views", "run", "cli", "commands")
HOMES = {
    "orbax": {"run/checkpoints.py", "system/cluster.py"},  # the latter for its barrier
    "tensorflow": {"data/pipeline.py", "run/log.py", "metrics/inception.py"},  # the FID's network is a graph of it
    "tensorflow_datasets": {"data/remote.py"},
    "pooch": {"data/remote.py"},
    "huggingface_hub": {"run/hub.py"},
}
MATHEMATICS = {"jax", "flax", "optax", "numpy", "functools", "dataclasses", "typing", "collections", "dcgan_jax"}


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
            assert {target.split(".")[0] for target in targets} <= MATHEMATICS, name
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / "gan").glob("*.py")) < 1320
