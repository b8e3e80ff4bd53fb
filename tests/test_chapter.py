"""The chapter as a notebook: it was run as it is written, and shows what it should."""

import json
import re
from pathlib import Path

import pytest
from tqdm import tqdm

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
    assert len(text) < 1_000_000
    assert "site-packages" not in text  # no warnings with the paths of a machine


def test_it_has_the_shapes_and_the_last_line_of_the_chapter_and_shows_live_curves(cells):
    found = {"".join(cell["source"]): cell for cell in cells if cell["cell_type"] == "code"}
    shapes = [outputs(cell, "text/plain") for source, cell in found.items() if source.endswith("shape")]
    assert shapes == ["(2, 32, 32, 20)", "(2, 4, 4, 20)", "(1, 64, 64, 3)", "(2, 8, 8, 20)", "(1, 1, 1, 1)"]
    lists = {
        start: outputs(cell, "text/plain")
        for source, cell in found.items()
        for start in ("net_G", "net_D")
        if f"print_shapes({start}," in source
    }
    for name, shapes, weights in (
        ("net_G", ["1, 1, 1, 100", "1, 4, 4, 512", "1, 8, 8, 256", "1, 16, 16, 128", "1, 32, 32, 64", "1, 64, 64, 3", "1, 64, 64, 3"], "3,576,704"),
        ("net_D", ["1, 64, 64, 3", "1, 32, 32, 64", "1, 16, 16, 128", "1, 8, 8, 256", "1, 4, 4, 512", "1, 1, 1, 1"], "2,765,696"),
    ):  # fmt: skip
        assert re.findall(r"\((.*?)\)", lists[name]) == shapes and f"{weights} weights in all" in lists[name]
    (training,) = (cell for source, cell in found.items() if source.startswith("state = fit("))
    assert outputs(training, "image/png")
    assert re.search(
        r"^loss_D [\d.]+, loss_G [\d.]+, [\d.]+ examples/sec on \S+$", outputs(training, "text/plain"), re.M
    )


def test_the_plain_step_has_the_losses_of_the_package(cells):
    """Five steps of each; the cell itself compares them too."""
    (cell,) = (
        cell
        for cell in cells
        if "update_D(X, Z, G, D)\n" in "".join(cell["source"]) and "train_step(" in "".join(cell["source"])
    )
    lines = outputs(cell, "text/plain")
    plain, package = (re.findall(rf"^{who} +loss_D (\S+), loss_G (\S+)$", lines, re.M) for who in ("plain", "package"))
    assert len(plain) == len(package) == 5 and plain[0] != plain[4]
    for ours, theirs in zip(plain, package, strict=True):
        assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], rel=2e-3)


def test_the_outputs_are_those_of_the_settings_in_the_cells(cells):
    """A setting that comes from outside prints itself; the lengths of the runs are in their progress bars."""
    code = {"".join(cell["source"]): cell for cell in cells if cell["cell_type"] == "code"}
    ((source, cell),) = ((source, cell) for source, cell in code.items() if "def setting(" in source)
    assert cell["outputs"] == []
    values = {name: int(value) for name, value in re.findall(r'^\w+ = setting\("(\w+)", (\d+)\)', source, re.M)}
    size = values["IMAGE_SIZE"]
    for start, steps, shape, runs in (
        ("state = fit(", values["EPOCHS"] * 19_800 // values["BATCH_SIZE"] + 1, f"{size}x{size}x3", 1),
        ("SEEDS = ", values["RELU_STEPS"], f"{size}x{size}x3", 6),
        ("NAMES = ", values["FASHION_STEPS"], "32x32x1", 1),
    ):
        (cell,) = (cell for source, cell in code.items() if source.startswith(start))
        said = outputs(cell, "text/plain")
        images = tqdm.format_sizeof(steps * values["BATCH_SIZE"])
        assert said.count(f"images of {shape} from ") == runs, said
        assert len(re.findall(rf"100%\|█+\| {images}/{images} \[", said)) == runs, said
    (cell,) = (cell for source, cell in code.items() if "evaluate_classes(" in source and "import" not in source)
    assert f", {values['FASHION_IMAGES']:,} samples; " in outputs(cell, "text/plain")


def test_the_answer_of_exercise_1_is_that_of_its_runs(cells):
    """The means are those of the runs that are named, and the text that follows says which is lower."""
    at = next(i for i, cell in enumerate(cells) if "KID {np.mean(kids)" in "".join(cell["source"]))
    said = re.findall(
        r"(\w+(?:\(0\.2\))?) +KID (\S+) \(the three runs: (.*)\)$", outputs(cells[at], "text/plain"), re.M
    )
    assert [name for name, *_ in said] == ["LeakyReLU(0.2)", "ReLU"] and outputs(cells[at], "image/png")
    for _, mean, runs in said:
        assert float(mean) == pytest.approx(sum(map(float, runs.split(", "))) / 3, abs=0.02)
    answer = "".join(cells[at + 1]["source"])
    assert all(f"{float(mean):.0f}" in answer for _, mean, _ in said), answer


def test_the_answer_of_exercise_2_is_that_of_the_command(cells):
    (cell,) = (cell for cell in cells if "= evaluate_classes(" in "".join(cell["source"]))
    best, worst = re.search(
        r"features ([\w -]+) \(KID .*\) works best, ([\w -]+) \(KID .*\) works worst", outputs(cell, "text/plain")
    ).groups()
    assert best != worst and outputs(cell, "image/png")
    names = re.search(r'NAMES = "(.*)"', NOTEBOOK.read_text().replace('\\"', '"'))[1].split(", ")
    assert {best, worst} <= set(names)
