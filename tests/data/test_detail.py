"""At which size features see images: by how much fine detail these have."""

import contextlib
import json

import jax
import numpy as np
import pytest
from PIL import Image

from dcgan_jax import create_state, fit, open_store, recipe, save
from dcgan_jax.data.detail import features_size


def squares(shape, of, channels=1, count=6):
    """Images of random squares of ``of`` pixels: uint8 (count, height, width, channels)."""
    height, width = shape
    values = np.random.RandomState(0).randint(0, 256, (count, height // of, width // of, channels)).astype(np.uint8)
    return values.repeat(of, 1).repeat(of, 2)


def folder(root, images):
    root.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(root / f"{i}.png")
    return str(root)


def chosen(data, **changes):
    with contextlib.closing(open_store(recipe("projected", data=data, **changes))) as store:
        return features_size(store)


WHY = "as the images have little fine detail: 0% of their variance (64 from 10% on)"


@pytest.mark.parametrize(
    ("shape", "of", "changes", "size"),
    [
        ((64, 64), 1, {}, 64),
        ((64, 64), 2, {}, 32),
        ((128, 128), 2, {"image_size": 128}, 64),  # single pixels, at 64
        ((128, 128), 4, {"image_size": 128}, 32),
        ((128, 64), 1, {"image_size": "128x64"}, 64),
        ((128, 64), 2, {"image_size": "128x64", "resize": "squash"}, 32),
        ((64, 128), 2, {"image_size": "64x128", "resize": "pad"}, 32),
    ],
)
def test_the_size_is_64_where_32_pixels_lose_detail(tmp_path, shape, of, changes, size):
    assert chosen(folder(tmp_path / "a", squares(shape, of)), **changes) == (size, WHY if size == 32 else "")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("of", "size"), [(1, 64), (2, 32)])
def test_arrays_of_any_channels_are_looked_at(tmp_path, channels, of, size):
    np.save(tmp_path / "a.npy", squares((64, 64), of, channels))
    assert chosen(str(tmp_path / "a.npy"), channels=channels)[0] == size


def test_what_lies_under_transparent_pixels_is_not_seen(tmp_path):
    images = squares((64, 64), 1, 4)
    images[..., 3] = squares((64, 64), 4)[..., 0] // 128 * 255
    images[..., :3] = np.where(images[..., 3:] == 0, images[..., :3], 9)
    assert chosen(folder(tmp_path / "a", images), channels=4) == (32, WHY)


def test_the_share_is_that_of_the_variance(tmp_path):
    levels = np.full((64, 64, 1), 128.0)
    levels[::2] += 20  # variance 100 within squares
    levels[:, 32:] += 80  # 1600 between them
    small = levels.copy()
    small[::2] += 20  # 400: a fifth
    images = np.stack([levels, levels, small]).astype(np.uint8)
    share = "5.8%"  # 100 / 1700
    assert chosen(folder(tmp_path / "a", images)) == (32, WHY.replace("0%", share, 1))
    assert chosen(folder(tmp_path / "b", np.stack([small, small, levels]).astype(np.uint8)))[0] == 64


def test_white_icons_are_seen_on_black_too(tmp_path):
    images = np.full((3, 64, 64, 4), 255, np.uint8)
    images[..., 3:] = squares((64, 64), 2, count=3)
    assert chosen(folder(tmp_path / "a", images), channels=4) == (32, WHY)


def test_sixteen_bits_are_not_rounded(tmp_path):
    random = np.random.RandomState(0)  # a share of .05; of values rounded to 8 bits it would be .13
    blocks = random.randint(-60, 61, (2, 32, 32)).repeat(2, 1).repeat(2, 2)
    np.save(tmp_path / "a.npy", (100 * 257 + 128 + blocks + random.randint(-15, 16, (2, 64, 64))).astype(np.uint16))
    assert chosen(str(tmp_path / "a.npy"), channels=1)[0] == 32


def test_images_of_one_colour_say_nothing(tmp_path):
    assert chosen(folder(tmp_path / "a", np.zeros((3, 64, 64, 3), np.uint8))) == (64, "")


SMALL = {"width": 4, "batch_size": 2, "evaluate_every": 0, "latent_dim": 4}


def stored(run):
    return json.loads((run / "config.json").read_text())["features_size"]


@pytest.mark.parametrize(
    ("first", "later", "size"),
    [
        ({}, {}, 32),
        ({"features_size": 64}, {}, 64),
        ({"features_size": 0}, {}, 0),
        ({"features": "none"}, {"features": "none"}, "auto"),
        ({"image_size": 48}, {"image_size": 48}, "auto"),  # that is 64: it was not measured for smaller images
    ],
)
def test_a_run_keeps_the_size_that_it_began_with(tmp_path, capsys, first, later, size):
    data = folder(tmp_path / "pairs", squares((64, 64), 2))
    for steps, changes in ((1, first), (2, later)):
        fit(recipe("projected", data=data, steps=steps, **SMALL, **changes), tmp_path / "run")
        assert stored(tmp_path / "run") == size
        assert (f"features_size auto: 32, {WHY}" in capsys.readouterr().err) == (size == 32 and steps == 1)


def test_a_loop_of_ones_own_sees_by_size_alone_and_goes_on(tmp_path):
    config = recipe("projected", data=folder(tmp_path / "pairs", squares((64, 64), 2)), **SMALL)
    with contextlib.closing(open_store(config)) as store:
        state = create_state(config, images=len(store))
        for step in (1, 2):
            state = state.replace(step=step)
            save(state, tmp_path / "run", config=config, store=store, metrics={"loss_D": 0.5, "loss_G": 0.5})
    assert state.features.size == (64, 64)
    after = fit(recipe("projected", data=config.data, steps=3, **SMALL), tmp_path / "run")
    assert after.features.size == (64, 64) and int(jax.device_get(after.step)) == 3
