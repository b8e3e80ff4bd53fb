"""What is packed for others: the Dockerfile and its files, the release workflow. Nothing is built here."""

import fnmatch
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (TOP / "Dockerfile").exists(), reason="not a checkout")


def instructions():
    """Of the Dockerfile: (name, arguments), in their order."""
    lines = (TOP / "Dockerfile").read_text().splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def test_the_image_runs_as_a_user_by_number_and_writes_to_data_and_tmp_alone():
    names = [name for name, _ in instructions()]
    user = dict(instructions())["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # a number, which Kubernetes can check not to be root
    assert names.count("USER") == 1 and "RUN" not in names[names.index("USER") :]
    variables = dict(pair.split("=") for pair in dict(instructions())["ENV"].split())
    assert {"DCGAN_JAX_CACHE", "HOME", "MPLCONFIGDIR"} <= variables.keys()
    assert all(value == "/tmp" or value.startswith("/data/") for value in variables.values())


def test_the_image_gets_what_it_copies_and_nothing_else():
    copied = {name for kind, names in instructions() if kind == "COPY" for name in names.split()[:-1]}
    lines = (TOP / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"  # all is kept out
    assert {line[1:] for line in lines if line.startswith("!")} == copied  # but for these
    assert all((TOP / name).exists() for name in copied)
    text = (TOP / "pyproject.toml").read_text()
    needed = re.findall(r'^(?:readme|license-files) = \[?"([^"]+)"', text, re.MULTILINE)
    assert len(needed) == 2 and {"pyproject.toml", *needed} <= copied
    packages = re.search(r"packages.find\]\ninclude = \[\"(.*?)\"\]", text)[1]
    assert fnmatch.fnmatch("dcgan_jax", packages) and "dcgan_jax" in copied


def test_a_release_is_checked_before_it_is_published_without_a_password():
    yaml = pytest.importorskip("yaml")
    text = (TOP / ".github" / "workflows" / "release.yml").read_text()
    workflow = yaml.safe_load(text)
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    commands = [step.get("run", "") for step in build["steps"]]
    assert "python -m twine check --strict dist/*" in commands and publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"} and "permissions" not in build
    assert workflow["permissions"] == {"contents": "read"} and "secrets." not in text
    assert publish["steps"][-1]["uses"].startswith("pypa/gh-action-pypi-publish@")
