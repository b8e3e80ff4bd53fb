"""Rules of style that a formatter does not know."""

import ast
import re
from pathlib import Path

import pytest

import dcgan_jax

ROOT = Path(dcgan_jax.__file__).parent
FILES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))}
LINES = 40
SAY_NOTHING = {"found", "about", "of", "kept", "there", "known"}


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def lines(function):
    """How many lines a function has, without its docstring."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - docstring


def test_functions_are_short():
    assert not [
        f"{name} {node.name}" for name, tree in FILES.items() for node in functions(tree) if lines(node) > LINES
    ]


def public(body):
    """The functions that others may call, and the methods of classes that others may use.

    A method that replaces one of a class of the same file has the types of that one.
    """
    classes = {node.name: {part.name for part in functions(node)} for node in body if isinstance(node, ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            inherited = set().union(*(classes.get(ast.unparse(base), set()) for base in node.bases))
            yield from (method for method in public(node.body) if method.name not in inherited)


@pytest.mark.parametrize("name", FILES)
def test_public_functions_say_their_types(name):
    for node in public(FILES[name].body):
        a = node.args
        arguments = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs) if x.annotation is None]
        untyped = [x for x in arguments if x not in ("self", "cls")]
        assert not untyped and node.returns is not None, f"{name}, line {node.lineno}: {node.name} {untyped}"


@pytest.mark.parametrize("name", FILES)
def test_variables_say_what_they_hold(name):
    for node in ast.walk(FILES[name]):
        stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id
        word = stored or (isinstance(node, ast.arg) and node.arg)
        assert word not in SAY_NOTHING, f"{name}, line {node.lineno}: what does {word!r} hold?"


def test_the_tree_in_the_docs_names_each_file():
    page = (ROOT.parent / "docs" / "explanation" / "code.md").read_text()
    tree = page.partition("```text\ndcgan_jax/\n")[2].partition("```")[0]
    parts = re.split(r"^  (\w+/|\w+\.py(?: \w+\.py)*) ", tree, flags=re.MULTILINE)
    named = set()
    for folder, text in zip(parts[1::2], parts[2::2], strict=True):
        files = re.findall(r"\w+\.py", text if folder.endswith("/") else folder)
        named |= {f"{folder}{file}" if folder.endswith("/") else file for file in files}
    rooms = {name for name in FILES if "/" in name and not name.endswith("__init__.py")}
    assert {name for name in named if "/" in name} == rooms
    assert named - rooms <= FILES.keys()


PRIVATE = re.compile("_[a-zA-Z]")


def private_names(tree):
    """Names of ours with an underscore that a test imports, patches or reads from a module of ours."""
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dcgan_jax"):
            yield from (alias.name for alias in node.names if PRIVATE.match(alias.name))
            modules |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules and PRIVATE.match(name):
                yield f"{module}.{name}"
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[_, ast.Constant(value=str(name)), *_]):
                yield from [name] if PRIVATE.match(name) else []


def test_tests_use_public_names():
    tests = Path(__file__).parent
    used = {
        path.name: names for path in tests.rglob("*.py") if (names := [*private_names(ast.parse(path.read_text()))])
    }
    assert not used
