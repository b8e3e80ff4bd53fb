import dataclasses
import json
import typing

import pytest

from dcgan_jax.config import Config
from dcgan_jax.recipes import recipe
from dcgan_jax.system.errors import InputError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 50}, "3 to 8 times the same power of two, from 16 to 256 pixels; the nearest are 48 and 56"),
        ({"image_size": 100}, "96 and 112"),
        ({"image_size": 0}, "16 and 20"),
        ({"image_size": 4096}, "224 and 256"),
        ({"image_size": "100x60"}, "image_size 100x60 is not supported: .* the nearest are 96x64 and 112x64"),
        ({"image_size": (4, 3)}, "the nearest are 16 and 20x16"),
        ({"image_size": "wide"}, "image_size 'wide' must be a number of pixels, or HEIGHTxWIDTH such as 96x64"),
        ({"image_size": True}, "image_size True must be a number of pixels"),
        ({"image_size": 64.0}, "image_size 64.0 must be a number of pixels"),
        ({"channels": 4, "background": "red"}, "background 'red' is seen nowhere with channels 4.*give --channels 3"),
        ({"channels": 2, "bits": "16"}, "bits 16 cannot be had with channels 2, .*leave it out, or give --channels 1"),
        ({"channels": 0}, "channels 0 must be a number of channels, from 1 to 256"),
        ({"show": (4, 2, 1)}, r"show \(4, 2, 1\) must be one channel or three of the 3 that there are"),
        ({"channels": 5, "show": (0,)}, "must be one channel or three of the 5 that there are, counted from 1"),
        ({"channels": 5, "show": (1, 2)}, "must be one channel or three"),
        ({"batch_size": 1}, "BatchNorm needs at least 2"),
        ({"steps": 0}, "steps 0 must be at least 1"),
        ({"steps": 2**31}, r"steps 2147483648 must be less than 2\*\*31"),
        ({"steps": 10**400}, "steps is a number of 1329 bits: give a smaller one"),
        ({"learning_rate": 10**400}, "learning_rate is a number of 1329 bits"),
        ({"learning_rate": 1e400}, "learning_rate inf must be a positive number"),
        ({"learning_rate": float("nan")}, "learning_rate nan must be a positive number"),
        ({"learning_rate": 0}, "must be a positive number"),
        ({"beta1": 1.0}, r"\[0, 1\)"),
        ({"beta2": 0.5, "beta2_final": 3.0}, "beta2_final 3.0 makes beta2 negative: give at most 2"),
        ({"leaky_slope": -0.1}, r"\[0, 1\]"),
        ({"precision": "float16"}, "choose float32 or bf16"),
        ({"latent": "cauchy"}, "choose normal or uniform"),
        ({"width": 8.0}, "must be of type int"),
        ({"steps": True}, "must be of type int"),
        ({"seed": -1}, "seed -1"),
        ({"data": ""}, "data is empty"),
    ],
)
def test_a_bad_value_is_refused_with_its_mend(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)


@pytest.mark.parametrize(
    ("given", "stored", "shape"),
    [
        (64, 64, (64, 64, 3)),
        ("48", 48, (48, 48, 3)),
        ("64x64", 64, (64, 64, 3)),
        ("96x64", "96x64", (96, 64, 3)),
        (" 64 X 128 ", "64x128", (64, 128, 3)),
        ((256, 192), "256x192", (256, 192, 3)),
    ],
)
def test_a_size_is_height_and_width_and_is_stored_in_one_way(given, stored, shape):
    config = Config(image_size=given)
    assert (config.image_size, config.image_shape) == (stored, shape)


def test_every_number_has_a_range():
    for field in dataclasses.fields(Config):
        kind = field.type
        assert kind not in (int, float), f"{field.name} has none: Annotated[{kind.__name__}, Range(...)]"
        numbers = {int: [-1], float: [float("inf"), float("nan")]}
        for wrong in numbers.get(next(iter(typing.get_args(kind)), None), []) if field.name != "range" else ():
            with pytest.raises(InputError, match=field.name):
                Config(**{field.name: wrong})


def test_json_round_trip(tmp_path):
    config = Config(data="photos", width=8, learning_rate=1)
    (tmp_path / "config.json").write_text(config.to_json())
    assert Config.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a run's configuration, but a list"),
        ("", "is empty: bring a copy of it back"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps({"stepz": 3}), "unknown 'stepz'"),
        (
            Config().to_json().replace('"retries": 3', '"seed": 0').replace('  "precision": "float32",\n', ""),
            'add "precision": "float32", "retries": 3$',
        ),
        (Config().to_json().replace('"image_size": 64', '"image_size": 50'), "48 and 56"),
        (Config().to_json().replace('"width": 64', '"width": "64"'), "width '64' must be a number of channels"),
    ],
)
def test_a_configuration_file_is_validated_like_the_command_line(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Config.load(tmp_path / "config.json")


def test_fields_added_since_a_release_may_be_missing_and_have_their_defaults(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    config = recipe("robust", width=8)
    text = config.to_json().replace('  "precision": "float32",\n', "")
    path.write_text(text)
    monkeypatch.setattr("dcgan_jax.config.ADDED", ("precision",))
    assert Config.load(path) == config
    path.write_text(text.replace('  "channels": 3,\n', ""))
    with pytest.raises(InputError, match='add "channels": 3$'):
        Config.load(path)


def test_differences_name_the_fields_but_not_steps():
    assert Config(steps=9).differences(Config()) == []
    assert Config(width=8, seed=2).differences(Config()) == ["width (8, was 64)", "seed (2, was 0)"]


@pytest.mark.parametrize(
    ("batch", "every", "steps"),
    [(4, 12, [3, 6, 9, 10]), (5, 12, [3, 5, 8, 10]), (4, 0, []), (4, 1000, []), (30, 12, [*range(1, 11)])],
)
def test_evaluations_are_the_first_steps_after_each_so_many_images_and_the_last(batch, every, steps):
    config = Config(batch_size=batch, evaluate_every=every, steps=10)
    assert [step for step in range(1, 11) if config.evaluates(step)] == steps
