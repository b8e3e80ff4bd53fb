"""The chapter as a notebook: it was run as it is written, and shows what it should."""

import json
import re
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
NOTEBOOK = EXPERIMENTS / "chapter.ipynb"


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


def outputs(cell, kind):
    """The text of a cell's outputs of a MIME type; what is printed counts as text/plain."""
    found = []
    for output in cell["outputs"]:
        printed = kind == "text/plain" and output["output_type"] == "stream"
        found.append("".join(output["text"] if printed else output.get("data", {}).get(kind, "")))
    return "".join(found)


def test_the_notebook_has_the_cells_of_the_script(cells):
    """The percent format of Jupytext: a line ``# %%`` begins a cell; text is a comment in a ``[markdown]`` one."""
    _, *written = re.split(r"^# %%(.*)\n", (EXPERIMENTS / "chapter.py").read_text(), flags=re.MULTILINE)
    script = []
    for kind, text in zip(written[::2], written[1::2], strict=True):
        markdown = kind.strip() == "[markdown]"
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE) if markdown else text
        script.append(("markdown" if markdown else "code", text.strip()))
    assert [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in cells] == script
    assert len(script) > 40


def test_it_was_run_from_start_to_end_without_errors_and_is_small(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    text = NOTEBOOK.read_text()
    assert len(text) < 1_500_000
    assert "site-packages" not in text  # no warnings with the paths of a machine


def test_it_has_the_shapes_and_the_last_line_of_the_chapter_and_shows_live_curves(cells):
    found = {"".join(cell["source"]): cell for cell in cells if cell["cell_type"] == "code"}
    shapes = [outputs(cell, "text/plain") for source, cell in found.items() if source.endswith("shape")]
    assert shapes == ["(2, 32, 32, 20)", "(2, 4, 4, 20)", "(1, 64, 64, 3)", "(2, 8, 8, 20)", "(1, 1, 1, 1)"]
    (training,) = (cell for source, cell in found.items() if source.startswith("state = fit("))
    assert outputs(training, "image/png")
    assert re.search(
        r"^loss_D [\d.]+, loss_G [\d.]+, [\d.]+ examples/sec on \S+$", outputs(training, "text/plain"), re.M
    )
