"""``python -m dcgan_jax.export``: what others read from its files is what ``decode`` draws."""

import base64
import dataclasses
import hashlib
import http.server
import importlib.util
import json
import re
import shutil
import threading
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import equal, python, some_generator
from PIL import Image

from dcgan_jax import Config, InputError, decode, export, fit, restore, sample, to_uint8
from dcgan_jax.export import Arguments
from dcgan_jax.export import run as command
from dcgan_jax.gan.classes import Classes
from dcgan_jax.generate import Arguments as Generate
from dcgan_jax.generate import run as generate
from dcgan_jax.share import portable
from dcgan_jax.share.folding import folded
from dcgan_jax.share.hub import model_card

KEY = jax.random.key(0)
PETS = Classes(("cat", "dog", "guinea pig"), (10, 30, 60))


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    """A run of four steps with a checkpoint after two, and one evaluation."""
    workdir = tmp_path_factory.mktemp("exported") / "run"
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=4, checkpoint_every=2)
    fit(dataclasses.replace(config, log_every=2), workdir)
    figures = [{"value": value, "floor": 1.5, "low": 12, "high": 93, "n": 6} for value in (12.5, 11.5, 90)]
    steps = ((2, "CIFAR"), (4, "CIFAR"), (4, "EfficientNet-Lite2"))
    found = [
        {"step": step, "n": 6, "features": name, "metrics": {"fd": figure}}
        for (step, name), figure in zip(steps, figures)
    ]
    (workdir / "evaluation.json").write_text(json.dumps(found))
    return workdir


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_all_formats_that_are_installed_are_the_default_and_the_others_are_named(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    pytest.importorskip("safetensors")
    command(Arguments(run, tmp_path / "all"))
    names = {"explorer.html", "generator.safetensors", "generator.onnx"}
    assert files(tmp_path / "all") == names
    assert names == {line.split("/")[-1].split()[0] for line in capsys.readouterr().out.splitlines()}
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    command(Arguments(run, tmp_path / "some"))
    assert files(tmp_path / "some") == names - {"generator.onnx"}
    assert "left out: onnx" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"onnx needs a library that is not installed: .*\[export\]"):
        command(Arguments(run, tmp_path / "none", formats=("html", "onnx")))
    assert not (tmp_path / "none").exists()


def test_each_figure_in_the_explorer_says_by_which_features(run, tmp_path):
    command(Arguments(run, tmp_path, formats=("html",)))
    page = (tmp_path / "explorer.html").read_text()
    assert '"FD (CIFAR features), 6 samples 11.5", "FD (EfficientNet-Lite2 features), 6 samples 90"' in page
    assert "samples 12.5" not in page  # that is another step's


def test_safetensors_come_back_as_the_same_generator(run, tmp_path):
    safetensors = pytest.importorskip("safetensors")
    command(Arguments(run, tmp_path, formats=("safetensors",), step=2))
    path, params = tmp_path / "generator.safetensors", restore(run, 2)
    back = restore(path)
    assert (back.generator, back.latent, int(back.step)) == (params.generator, params.latent, 2)
    assert equal(sample(back, KEY, 3), sample(params, KEY, 3))
    assert equal(back.params, params.params) and equal(back.batch_stats, params.batch_stats)
    with safetensors.safe_open(path, "np") as file:
        about = json.loads(file.metadata()["dcgan_jax"])
    assert about["latent"] == {"dim": 8, "distribution": "normal"} and about["step"] == 2
    assert about["generator"]["image_size"] == 16 and about["generator"]["width"] == 4
    assert about["metrics"]["CIFAR/fd"] == 12.5 and about["metrics"]["loss_G"] > 0
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 4 * numbers < path.stat().st_size < 4 * numbers + 2500


def test_every_field_of_the_network_and_the_prior_comes_back(tmp_path):
    pytest.importorskip("safetensors")
    params = some_generator(image_size=32, width=3, channels=1, latent_dim=5, latent="uniform", dtype=jnp.bfloat16)
    (tmp_path / "a.safetensors").write_bytes(portable.to_safetensors(params, {}))
    back = restore(tmp_path / "a.safetensors", 7)
    assert (back.generator, back.latent) == (params.generator, params.latent)
    assert equal(decode(back, jnp.ones((2, 5))), decode(params, jnp.ones((2, 5))))


def test_generate_draws_from_the_file(run, tmp_path):
    pytest.importorskip("safetensors")
    command(Arguments(run, tmp_path / "out", formats=("safetensors",)))
    generate(Generate(tmp_path / "out" / "generator.safetensors", tmp_path / "pictures", num=2))
    with Image.open(tmp_path / "pictures" / "00001.png") as picture:
        assert np.array_equal(picture, to_uint8(sample(restore(run), KEY, 2))[1])


def test_other_files_and_steps_are_refused(run, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    command(Arguments(run, tmp_path, formats=("safetensors",)))
    path = tmp_path / "generator.safetensors"
    with pytest.raises(InputError, match="is of step 4, not 2: leave the step out"):
        restore(path, 2)
    with pytest.raises(InputError, match="does not exist: give a file that export wrote"):
        restore(tmp_path / "nonesuch.safetensors")
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:50], b"", whole.replace(b'\\"width\\": 4', b'\\"width\\": 5'), numpy.save({})):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a generator that export wrote"):
            restore(path)


class Own(nn.Module):
    @nn.compact
    def __call__(self, z, *, train):
        return nn.tanh(nn.Dense(16 * 16 * 3)(z)).reshape(-1, 16, 16, 3)


def test_networks_of_your_own_are_refused():
    own = Own()
    params = some_generator(image_size=16, width=4).replace(generator=own)
    with pytest.raises(InputError, match="html and onnx hold the built-in Generator only, not Own: export safetensors"):
        folded(params)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 16, "width": 5, "latent_dim": 7, "channels": 1},
        {"image_size": 64, "width": 16, "latent": "uniform"},
        {"image_size": 32, "width": 8, "self_modulation": True},
    ],
    ids=lambda options: str(options["image_size"]),
)
def test_onnx_runs_as_decode_does_for_any_number_of_images(options):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from dcgan_jax.share.onnx_graph import onnx_graph

    params = some_generator(**options)
    session = runtime.InferenceSession(onnx_graph(folded(params), {"step": "7"}), providers=["CPUExecutionProvider"])
    for num in (1, 5):
        z = np.asarray(params.latent.draw(KEY, num))
        (images,) = session.run(None, {"z": z})
        assert images.dtype == np.float32
        np.testing.assert_allclose(images, decode(params, z), atol=1e-4)
    assert np.std(images) > 0.2
    assert session.get_modelmeta().custom_metadata_map == {"step": "7"}


@pytest.mark.parametrize("modulation", [False, True])
def test_onnx_takes_the_class_of_each_image_as_a_second_input(modulation):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from dcgan_jax.share.onnx_graph import onnx_graph

    params = some_generator(image_size=16, width=5, latent_dim=7, classes=PETS, self_modulation=modulation)
    session = runtime.InferenceSession(onnx_graph(folded(params), {}, classes=3), providers=["CPUExecutionProvider"])
    z, labels = np.asarray(params.latent.draw(KEY, 4)), np.array([2, 0, 1, 2])
    (images,) = session.run(None, {"z": z, "labels": labels})
    np.testing.assert_allclose(images, decode(params, z, labels=labels), atol=1e-4)
    assert np.abs(images - decode(params, z, labels=0)).max() > 0.1


def test_safetensors_know_the_classes_by_name(tmp_path):
    classes = dataclasses.replace(PETS, balanced=True)
    params = some_generator(image_size=16, width=4, classes=classes, self_modulation=True)
    path = tmp_path / "a.safetensors"
    path.write_bytes(portable.to_safetensors(params, {}))
    back = restore(path)
    assert back.classes == params.classes and back.generator == params.generator
    np.testing.assert_array_equal(sample(back, KEY, 3, labels="dog"), sample(params, KEY, 3, labels=1))
    own = params.replace(
        generator=Own(), params=Own().init(KEY, np.zeros((1, 11)), train=False)["params"], batch_stats={}
    )
    path.write_bytes(portable.to_safetensors(own, {}))
    np.testing.assert_array_equal(
        sample(restore(path, generator=Own()), KEY, 3, labels=["cat", "dog", "dog"]),
        sample(own, KEY, 3, labels=[0, 1, 1]),
    )
    path.write_bytes(portable.to_safetensors(params.replace(classes=Classes(("a", "b", "c"), (1, 2))), {}))
    with pytest.raises(InputError, match=r"is not a generator that export wrote: classes without names or images"):
        restore(path)


def test_help_is_quick_to_import_and_the_folder_is_checked_first(run, tmp_path):
    code = """
import sys
sys.argv = ["export", "--help"]
from dcgan_jax.export import main
try:
    main()
except SystemExit:
    assert not {"jax", "onnx", "safetensors", "huggingface_hub"} & set(sys.modules)
"""
    done = python("-c", code)
    assert done.returncode == 0 and "--formats" in done.stdout, done.stderr
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file: give --out a folder"):
        command(Arguments(run, tmp_path / "file"))
    with pytest.raises(InputError, match="not the folder of a run"):
        command(Arguments(tmp_path, tmp_path / "out"))
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").write_text('[{"step": 4, "metrics": 1}]')
    with pytest.raises(InputError, match="evaluation.json is damaged"):
        command(Arguments(tmp_path / "run", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


class StandIn(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as one commit and one download use. ``server.files`` holds what was uploaded to
    ``me/REPOSITORY``."""

    def answer(self, status, content, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        here = f"http://127.0.0.1:{self.server.server_port}/me/{self.server.repository}"
        if self.headers["Authorization"] != "Bearer hf_mine" or "/other/" in self.path:
            return self.answer(401, b"")
        if self.path == f"/api/models/me/{self.server.repository}/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            found = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif self.path == f"/api/models/me/{self.server.repository}/commit/main":
            lines = [json.loads(line) for line in body.splitlines()]
            for value in (line["value"] for line in lines if line["key"] == "file"):
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            found = {"success": True, "commitUrl": f"{here}/commit/{'1' * 40}", "commitOid": "1" * 40}
        elif self.path == "/api/repos/create":
            found = {"url": here}
        else:
            found = {}
        self.answer(200, json.dumps(found).encode(), Content_Type="application/json")

    def do_GET(self):
        start, name = self.path.rsplit("/", 1)
        if start != f"/me/{self.server.repository}/resolve/main" or name not in self.server.files:
            return self.answer(404, b"", X_Error_Code="EntryNotFound")
        self.answer(200, self.server.files[name], ETag='"2"', X_Repo_Commit="1" * 40)

    do_HEAD = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        server.files, server.repository = {}, "things"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


PUSH = """
import sys, jax, numpy as np
from dcgan_jax import InputError, export, restore, sample
run, out = sys.argv[1:]
export(run, out, push="me/things", license="cc-by-4.0")
key = jax.random.key(0)
assert np.array_equal(sample(restore("hf:me/things"), key, 2), sample(restore(run), key, 2))
for attempt in (
    lambda: export(run, out, formats=("safetensors",), push="other/things"),
    lambda: restore("hf:me/nothing"),
    lambda: restore("hf:///"),
):
    try:
        attempt()
    except InputError as error:
        print("refused:", error)
"""


def test_a_pushed_run_is_restored_from_the_hub(run, tmp_path, server):
    pytest.importorskip("safetensors")
    pytest.importorskip("huggingface_hub")
    address = f"http://127.0.0.1:{server.server_port}"
    settings = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_mine", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}
    (run / "report.html").write_text("how it went")
    done = python("-c", PUSH, run, tmp_path / "out", variables=settings)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"{address}/me/things" in lines
    refused = [line for line in lines if line.startswith("refused:")]
    assert (
        len(refused) == 3
        and "upload to other/things: " in refused[0]
        and "401" in refused[0]
        and "hf auth login" in refused[0]
    )
    local = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    card = server.files.pop("README.md").decode()
    check_as_the_hub_reads(card)
    assert server.files.pop("report.html") == b"how it went"
    assert server.files.pop("samples.png").startswith(b"\x89PNG")
    assert server.files == local and "generator.safetensors" in local
    assert 'restore("hf:me/things")' in card and "| width | 4 |" in card and "| loss_G | " in card
    for row in (
        "FD (CIFAR features), 6 samples | 11.5 | 1.5",
        "FD (EfficientNet-Lite2 features), 6 samples | 90 | 1.5",
    ):
        assert f"| {row} |" in card
    assert str(run.parent) not in card  # no path of this machine
    assert {"explorer.html", "report.html"} <= set(re.findall(r"`(\S+)`: ", card))


@pytest.mark.slow
def test_a_published_model_is_one_to_start_from(photos, tmp_path, server):
    """``experiments/models.py`` trains, measures and pushes it; another run starts from it."""
    pytest.importorskip("safetensors")
    pytest.importorskip("huggingface_hub")
    address = f"http://127.0.0.1:{server.server_port}"
    settings = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_mine", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}
    tiny = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 4, "evaluate_every": 0, "data": str(photos)}
    script = Path(__file__).parents[1] / "experiments" / "models.py"
    flags = ["--only", "creatures-32", "--recipe", "classic", "--num", 6, "--push", "me", "--prefix", ""]
    changes = json.dumps({**tiny, "steps": 2, "input": "numpy"})
    server.repository = "creatures-32"
    made = python(script, "--out", tmp_path, *flags, "--changes", changes, variables=settings)
    assert made.returncode == 0, made.stderr
    card = server.files["README.md"].decode()
    assert "license: mit" in card and "FD (CIFAR features), 6 samples" in card
    (local,) = (tmp_path / "creatures-32" / "shared").glob("*.safetensors")
    assert server.files["generator.safetensors"] == local.read_bytes()
    code = "import json, sys; from dcgan_jax import *; fit(Config(**json.loads(sys.argv[1])), sys.argv[2])"
    config = json.dumps({**tiny, "steps": 1, "init": "hf:me/creatures-32"})
    started = python("-c", code, config, tmp_path / "run", variables=settings)
    assert started.returncode == 0, started.stderr
    record = json.loads((tmp_path / "run" / "init.json").read_text())
    assert record["taken"] == ["generator", "discriminator"] and record["source"] == "hf:me/creatures-32"
    assert record["sha256"] == hashlib.sha256(local.read_bytes()).hexdigest()
    assert equal(restore(tmp_path / "run", 0).params, restore(local).params)


def check_as_the_hub_reads(card):
    """By the Hub's own parser: https://huggingface.co/docs/hub/model-cards names the fields."""
    from huggingface_hub import ModelCard

    data = ModelCard(card).data
    assert (data.license, data.library_name, data.model_name) == ("cc-by-4.0", "dcgan_jax", "photos0, step 4")
    assert data.pipeline_tag == "unconditional-image-generation" and {"dcgan", "gan", "jax", "flax"} == set(data.tags)
    assert data.metrics == ["fd"]
    assert [(one.task_type, one.metric_type, one.metric_name, one.metric_value) for one in data.eval_results] == [
        (data.pipeline_tag, "fd", "FD (CIFAR features), 6 samples", 11.5),
        (data.pipeline_tag, "fd", "FD (EfficientNet-Lite2 features), 6 samples", 90),
    ]
    assert {(one.dataset_type, one.dataset_name) for one in data.eval_results} == {("photos0", "photos0")}


def test_the_card_names_the_model_that_training_started_from():
    hub = pytest.importorskip("huggingface_hub")
    card = model_card(
        "me/cats", "cats", Config(), [], [], init="hf:me/things (step 7, SHA-256 0f of model.safetensors)"
    )
    assert hub.ModelCard(card).data.base_model == "me/things"
    assert "starting from hf:me/things (step 7, SHA-256 0f of model.safetensors)." in card
    other = hub.ModelCard(
        model_card("me/cats", "cats", Config(), [], [], init="runs (step 7, SHA-256 0f of a/manifest.json)")
    )
    assert other.data.base_model is None


def test_push_is_checked_before_anything_is_written(run, tmp_path):
    wrongs = ({"push": "things"}, {"push": "me/things", "formats": ("html",)}, {"formats": ("png",)})
    licences = ({"license": "mit"}, {"push": "me/things", "license": "My own"})
    messages = "USER/NAME|--push needs safetensors|format 'png' is unknown|give --push too|as the Hub names them"
    for wrong in (*wrongs, *licences):
        with pytest.raises(InputError, match=messages):
            export(run, tmp_path / "out", **wrong)
    assert list(tmp_path.iterdir()) == []
