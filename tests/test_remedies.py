"""Messages that say what to do: each is brought about, what it says is done, and then it works."""

import ast
import dataclasses
import functools
import importlib.metadata
import importlib.util
import re
import shutil
import typing
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import prepared, some_generator
from PIL import Image

import dcgan_jax
from dcgan_jax import Config, InputError, create_state, decode, restore, slerp, train
from dcgan_jax.data.sources import open_source
from dcgan_jax.gan.networks import Generator, build
from dcgan_jax.recipes import RECIPES, check_meant, recipe
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.history import History
from dcgan_jax.run.hold import held
from dcgan_jax.share.folding import folded
from dcgan_jax.share.portable import to_safetensors
from dcgan_jax.system.cache import writable_cache
from dcgan_jax.system.cluster import Cluster
from dcgan_jax.system.disk import writing
from dcgan_jax.system.files import check_new_folder, locked, write_text
from dcgan_jax.views.grid import grid, read_tiles, save_png

TINY = Config(image_size=16, width=4, latent_dim=8, batch_size=4, steps=6)


def refused(message, call, *args, **named):
    """The text of the error with ``message``."""
    with pytest.raises(InputError, match=message) as error:
        call(*args, **named)
    return str(error.value)


def begun(config):
    """Whether a new run may have these settings, up to what the networks are made of. Nothing is computed."""
    check_meant(config)
    return jax.eval_shape(functools.partial(create_state, config))


def hold(folder, config, store=None):
    """What ``fit`` does before it trains; returns the settings of the run that is there."""
    with held(RunFolder(folder), config) as taken:
        if store is not None:
            taken.begin(store)
    return taken.before


class Own(nn.Module):
    """A generator without weights."""

    @nn.compact
    def __call__(self, z, *, train):
        return jnp.tanh(z[:, :3])[:, None, None] * jnp.ones((1, 16, 16, 1))


CHAPTER, SPECTRAL = RECIPES["chapter"].config, {"discriminator_norm": "spectral"}
OF_ROBUST = {field.name: getattr(TINY, field.name) for field in dataclasses.fields(Config)} | {"recipe": "robust"}


@pytest.mark.parametrize(
    ("message", "wrong", "remedies"),
    [
        ("BatchNorm needs at least 2", {"batch_size": 1}, [{"batch_size": 2}]),
        ("nearest are 48 and 56", {"image_size": 50}, [{"image_size": 48}, {"image_size": 56}]),
        ("nearest are 224 and 256", {"image_size": 5000}, [{"image_size": 224}, {"image_size": 256}]),
        ("nearest are 96x64 and 112x64", {"image_size": "100x60"}, [{"image_size": "96x64"}, {"image_size": "112x64"}]),
        ("such as 4e-4", {"learning_rate": 0.0}, [{"learning_rate": 4e-4}]),
        ("such as 1$", {"discriminator_rate": 0.0}, [{"discriminator_rate": 1.0}]),
        ("such as 8192", {"ema_half_life": -1.0}, [{"ema_half_life": 8192.0}]),
        ("a number of 41 bits: give a smaller", {"steps": 2**40}, [{"steps": 2**20}]),
        ("less than 2\\*\\*31", {"steps": 2**31}, [{"steps": 2**31 - 1}]),
        ("two different numbers", {"range": (1, 1)}, [{"range": (0, 1)}, {"range": (1, 0)}]),
        (
            "give sprites, pokemon, tfds:NAME, hf:NAME, or a folder",
            {"data": ""},
            [{"data": name} for name in ("sprites", "pokemon", "tfds:mnist", "photos", "photos.zip")],
        ),
        ("of the form package.module:Name", {"objective": "hinge"}, [{"objective": "losses:hinge"}]),
    ],
)
def test_settings(message, wrong, remedies):
    refused(message, Config, **wrong)
    assert all(Config(**{**wrong, **mended}) for mended in remedies)


@pytest.mark.parametrize("beta2", [0.0, 0.3, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1 - 2**-20])
def test_the_largest_beta2_final_that_is_named_is_taken(beta2):
    said = refused("makes beta2 negative: give at most ", Config, beta2=beta2, beta2_final=2 / (1 - beta2))
    most = float(said.rpartition(" ")[2])
    assert Config(beta2=beta2, beta2_final=most) and most > 0.9999 / (1 - beta2)


def test_every_choice_that_is_offered_is_one():
    for field in dataclasses.fields(Config):
        if typing.get_origin(field.type) is typing.Literal and field.name != "recipe":
            said = refused("is unknown: choose", Config, **{field.name: "nonesuch"})
            assert all(Config(**{field.name: name}) for name in said.partition("choose ")[2].split(" or "))
    said = refused("there is no recipe", recipe, "best")
    assert all(recipe(name).recipe == name for name in said.partition("choose ")[2].split(" or "))


def test_first_batchnorm():
    refused("--discriminator-norm batch, or give --no-first", dataclasses.replace, CHAPTER, discriminator_norm="none")
    assert dataclasses.replace(CHAPTER, discriminator_norm="batch")
    assert dataclasses.replace(CHAPTER, discriminator_norm="none", first_batchnorm=False)


@pytest.mark.parametrize(("name", "usual"), [("gamma", 0), ("penalty_every", 1)])
def test_a_setting_of_a_penalty_without_one(name, usual):
    config = dataclasses.replace(TINY, **{name: 2})
    refused(f"r1, r2 or both, which needs --discriminator-norm .*: give that, or leave it at {usual}$", begun, config)
    assert begun(dataclasses.replace(config, penalty="r1", **SPECTRAL))
    assert begun(dataclasses.replace(config, **{name: usual}))
    config = dataclasses.replace(config, **SPECTRAL)
    refused("without --penalty r1, r2 or both: give that", begun, config)
    assert begun(dataclasses.replace(config, penalty="both"))


def test_a_penalty_with_batchnorm():
    config = dataclasses.replace(TINY, penalty="r2")
    refused("--discriminator-norm none or spectral", begun, config)
    for norm in ("none", "spectral"):
        assert begun(dataclasses.replace(config, discriminator_norm=norm))


def test_the_name_of_a_recipe_alone():
    refused(r"use dcgan_jax.recipe\('robust'\), which takes changes", Config, recipe="robust", width=8)
    assert dcgan_jax.recipe("robust", width=8).width == 8
    refused(r"start from dcgan_jax.recipe\('robust'\), or leave the name out", check_meant, Config(**OF_ROBUST))
    check_meant(recipe("robust", width=8))
    check_meant(Config(**{name: value for name, value in OF_ROBUST.items() if name != "recipe"}))
    refused("there is no setting widht .* see the fields of Config", recipe, "sn", widht=8)
    assert "width" in {field.name for field in dataclasses.fields(Config)}


def test_a_configuration_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(TINY.to_json().replace('  "precision": "float32",\n', "").replace(',\n  "retries": 3', ""))
    added = refused("if the run used the defaults, add", Config.load, path).partition(", add ")[2]
    path.write_text(path.read_text().rstrip("\n}") + f",\n  {added}\n}}\n")
    assert Config.load(path) == TINY
    copy = shutil.copy(path, tmp_path / "copy.json")
    path.write_text("")
    refused("is empty: bring a copy of it back", Config.load, path)
    shutil.copy(copy, path)
    assert Config.load(path) == TINY


def test_networks_of_ones_own(tmp_path, monkeypatch):
    code = "import flax.linen as nn\nclass Net(nn.Module):\n    depth: int{}\n"
    (tmp_path / "remedy_nets.py").write_text(code.format(""))
    config = Config(generator="remedy_nets:Nett")
    refused("add the folder of remedy_nets to PYTHONPATH, or in a script give generator=", config.imported, "generator")
    monkeypatch.syspath_prepend(tmp_path)
    refused(r"has no attribute 'Nett'\): name what is in it", config.imported, "generator")
    own = dataclasses.replace(config, generator="remedy_nets:Net").imported("generator")
    refused("give its other fields defaults, or name a module that has been made", build, own, config)
    assert isinstance(own(depth=3), nn.Module)
    (tmp_path / "mended_nets.py").write_text(code.format(" = 3"))
    assert build(Config(generator="mended_nets:Net").imported("generator"), config).depth == 3


@pytest.mark.parametrize(
    ("message", "wrong", "right"),
    [
        ("leave it out, or --coordinator", {"distributed": True}, {"distributed": False}),
        (
            "leave it out, or --coordinator, --num-processes and --process-id",
            {"distributed": True},
            {"coordinator": None, "num_processes": None, "process_id": None},
        ),
        ("give all three", {"process_id": None}, {"process_id": 0}),
        ("such as 10.0.0.1:1234", {"coordinator": "host"}, {"coordinator": "10.0.0.1:1234"}),
        (r"process_id 2 must lie in \[0, num_processes\), which is 2", {"process_id": 2}, {"process_id": 1}),
        ("num_processes 0 must be at least 1", {"num_processes": 0}, {"num_processes": 1}),
    ],
)
def test_flags_of_a_cluster(message, wrong, right):
    whole = {"coordinator": "host:1", "num_processes": 2, "process_id": 0}
    refused(message, Cluster, **{**whole, **wrong})
    assert Cluster(**{**whole, **wrong, **right})


@pytest.mark.parametrize(
    ("message", "command", "wrong", "remedies"),
    [
        ("must come with --classes", "evaluate", {"class_names": ("a",)}, [{"classes": True}, {"class_names": ()}]),
        ("one step with --classes", "evaluate", {"classes": True, "step": (1, 2)}, [{"step": (1,)}, {"classes": False}]),
        (
            "leave one of them out",
            "evaluate",
            {"classes": True, "inception": Path("a.pb")},
            [{"classes": False}, {"inception": None}],
        ),
    ],
)  # fmt: skip
def test_flags_of_commands(message, command, wrong, remedies):
    arguments = importlib.import_module(f"dcgan_jax.{command}").Arguments
    whole = {name: Path("x") for name in ("workdir", "out") if name in arguments.__dataclass_fields__}
    refused(message, arguments, **{**whole, **wrong})
    assert all(arguments(**{**whole, **wrong, **right}) for right in remedies)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has begun on 12 pictures, which lie beside it."""
    for i in range(12):
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (20 * i, 40, 90)).save(tmp_path / "data" / f"{i}.png")
    config = dataclasses.replace(TINY, data=str(tmp_path / "data"))
    hold(tmp_path / "run", config, prepared(config.data, tmp_path / "cache"))
    return RunFolder(tmp_path / "run")


def test_other_settings_than_those_of_the_run(run):
    other = dataclasses.replace(run.config(), width=8)
    refused(r"width \(8, was 4\); leave these flags out, or give another --workdir", hold, run.path, other)
    there = run.config()  # what a flag that is left out has
    assert hold(run.path, there) == there and hold(run.path.with_name("another"), other) is None


def test_what_a_run_keeps_is_switched_off_by_a_flag(run, monkeypatch):
    """Images that do not fit into memory: --device-data, when it is left out, has the value of the run."""
    kept = dataclasses.replace(run.config(), device_data=True)
    hold(run.path, kept, prepared(kept.data, run.path.with_name("cache")))
    seen = []
    monkeypatch.setattr(train.cli, "run", lambda _, arguments: seen.append(arguments.config.device_data))
    for flags in ([], ["--no-device-data"]):
        monkeypatch.setattr("sys.argv", ["train", "--workdir", str(run.path), *flags])
        train.main()
    assert seen == [True, False]


def test_images_that_have_moved(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    refused("If the images have moved, give train --data with their new", open_source, run.config(), tmp_path / "cache")
    config = dataclasses.replace(run.config(), data=str(tmp_path / "elsewhere"))
    hold(run.path, config, prepared(config.data, tmp_path / "cache"))
    assert open_source(run.config(), tmp_path / "cache").count == 12  # as evaluate finds them


def test_images_that_have_changed(run, tmp_path):
    def resume(place=run.path):
        return hold(place, run.config(), prepared(run.config().data, tmp_path / "cache"))

    gone = (tmp_path / "data" / "3.png").rename(tmp_path / "3.png")
    refused(r"\(11 now, 12 then\): restore those, give another --workdir, or delete .*images\.json to", resume)
    gone.rename(tmp_path / "data" / "3.png")
    assert resume() == run.config()
    (tmp_path / "data" / "3.png").unlink()
    assert resume(tmp_path / "another") is None
    refused("has other images", resume)
    run.images.unlink()
    assert resume() == run.config() and run.images_then()["count"] == 11


def test_a_run_without_its_checkpoints(run, tmp_path):
    run.metrics.write_text('{"step": 100000, "loss_D": 1.0}\n')
    run.manifest(5).parent.mkdir(parents=True)
    run.manifest(5).write_text("{}")
    run.checkpoints.rename(tmp_path / "kept")
    resume = functools.partial(hold, run.path, run.config())
    refused("bring .*checkpoints back, or delete .*metrics.jsonl to start the run anew", resume)
    (tmp_path / "kept").rename(run.checkpoints)
    assert resume() == run.config()
    shutil.rmtree(run.checkpoints)
    run.metrics.unlink()
    assert resume() == run.config()


@pytest.mark.parametrize(
    ("message", "there"),
    [
        ("is a file, not the folder of a run: give another --workdir", ""),
        ("exists, but no config.json beside it: give another --workdir", "metrics.jsonl"),
        ("not a checkpoint folder: it holds 'notes.txt'; give another --workdir", "checkpoints/notes.txt"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, message, there):
    (tmp_path / "wrong" / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "wrong" / there).write_text("")
    refused(message, hold, tmp_path / "wrong", TINY)
    assert hold(tmp_path / "another", TINY) is None


def test_a_folder_in_use_or_among_the_images(run, tmp_path):
    with held(run, run.config()):
        refused("in use by another process: wait until it ends, or give another --workdir", hold, run.path, TINY)
        assert hold(tmp_path / "another", TINY) is None
    assert hold(run.path, run.config()) == run.config()
    refused("would be used for training: give another --workdir", hold, tmp_path / "data" / "run", run.config())
    assert hold(tmp_path / "another", run.config()) is None


def test_damaged_files_of_a_run(run):
    run.samples.mkdir()
    run.metrics.write_text('{"step": 1, "loss_D": 1.0}\n{"step\n{"step": 3, "loss_D": 1.0}\n')
    for path in (run.images, run.timing, run.evaluation, run.grid(3)):
        path.write_text("{")
    for path, read in (
        (run.images, run.images_then),
        (run.timing, run.timings),
        (run.evaluation, functools.partial(run.read_json, run.evaluation)),
    ):
        refused(f"{path} is damaged .*: delete it", read)
        path.unlink()
        assert not read()
    refused("step_.* is damaged .*: delete it", read_tiles, run.grid(3), (16, 16, 3))
    run.grid(3).unlink()
    assert run.grids() == {}
    refused(r"metrics\.jsonl, line 2 is damaged .*: remove it", History.read, run.metrics)
    run.metrics.write_text("".join(run.metrics.read_text().splitlines(keepends=True)[::2]))
    assert [line["step"] for line in History.read(run.metrics).lines] == [1, 3]


def test_outputs(run, tmp_path, monkeypatch):
    refused("belongs to the run in .*: give --out another name", RunFolder.output, run.samples / "a.gif")
    assert RunFolder.output(run.path / "a.gif") == run.path / "a.gif"
    refused("is not an empty folder: give --out another one", check_new_folder, tmp_path / "data")
    check_new_folder(tmp_path / "another")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    refused("cannot be replaced by a new folder: give --out a folder in it", check_new_folder, Path("."))
    check_new_folder(Path("a"))
    refused("cannot be replaced by one: give another name", write_text, tmp_path / "data", "")
    write_text(tmp_path / "another", "")
    (tmp_path / "lock").mkdir()
    refused("is not a regular file: delete it", locked(tmp_path / "lock").__enter__)
    (tmp_path / "lock").rmdir()
    with locked(tmp_path / "lock"):
        pass
    with pytest.raises(InputError, match="give a shorter name"), writing(tmp_path):
        write_text(tmp_path / (300 * "a"), "")
    write_text(tmp_path / (30 * "a"), "")
    refused("which is too large: lay out fewer", grid, np.broadcast_to(np.uint8(0), (40_000, 64, 64, 3)), 200)
    assert grid(np.broadcast_to(np.uint8(0), (40, 64, 64, 3)), 8).shape == (332, 530, 3)


def test_the_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DCGAN_JAX_CACHE", str(tmp_path / "file" / "cache"))
    refused("set DCGAN_JAX_CACHE to a folder that can be written", writable_cache)
    monkeypatch.setenv("DCGAN_JAX_CACHE", str(tmp_path / "cache"))
    assert writable_cache() == tmp_path / "cache"


def test_what_is_uploaded(run, tmp_path):
    share = functools.partial(dcgan_jax.export, run.path, tmp_path / "out")
    refused("is not USER/NAME", share, push="b")
    refused("needs safetensors among", share, push="a/b", formats=("html",))
    refused("has no checkpoint yet", share, push="a/b", formats=("html", "safetensors"))  # the next that is wrong


def test_pictures_that_are_projected(run, tmp_path):
    picture = tmp_path / "data" / "0.png"
    refused("give --image once or twice", dcgan_jax.project, run.path, 3 * [picture], tmp_path / "out")
    for pictures in ([picture], 2 * [picture]):
        refused("has no checkpoint yet", dcgan_jax.project, run.path, pictures, tmp_path / "out")


def test_an_animation_of_the_training(run, tmp_path):
    def draw(name="a.gif", **options):
        dcgan_jax.animate(run.path, tmp_path / name, what="training", **options)

    short = {"seconds": 0.2, "size": (2, 1)}
    refused("leave them out with --what training", draw, seed=3, **short)
    refused("at least 2 frames, at most 10,000", draw, seconds=1e4)
    refused("holds no sample grids: train the run first", draw, **short)
    run.samples.mkdir()
    save_png(run.grid(3), grid(np.zeros((4, 16, 16, 3), np.uint8), 2))
    refused("has 2x2 images: give a smaller --size", draw, seconds=0.2, size=(3, 1))
    refused("give --out one of these endings", draw, "a.avi", **short)
    refused("smaller --size, --scale, --seconds or --fps", draw, seconds=200.0, fps=50, size=(2, 2), scale=100)
    for name in ("a.gif", "a.webp"):
        draw(name, **short)
        assert (tmp_path / name).stat().st_size > 0


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    path = tmp_path_factory.mktemp("remedies") / "generator.safetensors"
    path.write_bytes(to_safetensors(some_generator(width=4, image_size=16), {}))
    return path


@pytest.mark.parametrize(
    ("message", "wrong"),
    [
        (r"leave out ema=False \(--no-ema\)", {"ema": False}),
        ("leave out generator=", {"generator": Generator(width=4, image_size=16)}),
        ("leave out the step", {"step": "newest"}),
        ("leave the step out", {"step": 8}),
        ('must be "best", "newest", or a whole number', {"step": 7.0}),
    ],
)
def test_arguments_for_an_exported_file(portable, message, wrong):
    refused(message, restore, portable, **wrong)
    assert restore(portable).step == 7
    refused("give a file that export wrote", restore, portable.with_name("other.safetensors"))


def test_arguments_of_functions():
    params = some_generator(width=4, image_size=16)
    refused(r"z must be of the shape \(N, 8\)", decode, params, jnp.zeros((2, 9)))
    assert jax.eval_shape(functools.partial(decode, params), jnp.zeros((2, 8))).shape == (2, 16, 16, 3)
    refused("a and b must be of one shape", slerp, jnp.zeros(8), jnp.zeros(9), jnp.zeros(1))
    assert jax.eval_shape(slerp, jnp.zeros(8), jnp.zeros(8), jnp.zeros(1)).shape == (1, 8)
    refused(r"must be a Config, such as Config\(data='sprites'\)", create_state, {"width": 4})
    assert begun(dataclasses.replace(TINY, data="sprites"))


def test_a_network_that_cannot_be_exported():
    params = dataclasses.replace(some_generator(width=4, image_size=16), generator=Own())
    refused("hold the built-in Generator only, not Own: export safetensors", folded, params)
    assert len(to_safetensors(params, {})) > 0


def test_pictures_are_drawn_where_there_is_room(portable, tmp_path):
    def draw(out):
        dcgan_jax.generate(portable, tmp_path / out, num=1)

    for folder, name in (("pictures", "a.png"), ("notes", "a.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("")
    refused("already holds pictures: give --out another folder", draw, "pictures")
    refused("is not an empty folder: give --out another one", draw, "notes")
    refused("is a file: give --out a folder", draw, "notes/a.txt")
    (tmp_path / "notes" / "unfinished.json").write_text("{}")
    refused("an unfinished start with other weights .*: give --out another folder", draw, "notes")
    draw("another")
    assert {path.name for path in (tmp_path / "another").iterdir()} == {"00000.png", "grid.png"}


def test_a_zip_in_a_folder(photos, tmp_path):
    (tmp_path / "data").mkdir()
    archive = shutil.make_archive(str(tmp_path / "data" / "photos"), "zip", photos)
    refused("a .zip is read if it is given as --data itself", prepared, tmp_path / "data", tmp_path / "cache")
    assert len(prepared(archive, tmp_path / "cache")) == 12


@pytest.mark.parametrize("values", [np.float32([[0.1, 0.9]]), np.int32([[-500, 500]])])
def test_values_without_a_range(tmp_path, values):
    (tmp_path / "data").mkdir()
    Image.fromarray(values).save(tmp_path / "data" / "a.tif")
    refused("state (it|them) with --range LOW HIGH", prepared, tmp_path / "data", tmp_path / "cache")
    low, high = float(values.min()), float(values.max())
    assert len(prepared(tmp_path / "data", tmp_path / "cache", range=(low, high))) == 1


def test_a_background(photos, tmp_path):
    refused("is not a colour: use a name such as white, or #rrggbb", prepared, photos, tmp_path, background="wite")
    for colour in ("white", "#0a0b0c"):
        assert len(prepared(photos, tmp_path, background=colour)) == 12


def test_copies_and_a_range_without_effect(photos, tmp_path, capsys):
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    for i in range(3):
        shutil.copy(data / "even" / "00.png", data / f"copy{i}.png")
    prepared(data, tmp_path, range=(0, 9))
    said = capsys.readouterr().err
    assert "delete the copies" in said and "--range changes nothing" in said
    for i in range(3):
        (data / f"copy{i}.png").unlink()
    prepared(data, tmp_path)
    said = capsys.readouterr().err
    assert "delete the copies" not in said and "--range" not in said


FOLDER = Path(dcgan_jax.__file__).parent
TEXTS = [
    node.value
    for path in sorted(FOLDER.rglob("*.py"))
    if path.parent.name != "views"  # where -- begins a variable of CSS
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
]


def found(pattern):
    return {match for text in TEXTS for match in re.findall(pattern, text)}


def test_every_flag_command_extra_and_script_that_is_named_exists():
    kinds = [importlib.import_module(f"dcgan_jax.{path.stem}") for path in FOLDER.glob("[a-z]*.py")]
    kinds = [kind.Arguments for kind in kinds if hasattr(kind, "Arguments")] + [Config, Cluster]
    fields = {field.name.replace("_", "-"): field.type for kind in kinds for field in dataclasses.fields(kind)}
    fields["class"] = fields["labels"]  # a word of Python, which no field can be called
    named = found(r"(?<![\w-])--([a-z][a-z-]*)") - {"help", "version", "force-reinstall", "no-deps"}
    assert len(named) > 20 and {name.removeprefix("no-") for name in named} <= fields.keys()
    for name, value in found(r"(?<![\w-])--(recipe|augment|penalty|discriminator-norm|precision|input) ([a-z0-9]+)"):
        assert value in typing.get_args(fields[name]), (name, value)
    commands = found(r"python -m dcgan_jax\.(\w+)")
    assert commands >= {"evaluate", "report", "generate"}
    assert all((FOLDER / f"{name}.py").exists() for name in commands)
    extras = {extra for group in found(r"dcgan_jax\[([a-z0-9,]+)\]") for extra in group.split(",")}
    assert {"export", "hub", "imagenet", "cuda13"} <= extras
    assert extras <= set(importlib.metadata.metadata("dcgan_jax").get_all("Provides-Extra") or ())
    assert not found(r"install (?:-e )?'\.\[")  # which works in one folder alone
    scripts = found(r"experiments/\w+\.py")
    assert scripts and all((FOLDER.parent / name).exists() for name in scripts)
