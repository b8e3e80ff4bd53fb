"""What is saved can be read: paths that Orbax misreads, writes that go wrong, and what older versions left."""

import dataclasses
import json
import os
import shutil
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import equal, python

from dcgan_jax import Config, InputError, create_state, fit, restore, restore_state
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.folder import RunFolder

SCRIPT = Path(__file__).parents[2] / "experiments" / "mend_checkpoints.py"


@pytest.fixture(scope="module")
def settings(photos):
    return Config(
        data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=6, sample_every=100,
        log_every=2, checkpoint_every=3, evaluate_every=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """A run of 6 steps, checkpoints after 3 and 6: its folder and final state."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, fit(settings, folder)


@pytest.mark.parametrize("name", ["[2024] a/run", "a\\b", "*?", "'\"\n#%41:|{}"])
def test_a_run_may_have_any_name(settings, whole, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    place = tmp_path / "runs"
    fit(dataclasses.replace(settings, steps=4), place / name)
    assert int(restore(place / name, "newest").step) == 4
    assert equal(restore_state(place / name, 3).ema, restore_state(whole[0], 3).ema)
    assert equal(fit(settings, place / name), whole[1])
    assert [path.name for path in place.iterdir()] == [Path(name).parts[0]]  # nothing under another name
    assert not (place / name / "damaged").exists()


def test_checkpoints_may_lie_under_names_that_are_not_utf_8(settings, tmp_path):
    state = create_state(settings)
    folder = RunFolder(tmp_path / os.fsdecode(b"caf\xe9") / "run")
    with Checkpoints(folder, settings, "name") as checkpoints:
        checkpoints.save(5, state, 2, {})
        saved, attempt, _ = checkpoints.newest(create_state(dataclasses.replace(settings, seed=1)))
    assert equal(saved, state) and attempt == 2 and folder.complete_steps() == [5]


def test_where_nothing_can_be_read_back_no_step_is_taken(settings, tmp_path, monkeypatch):
    """As on a system without /proc, in such a path; or with an Orbax that has a new fault."""
    save = ocp.Checkpointer.save
    monkeypatch.setattr(ocp.Checkpointer, "save", lambda *args, **kwargs: (save(*args, **kwargs), unmerge(args[1])))
    with pytest.raises(InputError, match="checkpoints cannot hold checkpoints .*: give another --workdir"):
        fit(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("fault", ["other values", "a part missing", "another type"])
def test_saved_is_said_of_what_was_read_back(settings, tmp_path, monkeypatch, fault):
    save = ocp.Checkpointer.save

    def faulty(self, path, args):
        tree = args.item
        if "ema" in tree and int(tree["step"]) == 6:
            tree = jax.tree.map(np.array, tree)
            part = tree["ema"]
            while isinstance(part[name := min(part)], dict):
                part = part[name]
            spoil[fault](part, name)
        save(self, path, args=ocp.args.PyTreeSave(tree))

    spoil = {
        "other values": lambda part, name: part.update({name: part[name] + 1}),
        "a part missing": lambda part, name: part.pop(name),
        "another type": lambda part, name: part.update({name: part[name].astype(np.float64)}),
    }
    monkeypatch.setattr(ocp.Checkpointer, "save", faulty)
    with pytest.raises(InputError, match=r"cannot write a checkpoint to .*; that of step 3 is complete\. Fix this"):
        fit(settings, tmp_path)
    assert RunFolder(tmp_path).complete_steps() == [3]


def unmerge(place):
    """What Orbax leaves of a checkpoint in a path with brackets."""
    (place / "manifest.ocdbt").unlink()
    shutil.rmtree(place / "d")


def bless(place):
    """Give a checkpoint the checksums of the files that it has."""
    manifest = place / "manifest.json"
    files = [path for path in place.rglob("*") if path.is_file() and path.name != "_CHECKPOINT_METADATA"]
    sums = {path.relative_to(place).as_posix(): zlib.crc32(path.read_bytes()) for path in files if path != manifest}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "checksums": sums}))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's tasks
@pytest.mark.parametrize(
    "fault", [lambda place: (place / "manifest.ocdbt").write_bytes(b"?"), lambda place: shutil.rmtree(place / "d")]
)
def test_what_orbax_cannot_read_is_a_damaged_checkpoint(settings, whole, tmp_path, capfd, fault):
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    place = workdir / "checkpoints" / "6"
    fault(place)
    bless(place)
    assert int(restore(workdir, "newest").step) == 3
    assert "the checkpoint of step 6 is damaged (" in capfd.readouterr().err
    assert equal(fit(settings, workdir), whole[1])
    assert f"and was moved to {workdir}/damaged/6" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["[2024] a", "a\\b"])
def test_a_run_that_an_older_version_wrote_to_such_a_path_is_brought_back(settings, whole, tmp_path, name):
    workdir = shutil.copytree(whole[0], tmp_path / name)
    for step in (3, 6):
        place = workdir / "checkpoints" / str(step)
        unmerge(place)
        if "\\" in name:
            shutil.move(
                place / "ocdbt.process_0",
                tmp_path / f"a/b/checkpoints/{step}.partial.orbax-checkpoint-tmp/ocdbt.process_0",
            )
        bless(place)
    with pytest.raises(InputError, match=r"step 6 \(.* never merged .*mend_checkpoints\.py does\); step 3 "):
        restore(workdir)
    copy = tmp_path / "copy"
    done = python(SCRIPT, workdir, copy)
    assert done.stdout == "step 6 is whole\nstep 3 is whole\n", done.stderr
    longer = dataclasses.replace(settings, steps=8)
    assert equal(restore_state(copy), whole[1]) and fit(longer, copy).step == 8


def test_a_checkpoint_of_the_version_before_is_named(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    for step in (3, 6):
        manifest = RunFolder(tmp_path / "run").manifest(step)
        about = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**about, "shapes": {**about["shapes"], "settings/gamma": [2]}}))
    with pytest.raises(InputError, match=r"was written by dcgan_jax 0\.1, whose .*: start a new run in another"):
        restore(tmp_path / "run")
