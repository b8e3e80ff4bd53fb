"""README.md and docs/ are true: their commands and their Python run, with tiny settings; links, names and flags exist.

docs/results/ is left out: its commands take hours. docs/how-to/own-loop.md is run by test_own_loop.py.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
import types
import urllib.request
from pathlib import Path

import pytest

from dcgan_jax import Config, __all__, fit, recipe
from dcgan_jax.__main__ import COMMANDS
from dcgan_jax.config import Config as Settings

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path != ROOT / "docs" / "reference" / "commands.md"  # made from the code
}
RUN = {name: text for name, text in PAGES.items() if "/results/" not in name and not name.endswith("own-loop.md")}
TINY = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4, "held_out": 0, "sample_every": 2, "steps": 2}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = (
    r"python3 -m venv|python -m pip|python -m pytest",  # .ci/run does
    r"docker ",  # is not at hand
    r"fidelity ",  # an extra program, with weights of its own
)
ONLY_READ = (  # by the parser of their flags
    r"--coordinator",  # tests/system/test_cluster.py
    r"--inception",  # needs a file of others; tests/metrics/test_inception.py
    r"--features imagenet",  # tests/metrics/test_imagenet.py
    r"--classes",  # tests/test_evaluate_classes.py
    r"bands\.npy",  # tests/test_bands.py
    r"--leaky-slope|--penalty|tfds:",  # programs of their own to compile; tests/gan/, tests/data/
)
SHORTER = {
    "generate": {"--num": "5"},
    "animate": {"--seconds": "0.2"},
    "project": {"--iterations": "2"},
}
CHANGED = (  # in the Python of the pages
    (r"\b(Config|recipe)\(", r"tiny_\1("),
    (r"64, 64, 3", "16, 16, 3"),
    (r"Resizing\(width=32\)", "Resizing(latent_dim=8, width=4, image_size=16)"),
    (r"range\(3\)", "range(1)"),
    (r"server\.serve_forever\(\)", "threading.Thread(target=server.serve_forever, daemon=True).start()"),
    (r'\("localhost", 8000\)', '("localhost", 0)'),
)


def tiny(make, *names, **settings):
    settings["data"] = "photos"
    return make(*names, **{**TINY, **settings, "steps": min(settings.get("steps", 2), 2)})


@pytest.fixture(scope="module")
def template(photos, tmp_path_factory):
    """A run of two steps, which pages find where they have one."""
    workdir = tmp_path_factory.mktemp("template") / "run"
    fit(Config(data=str(photos), **TINY), workdir)
    return workdir


class Trackers:
    """What stands in for wandb and mlflow: takes any call, and counts those that log."""

    def __init__(self):
        self.logged = 0

    def __getattr__(self, name):
        def call(*_, **__):
            self.logged += name.startswith("log")
            return self

        return call

    info = types.SimpleNamespace(run_id="1")


class Page:
    """A folder in which the blocks of one page are run in their order."""

    def __init__(self, place, template, photos):
        self.place, self.template = place, template
        for name in ("photos", "Pictures/cats", "Pictures/icons"):
            shutil.copytree(photos, place / name)
        for name, folder in (("cats", "even"), ("dogs", "odd")):
            shutil.copytree(photos / folder, place / "Pictures" / "pets" / name)
        for name in ("PHOTO", "SECOND"):
            shutil.copy(photos / "even" / "00.png", place / name)
        self.names = {"tiny_Config": functools.partial(tiny, Config), "tiny_recipe": functools.partial(tiny, recipe)}
        self.names["threading"] = threading

    def has_run(self, workdir):
        """Let there be a run."""
        if workdir.startswith("runs") and not (self.place / workdir / "config.json").exists():
            shutil.copytree(self.template, self.place / workdir, dirs_exist_ok=True)

    def shell(self, line, monkeypatch):
        """Run a line of a console block."""
        for command in re.split(r" && ", line):
            if any(re.match(pattern, command) for pattern in NOT_RUN) or command == ". .venv/bin/activate":
                continue
            words = [os.path.expanduser(word) for word in shlex.split(command)]
            if words[0] == "PYTHONPATH=.":
                words = words[1:]
            if words[:2] == ["python", "-m"]:
                self.command(words[2].removeprefix("dcgan_jax."), words[3:], monkeypatch)
            else:
                subprocess.run(words, cwd=self.place, check=True)

    def command(self, name, flags, monkeypatch):
        module = importlib.import_module(f"dcgan_jax.{name}")
        only_read = any(re.search(pattern, " ".join(flags)) for pattern in ONLY_READ)
        for flag in ("--workdir", "--against"):
            if flag in flags and name != "train":
                self.has_run(flags[flags.index(flag) + 1])
        monkeypatch.setattr(sys, "argv", [f"dcgan_jax.{name}", *self.shorter(name, flags)])
        with monkeypatch.context() as patch:
            if only_read:
                patch.setattr(module, "run", lambda arguments, **_: None)
            module.main()

    def shorter(self, name, flags):
        """The flags with small values in place of their own."""
        changes = dict(SHORTER.get(name, {}))
        if name == "train":
            new = not (self.place / flags[flags.index("--workdir") + 1] / "config.json").exists()
            changes = {f"--{setting.replace('_', '-')}": str(value) for setting, value in TINY.items()} if new else {}
            if "--data" not in flags or "tfds:" in " ".join(flags):
                changes |= {"--data": "photos"} if new else {}
            if "--steps" in flags:
                changes["--steps"] = "2" if new else "3"
            if "--epochs" in flags:
                changes = {**changes, "--epochs": "1"}
                changes.pop("--steps", None)
        flags = list(flags)
        for flag, value in changes.items():
            if flag in flags:
                flags[flags.index(flag) + 1] = value
            else:
                flags += [flag, value]
        return flags

    def python(self, code):
        if file := re.match(r"# (\w+\.py)\n", code):
            (self.place / file[1]).write_text(code)
        for workdir in re.findall(r'\b(?:restore|restore_state|evaluate)\(\s*f?"(runs[^"{]*)"', code):
            if "fit(" not in code or f'"{workdir}"' not in code.partition("fit(")[2]:
                self.has_run(workdir)
        for pattern, new in CHANGED:
            code = re.sub(pattern, new, code)
        exec(compile(code, "the page", "exec"), self.names)


@pytest.fixture
def page(tmp_path, template, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # the allocator of this process stays what it is
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, Trackers())
    before, handler = set(sys.modules), signal.getsignal(signal.SIGTERM)
    yield Page(tmp_path, template, photos)
    signal.signal(signal.SIGTERM, handler)
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


SLOW = (
    "own-loss.md",
    "own-networks.md",
    "chapter.md",
    "better-pictures.md",
    "see-and-share.md",
    "start-from-a-model.md",
    "classes.md",
)
"""Pages that compile several programs of their own."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.endswith(SLOW) else ())
        for name, text in RUN.items()
        if BLOCK.search(text)
    ],
)
def test_the_blocks_of_a_page_run(name, page, monkeypatch, capsys):
    for kind, text in BLOCK.findall(RUN[name]):
        if kind == "console":
            for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
                page.shell(line, monkeypatch)
        elif kind == "python":
            page.python(text)
        else:
            assert kind in ("dockerfile", "text"), kind
    if name.endswith("callbacks.md"):
        assert sys.modules["wandb"].logged > 1 and sys.modules["mlflow"].logged > 4
    if name.endswith("serve.md"):
        server = page.names["server"]
        with urllib.request.urlopen(f"http://localhost:{server.server_port}/7") as answer:
            assert answer.read() == page.names["png"](7)
        server.shutdown()
        server.server_close()


def test_every_command_has_a_page():
    text = "\n".join(RUN.values())
    assert all(f"python -m dcgan_jax.{name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    text = re.sub(r"^```.*?^```$", "", PAGES[name], flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists() or place.name == "commands.md", target
        if anchor and place.name != "commands.md":  # which is made with the site
            heads = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in heads}, target


def test_the_reference_has_every_public_name():
    named = re.findall(r"^::: dcgan_jax\.(\w+)$", PAGES["docs/reference/python.md"], re.MULTILINE)
    assert sorted(named) == sorted(__all__)


def test_every_page_is_in_the_navigation():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    nav = pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    there = {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} | {"reference/commands.md"}
    assert sorted(nav) == sorted(there)


def test_extras_that_are_named_exist():
    extras = {
        one
        for group in re.findall(r"(?:dcgan_jax|\.)\[([a-z0-9,]+)\]", "".join(PAGES.values()))
        for one in group.split(",")
    }
    assert {"export", "test", "docs"} <= extras
    assert extras <= set(importlib.metadata.metadata("dcgan_jax").get_all("Provides-Extra") or ())


def test_flags_that_are_named_exist(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    flag = importlib.import_module("build").flag
    kinds = [importlib.import_module(f"dcgan_jax.{name}").Arguments for name in COMMANDS]
    fields = {flag(field)[2:] for kind in (*kinds, Settings) for field in dataclasses.fields(kind)}
    fields |= {"coordinator", "num-processes", "process-id", "distributed", "help", "version"}
    others = set(
        "upgrade require-hashes no-deps no-cache-dir system no-create-home read-only tmpfs stop-timeout logdir".split()
    )
    others |= set("fid samples-resize-and-crop samples-find-deep input1 input2".split())
    for script in (ROOT / "experiments").rglob("*.py"):
        others |= set(re.findall(r'add_argument\("--([a-z0-9-]+)"', script.read_text()))
    for name, text in PAGES.items():
        named = {flag.removeprefix("no-") for flag in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", text)}
        assert named <= fields | others | {flag.removeprefix("no-") for flag in others}, (name, named - fields - others)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_flags_says_what_help_says(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "docs")
    build = importlib.import_module("build")
    module = importlib.import_module(f"dcgan_jax.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        module.main()
    said = set(re.findall(r"--[a-z][a-z0-9-]*", re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)))
    listed = set(re.findall(r"--[a-z][a-z0-9-]*", " ".join(row[0] for row in build.flags(module.Arguments))))
    assert listed and listed <= said
    rows = {row[0]: row for row in build.flags(module.Arguments)}
    assert all(text for *_, text in rows.values())


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 150


def test_images_of_the_readme_are_absolute_once_there_is_an_address():
    """PyPI shows no others."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if "Repository" in project.get("urls", {}):
        assert all(target.startswith("https://") for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGES["README.md"]))
