r"""Names of files may hold anything: other encodings, line breaks, parts of templates. They are shown, escaped."""

import dataclasses
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from helpers import python, some_generator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dcgan_jax import Config, fit
from dcgan_jax.animate import Arguments as Animate
from dcgan_jax.animate import run as animate
from dcgan_jax.cli import endings
from dcgan_jax.export import Arguments as Export
from dcgan_jax.export import run as export
from dcgan_jax.generate import Arguments as Generate
from dcgan_jax.generate import run as generate
from dcgan_jax.report import Arguments as Report
from dcgan_jax.report import run as report
from dcgan_jax.share.explorer import explorer
from dcgan_jax.share.folding import folded
from dcgan_jax.share.hub import model_card
from dcgan_jax.system.errors import printable, shell_word
from dcgan_jax.train import Arguments as Train
from dcgan_jax.train import run as train
from dcgan_jax.views.classes import Row, save_classes


def photos(folder):
    for kind in (b"kl\xe9", b"tr\xe8s"):
        place = os.path.join(os.fsencode(folder), kind)
        os.makedirs(place)
        for i in range(6):
            Image.new("RGB", (16, 16), (20 * i, 40, 90)).save(os.fsdecode(os.path.join(place, b"%d.png" % i)))
    with open(os.path.join(os.fsencode(folder), b"b\xe4d.png"), "wb") as file:
        file.write(b"no picture")


def test_names_in_other_encodings_are_shown_with_their_bytes():
    assert printable(os.fsdecode(b"caf\xe9\n")) == r"caf\xe9\n" and printable("café \ud800") == r"café \ud800"


def test_a_run_on_a_folder_in_another_encoding_is_reported_and_exported(tmp_path):
    data = os.path.join(str(tmp_path), os.fsdecode(b"caf\xe9"))
    photos(data)
    config = Config(data=data, image_size=16, width=4, latent_dim=8, batch_size=4, steps=2)
    fit(config, tmp_path / "run")
    fit(dataclasses.replace(config, steps=3), tmp_path / "run")
    assert (tmp_path / "run" / "skipped.txt").read_text().startswith(r"b\xe4d.png (")
    assert r"from caf\xe9;" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == data
    out = os.fsdecode(b"shared\xe9")
    command = ["export", "--workdir", "run", "--out", out, "--formats", "html"]
    done = python("-m", "dcgan_jax", *command, cwd=tmp_path, text=False)
    assert done.returncode == 0 and rb"shared\xe9/explorer.html" in done.stdout, done.stderr
    page = (tmp_path / out / "explorer.html").read_text()
    assert json.loads(model(page))["title"] == r"caf\xe9, drawn by a neural network"


def model(page):
    return re.search(r'id="model">(.*?)</script>', page)[1]


def test_a_title_is_never_taken_for_a_part_of_the_page():
    params = some_generator(image_size=16, width=4)
    plain = explorer(folded(params), latent=params.latent, title="TITLE", facts=[], weights="")
    for title in ("{{script}} {{weights}}", "</script><script>alert(1)</script>", "{{model}}"):
        page = explorer(folded(params), latent=params.latent, title=title, facts=[], weights="")
        assert json.loads(model(page))["title"] == title
        assert page.replace(model(page), "") == plain.replace(model(plain), "")


def test_the_model_card_names_the_classes_and_draws_one():
    card = model_card("user/name", "a", Config(), [], ["generator.onnx"], classes=("cat, wild", "<b>|dog"))
    assert "| classes: `labels=` | 0 = cat, wild, 1 = \\<b\\>\\|dog |" in card
    assert "`z` (N, latent_dim), `labels` (N,), int64 -> `images`" in card
    assert 'sample(restore("hf:user/name"), jax.random.key(0), labels=0)' in card
    assert "classes" not in model_card("user/name", "a", Config(), [], [])


def test_a_name_adds_no_markdown_to_the_model_card():
    title = "a\n\n# Free | *money* [here](http://x) <img>"
    card = model_card("user/name", title, Config(), [("KID", "0.1", "0")], [])
    heads = [line for line in card.splitlines() if line.startswith("#")]
    assert heads == [r"# a\n\n\# Free \| \*money\* \[here\](http://x) \<img\>".replace(r"a\n\n", r"a\\n\\n")]
    assert len(card.splitlines()) == len(model_card("user/name", "a", Config(), [("KID", "0", "0")], []).splitlines())


def test_labels_with_any_characters_are_drawn(tmp_path):
    images, figure = np.zeros((4, 16, 16, 3), np.uint8), (0.5, 0.4, 0.6)
    rows = [Row(name, images, images, figure, 0.5, figure) for name in (os.fsdecode(b"kl\xe9"), r"$\frac{$", "a\nb")]
    save_classes(tmp_path / "a.png", rows, step=1, features="CIFAR")
    Image.open(tmp_path / "a.png").verify()


def test_a_run_in_a_folder_in_another_encoding_is_one_like_any_other(tmp_path, capsys):
    photos(tmp_path / "data")
    here = tmp_path / os.fsdecode(b"caf\xe9 au lait")
    config = Config(data=str(tmp_path / "data"), image_size=16, width=4, latent_dim=8, batch_size=4, steps=2)
    with endings():
        train(Train(here / "run", config=config))
        train(Train(here / "run", config=dataclasses.replace(config, steps=4)))
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("more pictures: ")
    shell = ["bash", "-c", f'set -- {command}; printf %s "$5"']
    assert subprocess.run(shell, capture_output=True, check=True).stdout == os.fsencode(here / "run")
    assert (here / "run" / "checkpoints" / "4" / "manifest.json").exists()
    board = shutil.copytree(here / "run" / "tensorboard", tmp_path / "board")  # its own reader wants UTF-8
    events = EventAccumulator(str(board))
    assert [event.step for event in events.Reload().Scalars("loss_D")][-1] == 4

    with endings():
        generate(Generate(here / "run", here / "pictures", num=2))
        report(Report(here / "run", out=here / "page.html"))
        animate(Animate(here / "run", here / "walk.gif", seconds=0.2, size=(1, 1)))
        export(Export(here / "run", here / "shared", formats=("html", "safetensors")))
        generate(Generate(here / "shared" / "generator.safetensors", here / "again", num=2))
    for name in ("00001.png", "grid.png"):
        assert (here / "pictures" / name).read_bytes() == (here / "again" / name).read_bytes()
    with Image.open(here / "walk.gif") as walk:
        assert walk.n_frames == 4
    assert (here / "page.html").stat().st_size > 10_000
    assert {path.name for path in tmp_path.iterdir()} == {"data", "board", here.name}


@pytest.mark.parametrize(
    "name", [b"plain/run", b"two words", b"it's", b'$HOME `ls` "', b"caf\xe9's $x", b"a\nb", b"-a", "é".encode()]
)
def test_a_name_in_a_command_is_one_word(name):
    shell = ["bash", "-c", f"printf %s. {shell_word(os.fsdecode(name))}"]
    assert subprocess.run(shell, capture_output=True, check=True).stdout == name + b"."
