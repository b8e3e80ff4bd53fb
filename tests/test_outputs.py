"""What the commands write: whole or not at all, and never over the files of a run."""

import dataclasses
import os
import shutil
import sys

import pytest
from PIL import Image

from dcgan_jax import Config, InputError, fit
from dcgan_jax.animate import Arguments as Animate
from dcgan_jax.animate import run as animate
from dcgan_jax.export import Arguments as Export
from dcgan_jax.export import run as export
from dcgan_jax.generate import Arguments as Generate
from dcgan_jax.generate import run as generate
from dcgan_jax.project import Arguments as Project
from dcgan_jax.project import run as project
from dcgan_jax.report import Arguments as Report
from dcgan_jax.report import run as report


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run of six steps."""
    workdir = tmp_path_factory.mktemp("outputs") / "run"
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=6)
    fit(dataclasses.replace(config, sample_every=2, checkpoint_every=3), workdir)
    return workdir


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def commands(run, photos):
    """Each command with a place to write, by the name that it wants there."""
    photo = next(photos.rglob("*.png"))
    return {
        "page.html": lambda out: report(Report(run, out=out)),
        "walk.gif": lambda out: animate(Animate(run, out, seconds=0.2, size=(1, 1))),
        "walk.webp": lambda out: animate(Animate(run, out, seconds=0.2, size=(1, 1))),
        "pictures": lambda out: generate(Generate(run, out, num=2)),
        "projected": lambda out: project(Project(run, (photo,), out, iterations=1)),
        "shared": lambda out: export(Export(run, out, formats=("html",))),
    }


def content(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_no_command_writes_over_what_belongs_to_a_run(run, photos, tmp_path):
    (tmp_path / "link").symlink_to("run/samples")
    before = content(tmp_path)
    own = ("config.json", "metrics.jsonl", "checkpoints/3/manifest.json", "samples/step_000002.png", ".lock", "damaged")
    for name, command in commands(run, photos).items():
        inside = [run / "samples" / name, tmp_path / "link" / name, run / "checkpoints" / "3" / name]
        for place in (*(run / name for name in own), *inside):
            with pytest.raises(InputError):
                command(place)
    assert content(tmp_path) == before
    with pytest.raises(InputError, match=r"config\.json belongs to the run in .*run: give --out another name"):
        report(Report(run, out=run / "config.json"))
    for name, command in commands(run, photos).items():
        command(run / name)  # other names are free
    assert {path: data for path, data in content(tmp_path).items() if path in before} == before


class FailingDisk:
    """Lets the ``at``-th opening of a file for writing below ``root`` fail, or every later step of Python's ``open``."""

    def __init__(self, monkeypatch, root):
        import builtins

        self.seen, self.at, real = 0, None, open

        def opened(file, mode="r", *args, **kwargs):
            if set(mode) & set("wax+") and str(file).startswith(str(root)):
                self.seen += 1
                if self.seen == self.at:
                    raise OSError(28, os.strerror(28), str(file))
            return real(file, mode, *args, **kwargs)

        monkeypatch.setattr(builtins, "open", opened)


def test_a_command_that_fails_leaves_what_was_there(run, photos, tmp_path, monkeypatch):
    disk = FailingDisk(monkeypatch, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "walk.gif").write_bytes(b"good")
    for name, command in commands(run, photos).items():
        out = tmp_path / "out" / name
        before, disk.seen, disk.at = content(tmp_path / "out"), 0, 1
        while True:
            try:
                command(out)
                break
            except InputError as error:
                assert f"cannot write {out}" in str(error) and ".dcgan_jax-" not in str(error)
                if name not in ("shared", "pictures"):  # whose files are whole, each for itself
                    assert content(tmp_path / "out") == before
            disk.seen, disk.at = 0, disk.at + 1
        assert disk.at > 1 and out.exists()
    Image.open(tmp_path / "out" / "walk.gif").verify()


def test_everything_that_a_run_and_the_commands_write_gets_its_name_when_it_is_complete(run, photos, tmp_path):
    opened = []
    sys.addaudithook(lambda event, args: opened.append(args) if opened is not None and event == "open" else None)
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=3)
    fit(config, tmp_path / "new")
    for name, command in commands(run, photos).items():
        command(tmp_path / name)
    written = {str(path) for path, _, flags in opened if flags & (os.O_WRONLY | os.O_RDWR)}
    opened = None
    written = {path.removeprefix(f"{tmp_path}/") for path in written if path.startswith(str(tmp_path))}
    ours = {path for path in written if ".orbax-checkpoint-tmp" not in path and "tensorboard" not in path}
    strange = {path for path in ours if "/.dcgan_jax-" not in f"/{path}"}
    assert len(ours) > 20 and strange == {"new", "new/.lock", "new/metrics.jsonl"}  # the first is a nameless file
