"""What new users met: resuming by folder, spelling of paths, pictures early, refusals that lose nothing."""

import ast
import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import equal, metrics_of, python
from PIL import Image

import dcgan_jax as dcgan_package
from dcgan_jax import InputError, fit, recipe, restore_state
from dcgan_jax.config import Config

PACKAGE = Path(dcgan_package.__file__).parent
TINY = "--recipe classic --image-size 16 --width 4 --latent-dim 8 --batch-size 4 --log-every 2 --input numpy".split()


def dcgan_jax(*arguments, **options):
    return python("-m", "dcgan_jax", *arguments, **options)


def test_the_commands_are_listed_and_called():
    listed = dcgan_jax()
    assert listed.returncode == 0 and {"train", "generate"} <= set(listed.stdout.split())
    assert "--workdir" in dcgan_jax("generate", "--help").stdout
    wrong = dcgan_jax("trian")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: there is no command 'trian'")


@pytest.mark.slow
def test_the_folder_alone_resumes_with_its_own_settings_and_the_end_says_where_to_look(photos, tmp_path):
    first = dcgan_jax(
        "train", "--workdir", tmp_path / "run", "--data", photos.name, "--steps", 1, *TINY, cwd=photos.parent
    )
    assert first.returncode == 0, first.stderr
    loss, look, command = first.stdout.splitlines()[-3:]
    assert loss.startswith("loss_D ") and loss.endswith(", on cpu:0")  # one step has no speed
    assert f"{tmp_path}/run/progress.png" in look and f"dcgan_jax.generate --workdir {tmp_path}/run" in command
    second = dcgan_jax("train", "--workdir", "run", "--steps", 3, cwd=tmp_path)  # and from another folder
    assert second.returncode == 0, second.stderr
    config = Config.load(tmp_path / "run" / "config.json")
    assert (config.steps, config.width, config.batch_size, config.data) == (3, 4, 4, str(photos))
    other = dcgan_jax("train", "--workdir", tmp_path / "run", "--width", 8)
    assert other.returncode == 2 and "width (8, was 4)" in other.stderr


@pytest.mark.slow
def test_a_folder_gets_the_recipe_for_ones_own_pictures_and_is_told_so(photos, tmp_path):
    tiny = ["--workdir", tmp_path / "run", "--data", photos, *TINY[2:]]
    note = "starting: recipe projected, for pictures of your own (--recipe classic is the chapter's DCGAN); "
    first = dcgan_jax("train", *tiny, "--steps", 1)
    assert first.returncode == 0 and first.stderr.startswith(note), first.stderr
    sizes = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4}
    config = recipe(data=str(photos), **sizes, log_every=2, input="numpy", steps=1)
    assert Config.load(tmp_path / "run" / "config.json") == config
    second = dcgan_jax("train", *tiny, "--steps", 2)
    assert second.returncode == 0 and note not in second.stderr and "resuming from step 1" in second.stdout


def test_images_are_compared_by_content_not_by_how_the_folder_is_spelled(photos, tiny, tmp_path, monkeypatch):
    shutil.copytree(photos, tmp_path / "pics")
    monkeypatch.chdir(tmp_path)
    spellings = ("pics", "pics/", "./pics", str(tmp_path / "pics"), "moved/pics")
    for steps, spelling in enumerate(spellings, 1):
        if spelling.startswith("moved"):
            (tmp_path / "moved").mkdir()
            (tmp_path / "pics").rename(tmp_path / "moved" / "pics")
        assert fit(dataclasses.replace(tiny, data=spelling, steps=steps), tmp_path / "run").step == steps
    (tmp_path / "run").rename(tmp_path / "elsewhere")  # the run may move, too
    state = fit(dataclasses.replace(tiny, data="moved/pics", steps=6), tmp_path / "elsewhere")
    assert equal(state, fit(dataclasses.replace(tiny, data=str(photos), steps=6), tmp_path / "whole"))


def test_there_is_a_picture_early_and_never_empty_axes(photos, tiny, tmp_path, monkeypatch):
    from dcgan_jax.run import log

    drawn = []
    save = log.save_progress
    monkeypatch.setattr(
        log,
        "save_progress",
        lambda path, curves, *a, **k: (drawn.append(len(curves["step"])), save(path, curves, *a, **k)),
    )
    fit(dataclasses.replace(tiny, data=str(photos), steps=60, log_every=10, sample_every=1000), tmp_path)
    assert len(drawn) == 4 and min(drawn) > 0  # after 10, 25 and 50 steps, and at the end
    assert {path.name for path in (tmp_path / "samples").glob("step_*")} == {
        f"step_{step:06d}.png" for step in (0, 10, 25, 50, 60)
    }


def test_pictures_of_two_runs_do_not_mix(photos, tiny, tmp_path):
    fit(dataclasses.replace(tiny, data=str(photos), steps=1), tmp_path / "run")
    (tmp_path / "out").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "out" / "holiday.png")
    done = dcgan_jax("generate", "--workdir", tmp_path / "run", "--num", 2, "--out", tmp_path / "out")
    assert done.returncode == 2 and "already holds pictures" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["holiday.png"]


@pytest.mark.parametrize("gone", ["the folder", "what is in it"])
def test_a_run_without_its_checkpoints_is_refused_and_left_alone(photos, tiny, tmp_path, gone):
    config = dataclasses.replace(tiny, data=str(photos), steps=8)
    fit(config, tmp_path)
    before = {path: path.read_bytes() for path in (tmp_path / "samples").iterdir()}
    shutil.rmtree(tmp_path / "checkpoints")
    if gone == "what is in it":
        (tmp_path / "checkpoints").mkdir()
    with pytest.raises(
        InputError,
        match=r"metrics\.jsonl .* no checkpoint.*: bring .*checkpoints back, or delete .*metrics\.jsonl to start",
    ):
        fit(config, tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "samples").iterdir()} == before
    assert [line["step"] for line in metrics_of(tmp_path)] == [2, 4, 6, 8]
    (tmp_path / "metrics.jsonl").unlink()
    assert fit(config, tmp_path).step == 8


def test_a_folder_of_something_else_is_left_alone(photos, tiny, tmp_path):
    for name in ("metrics.jsonl", "progress.png", "samples"):
        folder = tmp_path / name / "project"
        folder.mkdir(parents=True)
        (folder / name).write_text("precious")
        with pytest.raises(InputError, match="exists, but no config.json"):
            fit(dataclasses.replace(tiny, data=str(photos)), folder)
        assert [path.name for path in folder.iterdir()] == [name] and (folder / name).read_text() == "precious"


def test_a_refused_start_leaves_no_folder_behind(tiny, tmp_path):
    with pytest.raises(InputError, match="no such folder or file"):
        fit(dataclasses.replace(tiny, data="nonesuch"), tmp_path / "deep" / "run")
    assert list(tmp_path.iterdir()) == []


def test_skipped_files_are_named_in_the_run_folder(photos, tiny, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    for i in range(5):
        (data / f"bad{i}.png").write_bytes(b"no picture")
    fit(dataclasses.replace(tiny, data=str(data), steps=1), tmp_path / "run")
    lines = (tmp_path / "run" / "skipped.txt").read_text().splitlines()
    assert [line.split(" (")[0] for line in lines] == [f"bad{i}.png" for i in range(5)]


def test_a_run_of_fewer_images_than_a_batch_has(photos, tiny, tmp_path, capsys):
    """They come round again within a batch. One picture alone is refused."""
    data = tmp_path / "data"
    data.mkdir()
    config = dataclasses.replace(tiny, data=str(data), steps=2, batch_size=10)
    for i, only in enumerate(("one picture", "2 copies of one picture")):
        shutil.copy(photos / "even" / "00.png", data / f"{i}.png")
        with pytest.raises(InputError, match=f"holds {only}, but a network learns what many .*: give some hundred"):
            fit(config, tmp_path / "run")
        assert "warning: 1 different" not in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
    shutil.copy(photos / "odd" / "01.png", data / "another.png")
    fit(config, tmp_path / "run")
    assert [line["step"] for line in metrics_of(tmp_path / "run")] == [2]
    assert "warning: 2 different images are few" in capsys.readouterr().err


def test_restoring_all_of_a_run_needs_no_configuration(photos, tiny, tmp_path):
    state = fit(dataclasses.replace(tiny, data=str(photos)), tmp_path)
    assert equal(restore_state(tmp_path), state) and restore_state(tmp_path, step=3).step == 3


def test_a_console_script_is_installed():
    script = Path(sys.executable).with_name("dcgan-jax")
    if not script.exists():
        pytest.skip("installed from an older version")
    done = subprocess.run([script, "train", "--help"], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0 and "usage: dcgan-jax train" in done.stdout


class Kernel:
    """Stands in for IPython in a notebook, and for its display; keeps what is shown."""

    def __init__(self, **shell):
        self.shown, shell = [], types.SimpleNamespace(**shell)
        self.modules = {
            "IPython": types.SimpleNamespace(get_ipython=lambda: shell, version_info=(9, 0)),  # Matplotlib asks
            "IPython.display": types.SimpleNamespace(Image=self.read, display=self.display),
        }

    def read(self, data):
        return data

    def display(self, picture, display_id):
        assert display_id is True
        self.shown.append([picture])
        return types.SimpleNamespace(update=self.shown[-1].append)


def test_a_notebook_shows_one_picture_that_renews_itself_and_a_terminal_none(photos, tiny, tmp_path, monkeypatch):
    config = dataclasses.replace(tiny, data=str(photos))
    for name, shell in {"notebook": {"kernel": object()}, "terminal": {}}.items():
        kernel = Kernel(**shell)
        with monkeypatch.context() as patch:
            for module, stub in kernel.modules.items():
                patch.setitem(sys.modules, module, stub)
            fit(config, tmp_path / name)
        if name == "terminal":
            assert kernel.shown == []
        else:
            (pictures,) = kernel.shown  # one place
            assert len(set(pictures)) == len(pictures) == 2  # after 3 and 6 steps
            for data in pictures:
                assert Image.open(io.BytesIO(data)).width == 600


def words(text):
    """Those of a help text, without the lines of its boxes."""
    return re.sub(r"[│╭╮╰╯─]", " ", text).split()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_help_breaks_no_word_no_number_and_no_line_too_early(width):
    for command in ("train", "export"):
        text = dcgan_jax(command, "--help", variables={"COLUMNS": str(width)}).stdout
        seen = " ".join(words(text))
        assert "``" not in text.split("options")[0]  # as docstrings mark code
        documents = [str(doc) for name, doc in docs_of(command).items()]
        assert len(documents) > 4
        for doc in documents:
            assert " ".join(doc.split()) in seen
        lines = [line.strip("│").rstrip() for line in text.splitlines() if line.startswith("│ ")]
        for line, after in itertools.pairwise(lines):
            indent = len(after) - len(after.lstrip())
            if indent > 15 and len(line) - len(line.lstrip()) == indent:  # within a help text
                assert len(line) + 1 + len(after.split()[0]) > width - 4, line
        assert max(map(len, text.splitlines())) <= width


def docs_of(command):
    """The sentences below the fields of a command's flags, as they are written."""
    texts = {}
    for path in (PACKAGE / f"{command}.py", PACKAGE / "config.py"):
        for cls in ast.walk(ast.parse(path.read_text())):
            if isinstance(cls, ast.ClassDef) and cls.name in ("Arguments", "Config"):
                for field, doc in zip(cls.body, cls.body[1:]):
                    if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
                        texts[field.target.id] = doc.value.value
        if command != "train":
            break
    return texts


@pytest.mark.parametrize(
    "arguments", [("--version",), ("train", "--version"), ("export", "--workdir", "x", "--version")]
)
def test_each_command_says_its_version(arguments):
    done = dcgan_jax(*arguments)
    assert done.stdout.startswith(
        f"dcgan_jax {version('dcgan_jax')}, jax {version('jax')}, jaxlib {version('jaxlib')}, Python 3."
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 1


def test_a_run_that_goes_on_with_another_jax_or_processor_says_so_once_and_goes_on(photos, tiny, tmp_path, capsys):
    config = dataclasses.replace(tiny, data=str(photos), steps=1)
    fit(config, tmp_path / "run")
    fit(dataclasses.replace(config, steps=2), tmp_path / "run")
    assert "resuming from step 1" in (said := capsys.readouterr().out) and "began with" not in said
    timings = json.loads((tmp_path / "run" / "timing.json").read_text())
    timings[0]["versions"]["jax"] = "0.1"
    timings[0] |= {"processor": "Z80", "matrix_units": True}
    (tmp_path / "run" / "timing.json").write_text(json.dumps(timings))
    state = fit(dataclasses.replace(config, steps=3), tmp_path / "run")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "began with" in line]
    began = f"jax 0.1 (now {version('jax')}), processor Z80 (now {timings[1]['processor']}), matrix units used (now not used)"
    assert line == f"the run began with {began}: it goes on, but not bit for bit as it would with that"
    assert int(state.step) == 3
    timings[0] = {"start": 0, "step": 1}  # as of a version that did not write the others
    (tmp_path / "run" / "timing.json").write_text(json.dumps(timings))
    fit(dataclasses.replace(config, steps=4), tmp_path / "run")
    assert "began with" not in capsys.readouterr().out
