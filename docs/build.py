"""Build the site in site/: ``python docs/build.py``, after ``pip install -e '.[docs]'``. It needs no network.

Writes reference/commands.md first, from the flags themselves. A warning of the build, or a page that would load
something from elsewhere, ends it.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import textwrap
import typing
from pathlib import Path

from dcgan_jax.__main__ import COMMANDS
from dcgan_jax.config import Config
from dcgan_jax.recipes import RECIPES

DOCS = Path(__file__).parent
_NAMES = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def documented(arguments: type) -> dict[str, str]:
    """What the source says below each field of a dataclass."""
    body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(arguments))).body[0]).body
    pairs = itertools.pairwise(body)
    return {
        node.target.id: inspect.cleandoc(text.value.value)
        for node, text in pairs
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def values(kind: typing.Any) -> str:
    """What a flag of this type takes, as ``--help`` calls it."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values(inner[0])
    if origin is typing.Literal:
        return " ".join(f"`{choice}`" for choice in inner)
    if origin is tuple:
        several = inner[-1] is Ellipsis
        return f"{values(inner[0])} …" if several else " ".join(map(values, inner))
    if origin is not None:  # a union
        return " or ".join(values(one) for one in inner if one is not type(None))
    return _NAMES[kind]


def flag(field: dataclasses.Field) -> str:
    """The name of a field's flag, which it may say for itself (``tyro.conf.arg``)."""
    told = [name for extra in getattr(field.type, "__metadata__", ()) if (name := getattr(extra, "name", None))]
    return f"--{told[0] if told else field.name.replace('_', '-')}"


def flags(arguments: type) -> list[tuple[str, str, str, str]]:
    """Each flag of a dataclass: its name, what it takes, its default, and what it is for."""
    rows = []
    texts = {
        name: text.replace("see above", "see the end of this page") for name, text in documented(arguments).items()
    }
    for field in dataclasses.fields(arguments):
        kind = field.type
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            rows += flags(kind)
            continue
        name = flag(field)
        default = field.default
        if kind is bool:
            rows.append((f"`{name}`, `--no-{name[2:]}`", "", "on" if default else "off", texts[field.name]))
            continue
        required, empty = default is dataclasses.MISSING, default in (None, (), "")
        shown = "required" if required else "" if empty else f"`{default}`"
        rows.append((f"`{name}`", values(kind), shown, texts[field.name]))
    return rows


def _table(head: list[str], rows: list) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(' '.join(str(cell).split()) for cell in line)} |" for line in lines)


def _item(row: tuple[str, str, str, str]) -> str:
    """A flag as an item of a list, which small screens show better than a table."""
    name, takes, default, text = row
    default = f"default {default}" if default and default != "required" else default
    return f"- **{name}** {', '.join(filter(None, (takes, default)))}  \n    {' '.join(text.split())}"


def commands() -> str:
    """The page of all flags."""
    parts = [
        "# Commands and flags",
        "This page is made from the code when the site is built. `dcgan-jax NAME` is the same as "
        "`python -m dcgan_jax.NAME`, and `--help` lists the same flags.",
    ]
    for name, use in COMMANDS.items():
        arguments = importlib.import_module(f"dcgan_jax.{name}").Arguments
        parts += [f"## {name}", f"`python -m dcgan_jax.{name}`: {use}."]
        parts.append("\n".join(map(_item, flags(arguments))))
    plain = RECIPES["classic"].config
    changed = [
        field.name
        for field in dataclasses.fields(Config)
        if field.name != "recipe"
        and any(getattr(r.config, field.name) != getattr(plain, field.name) for r in RECIPES.values())
    ]
    parts += ["## What each recipe sets", "Settings that are not listed are the same in all of them."]
    rows = [[f"`{name}`", *(f"`{getattr(r.config, name)}`" for r in RECIPES.values())] for name in changed]
    parts.append(_table(["", *(f"`{name}`" for name in RECIPES)], rows))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page of flags, build, and look for what a page would load from elsewhere."""
    (DOCS / "reference" / "commands.md").write_text(commands())
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=DOCS.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(built.stdout, end="")
    if built.returncode or "griffe:" in built.stdout:  # what it says of docstrings is no issue for zensical
        raise SystemExit(built.returncode or 1)
    for page in (DOCS.parent / "site").rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text()):
            if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag) and 'rel="canonical"' not in tag:
                raise SystemExit(f"{page} loads something from elsewhere: {tag}")


if __name__ == "__main__":
    main()
