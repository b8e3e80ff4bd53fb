"""Whatever a JSON file holds that a run, ``generate`` or the cache keeps: all who read it answer, or refuse in one line."""

import contextlib
import copy
import dataclasses
import json
import math
import shutil

import pytest
from helpers import prepared

from dcgan_jax import Config, InputError, create_state, fit, restore
from dcgan_jax.data.store import Store
from dcgan_jax.generate import Arguments as Generate
from dcgan_jax.generate import run as generate
from dcgan_jax.metrics.evaluate import Figures
from dcgan_jax.run.checkpoints import Checkpoints
from dcgan_jax.run.classes import FIGURES, Classes, ClassResult, load_classes
from dcgan_jax.run.evaluation import FID, Evaluation, load_evaluations, save_evaluations
from dcgan_jax.run.figures import figures_of_step
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import cut, last_step
from dcgan_jax.run.hold import held
from dcgan_jax.run.init import Record, read_record, write_record
from dcgan_jax.run.log import RunLog
from dcgan_jax.run.report import describe, write_page
from dcgan_jax.share.hub import model_card

CONTENTS = (b"", b"null", b"3", b"[]", b"{}", b'"x"', b"[3]", b"[{}]", b"NaN", b"{", b"\xff\xfe\0", b"[" * 10**5)
VALUES = (
    None,
    True,
    -1,
    0.5,
    10**400,
    -(10**30),
    math.nan,
    math.inf,
    "x",
    "\udce9",
    [],
    {},
    [[]],
    {"a": [None]},
    "9" * 10**5,
)
FIGURE = Figures(0.5, 0.1, 0.4, 0.6, 6)


def places(value, path=()):
    """Where something stands in what a JSON file holds, from the outside to the inside, some of each list."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*path, key))


def mutations(text, most=40):
    """Other texts for a file: something else altogether, and ``most`` with something missing or of another type."""
    yield from CONTENTS
    yield text[: len(text) // 2].encode()
    whole = json.loads(text)
    jobs = [(path, remove) for path in list(places(whole))[1:] for remove in (True, False, False, False)]
    for turn, (path, remove) in enumerate(jobs[:: -(-len(jobs) // most) | 1]):  # odd: some of each
        changed = copy.deepcopy(whole)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        if remove:
            del inner[path[-1]]
        else:
            inner[path[-1]] = VALUES[turn % len(VALUES)]
        yield json.dumps(changed).encode()


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run of four steps with all files that it can have, its settings, and the folder of its store."""
    place = tmp_path_factory.mktemp("odd")
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=4, evaluate_every=0)
    fit(dataclasses.replace(config, log_every=2, sample_every=4), place / "run")
    folder = RunFolder(place / "run")
    figures = dict.fromkeys(("fd", "kid", "coverage"), FIGURE)
    save_evaluations(folder.evaluation, [Evaluation("Inception", 4, 6, figures, FID(3.0, 6, 12), 0, True)])
    classes = [ClassResult(name, dict.fromkeys(FIGURES, FIGURE)) for name in ("cat", "dog")]
    folder.classes.write_text(json.dumps(Classes("CIFAR", 4, 6, FIGURE, classes, "All is well.").to_json()))
    manifest = json.loads(folder.manifest(4).read_text())
    folder.manifest(4).write_text(json.dumps({**manifest, "score": [0.5, -0.1]}))
    write_record(folder, Record("hf:me/things", 7, "generator.safetensors", "0" * 64, ["generator"], ["discriminator"]))
    return folder, folder.config(), create_state(config)


def report(folder, damaged):
    write_page(folder.path / "page.html", [describe(folder, None, damaged=damaged)])


def card(folder):
    rows = [one.row() for one in figures_of_step(folder, 4)]
    return model_card("a/b", "a", folder.config(), rows, [], init=str(read_record(folder) or ""))


def resume(folder, config, state):
    """What a resumed run reads before its first step."""
    with held(folder, config) as taken, contextlib.closing(prepared(config.data, folder.path / "cache")) as store:
        taken.begin(store)
        with Checkpoints(folder, config, folder.run() or "") as checkpoints:
            checkpoints.newest(state, logged=last_step(folder.metrics))
        cut(folder.metrics, 4)
        with RunLog(folder, config, start=4, images=12) as log:
            log.timing(4, None)
            log.summary()


READERS = {
    "report": lambda folder, *_: report(folder, None),
    "extra": lambda folder, *_: report(folder, []),  # the report at the end of a run
    "card": lambda folder, *_: card(folder),
    "evaluations": lambda folder, *_: save_evaluations(folder.evaluation, load_evaluations(folder.evaluation)),
    "classes": lambda folder, *_: load_classes(folder.classes),
    "restore": lambda folder, *_: restore(folder.path, ema=False),
    "resume": resume,
}
READ_BY = {
    "config.json": ("report", "card", "restore", "resume"),
    "images.json": ("report", "restore", "resume"),
    "init.json": ("report", "extra", "card"),
    "timing.json": ("report", "extra", "resume"),
    "metrics.jsonl": ("report", "card", "resume"),
    "evaluation.json": ("report", "extra", "card", "evaluations"),
    "classes.json": ("report", "extra", "classes"),
    "checkpoints/4/manifest.json": ("restore", "resume"),
}


def ends(reader, *arguments):
    """None if it ends normally or with a message, else what it raised."""
    try:
        reader(*arguments)
    except InputError as error:
        return None if str(error).strip() and len(str(error)) < 2000 else f"a message of {len(str(error))} characters"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return None


@pytest.mark.parametrize("name", READ_BY)
def test_no_file_of_a_run_ends_a_reader_with_another_error(trained, tmp_path, name):
    whole, config, state = trained
    head, _, text = (whole.path / name).read_text().rstrip().rpartition("\n" if name == "metrics.jsonl" else "\0")
    wrong = []
    for i, content in enumerate(mutations(text)):
        for who in READ_BY[name]:
            folder = RunFolder(shutil.copytree(whole.path, tmp_path / str(i)))
            (folder.path / name).write_bytes(f"{head}\n".encode() + content + b"\n" if head else content)
            if problem := ends(READERS[who], folder, config, state):
                wrong.append((content[:80], who, problem))
            shutil.rmtree(folder.path)
    assert i > 20 and not wrong


def test_nor_does_the_manifest_of_a_store(photos, tmp_path):
    path = shutil.copytree(prepared(photos, tmp_path).path, tmp_path / "store")
    manifest = path / "manifest.json"
    text, wrong = manifest.read_text(), []
    for content in mutations(text, most=80):
        manifest.write_bytes(content)
        if problem := ends(lambda: prepared_again(path)):
            wrong.append((content[:80], problem))
    manifest.write_text(text)
    assert not wrong and prepared_again(path) == 12


def prepared_again(path):
    """What is asked of a store when a run starts."""
    with contextlib.closing(Store(path)) as store:
        assert all(store.label_names[i] in ("even", "odd") for i in store.labels) or store.label_names
        return len(store.take(range(len(store))))


def test_nor_does_what_generate_knows_of_an_interrupted_start(trained, tmp_path, monkeypatch):
    folder, out = trained[0], tmp_path / "out"

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    with monkeypatch.context() as patch, contextlib.suppress(Stop):
        patch.setattr("dcgan_jax.run.pictures.sync", stop)
        generate(Generate(folder.path, out, num=3))
    text = (out / "unfinished.json").read_text()
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == 3
    for content in mutations(text, most=30):
        (out / "unfinished.json").write_bytes(content)
        assert ends(generate, Generate(folder.path, out, num=3)) is None, content
        if not (out / "unfinished.json").exists():
            (out / "grid.png").unlink()
    (out / "unfinished.json").write_text(json.dumps({**json.loads(text), "done": 10**30}))
    pictures[1].unlink()
    generate(Generate(folder.path, out, num=3))
    assert pictures[1].exists() and (out / "grid.png").exists()
