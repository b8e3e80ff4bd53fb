"""The best of many samples, ``best`` and ``generate --best``: like the real images, and as many kinds of them."""

import contextlib
import csv
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import python, some_generator
from numpy.testing import assert_array_equal
from PIL import Image

from dcgan_jax import (
    InputError,
    best,
    create_state,
    generate,
    open_store,
    recipe,
    restore,
    sample,
    sample_labels,
    save,
    to_uint8,
)
from dcgan_jax.gan.opinion import opinion_of
from dcgan_jax.gan.pixels import on_ground
from dcgan_jax.metrics.choose import Best
from dcgan_jax.metrics.features import features
from dcgan_jax.run import pictures as room
from dcgan_jax.run.best import best_of
from dcgan_jax.share.portable import to_safetensors
from dcgan_jax.views.grid import grid

KEY = jax.random.key(2)


def distances(images, reals):
    """Of each image to each real one: (N, M)."""
    a, b = features(images), features(reals)
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))


@pytest.fixture(scope="module")
def params():
    return some_generator(image_size=16, width=4)


@pytest.fixture(scope="module")
def place(tmp_path_factory, params):
    """A folder of 80 real images: what the generator draws of another key, 40 of them dark, 40 light."""
    root = tmp_path_factory.mktemp("reals")
    images = to_uint8(sample(params, jax.random.key(9), 80))
    for name in ("dark", "light"):
        (root / name).mkdir()
    for i, image in enumerate(images):
        image = image // 2 + (128 if i % 2 else 0)
        Image.fromarray(image).save(root / ("dark", "light")[i % 2] / f"{i}.png")
    return root


def settings(place, **changes):
    small = {"image_size": 16, "width": 4, "latent_dim": 8, "batch_size": 16, "steps": 1, "evaluate_every": 0}
    return recipe("projected", **{**small, "data": str(place), "held_out": 0, "input": "numpy", **changes})


@pytest.fixture(scope="module")
def store(place):
    with contextlib.closing(open_store(settings(place))) as store:
        yield store


@pytest.fixture(scope="module")
def run(place, store, tmp_path_factory):
    """A conditional run with heads, without training."""
    folder, config = tmp_path_factory.mktemp("runs") / "run", settings(place, conditional=True)
    state = create_state(config, images=len(store), classes=store.classes)
    metrics = {"loss_D": 0.0, "loss_G": 0.0}
    save(state.replace(step=jnp.int32(1)), folder, config=config, store=store, metrics=metrics)
    return folder, state


def test_they_are_among_those_drawn_and_do_not_depend_on_how_many_are_asked_for(params, store):
    images = np.asarray(best(params, KEY, 70, share="25%", images=store))
    drawn = np.asarray(sample(params, KEY, 512))
    numbers = [int(np.flatnonzero((drawn == image).all((1, 2, 3)))[0]) for image in images]
    assert len(set(numbers)) == 70
    assert max(numbers[:64]) < 256 <= min(numbers[64:])  # 64 of the first 256, then of the next
    assert_array_equal(best(params, KEY, 5, share=0.25, start=62, images=store), images[62:67])
    assert not np.array_equal(best(params, KEY, 5, share=0.2, images=store), images[:5])
    assert not np.array_equal(best(params, jax.random.key(3), 5, share="25%", images=store), images[:5])


def test_each_is_like_a_real_image_of_its_own(params, store):
    """No exchange brings one nearer: with one that is left out, or of two that are kept."""
    images = np.asarray(best(params, KEY, share=0.2, images=store))
    drawn = np.asarray(sample(params, KEY, 320))
    order = np.random.default_rng(0).permutation(80)[:64]  # the places' real images
    reals = store.take_uint8(order)
    apart, every = distances(to_uint8(images), reals), distances(to_uint8(drawn), reals)
    own = apart.diagonal()
    left = every[[i for i, image in enumerate(drawn) if not (image == images).all((1, 2, 3)).any()]]
    assert len(left) == 256
    assert (left >= own[None] - 1e-4).all()  # none that is left lies nearer to a real one than the one it was given
    assert (apart + apart.T >= own[:, None] + own[None] - 1e-4).all()  # nor do two that change places
    assert own.mean() < 0.85 * every[:64].diagonal().mean()


def test_what_is_taken_for_real_counts_too(params, store):
    def red(images, labels):
        return np.asarray(images[..., 0].mean((1, 2)))

    without, redder = (red(Best(params, store, 0.1, opinion)(KEY, 64), None) for opinion in (None, red))
    spread = red(sample(params, KEY, 640), None).std()
    assert without.mean() + 0.4 * spread < redder.mean() < without.mean() + 1.5 * spread  # features count as well


def test_the_heads_of_a_run_say_what_training_hears_from_them(run, params):
    folder, state = run
    images = sample(params, KEY, 6)
    labels = jnp.asarray([0, 1, 1, 0, 0, 1])
    logits = jax.jit(lambda x: state.heads(state.features(x), train=False)[0])(images)  # (6, 4, 4, heads · 2)
    wanted = np.asarray(logits).reshape(6, -1, 2).mean(1)[np.arange(6), labels]
    of_state = opinion_of(state)
    np.testing.assert_allclose(of_state(images, labels), wanted, atol=1e-5)
    with best_of(folder, restore(folder), share=0.5) as draw:
        assert_array_equal(draw.opinion(images, labels), of_state(images, labels))


def test_pictures_with_alpha_are_judged_on_black_and_on_white(tmp_path):
    for i in range(3):
        Image.new("RGBA", (16, 16), (90 * i, 40, 90, 80 * i + 60)).save(tmp_path / f"{i}.png")
    config = settings(tmp_path, channels=4)
    with contextlib.closing(open_store(config)) as store:
        state = create_state(config, images=3)
        images = best(state, KEY, 5, share=0.5, images=store)
    assert images.shape == (5, 16, 16, 4)
    heads = jax.jit(lambda x: state.heads(state.features(x), train=False)[0].mean((1, 2, 3)))
    wanted = (heads(on_ground(images, -1.0)) + heads(on_ground(images, 1.0))) / 2
    opinion = opinion_of(state)
    assert opinion is not None
    np.testing.assert_allclose(opinion(images), wanted, atol=1e-5)


def test_of_a_conditional_run_each_is_compared_with_its_class(run, store, tmp_path):
    folder, params = run[0], restore(run[0])
    images = np.asarray(best(params, KEY, 64, share=0.5, images=store))
    labels = np.asarray(sample_labels(params, KEY, 64))
    assert set(labels) == {0, 1}
    order = np.random.default_rng(0).permutation(80)
    for label in (0, 1):
        drawn, places = np.asarray(sample(params, KEY, 128, labels=label)), np.flatnonzero(labels == label)
        for image in images[places]:
            (number,) = np.flatnonzero((drawn == image).all((1, 2, 3)))
            assert labels[number // 2] == label  # it was drawn for this class
        members = order[store.labels[order] == label]
        apart = distances(to_uint8(images[places]), store.take_uint8(members[places % len(members)]))
        own = apart.diagonal()
        assert (apart + apart.T >= own[:, None] + own[None] - 1e-4).all()
    of_class = best(folder, KEY, 9, share=0.5, labels="light")
    assert_array_equal(of_class, best(folder, KEY, 9, share=0.5, labels=1))
    generate(folder, tmp_path / "light", num=9, seed=2, label="light", best="50%")
    for image, path in zip(to_uint8(of_class), sorted((tmp_path / "light").glob("0*.png")), strict=True):
        assert_array_equal(np.asarray(Image.open(path)), image)


def test_the_command_writes_them_with_their_classes(run, tmp_path):
    folder, _ = run
    out = tmp_path / "out"
    flags = ("-m", "dcgan_jax.generate", "--workdir", folder, "--out")
    done = python(*flags, out, "--num", 20, "--best", "25%")
    assert done.returncode == 0, done.stderr
    said = f"20 images (the best 25%) and grid.png and labels.csv in {out} (step 1)\n"
    assert done.stdout == said + "random.png shows 20 that are not chosen\n"
    at_random = grid(to_uint8(sample(restore(folder), jax.random.key(0), 20)), columns=5)
    assert_array_equal(np.asarray(Image.open(out / "random.png")), at_random)
    images = to_uint8(best(folder, jax.random.key(0), 20, share=0.25))
    for i, image in enumerate(images):
        assert_array_equal(np.asarray(Image.open(out / f"{i:05d}.png")), image)
    with open(out / "labels.csv", newline="") as file:
        labels = [row["class"] for row in csv.DictReader(file)]
    names = np.array(["dark", "light"])
    assert labels == list(names[np.asarray(sample_labels(run[1], jax.random.key(0), 20))])


def test_an_interrupted_start_is_continued_by_the_same_share_only(run, tmp_path, monkeypatch):
    folder, whole = run[0], generate(run[0], tmp_path / "whole", num=12, best=0.5)
    save_png = room.save_png

    def full_disk(path, image, **how):
        if path.name == "00003.png":
            raise OSError(28, os.strerror(28), str(path))
        save_png(path, image, **how)

    with monkeypatch.context() as patch:
        patch.setattr(room, "save_png", full_disk)
        with pytest.raises(InputError, match=r"cannot write .*00003\.png"):
            generate(folder, tmp_path / "part", num=12, best=0.5)
    for other in (0.25, None):
        with pytest.raises(InputError, match="unfinished start with .* --best"):
            generate(folder, tmp_path / "part", num=12, best=other)
    again = generate(folder, tmp_path / "part", num=12, best="50%")
    for a, b in zip(whole.files, again.files, strict=True):
        assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("share", ["10", "0", "100%", "1", "nan", "-5%", "ten", "0.01%", True, None])
def test_what_is_no_share_is_refused(run, params, store, share, tmp_path):
    with pytest.raises(InputError, match=r"must be the share that is kept, .* such as 10% or 0\.1"):
        best(params, KEY, share=share, images=store)
    if share is not None:
        with pytest.raises(InputError, match="^best .* must be the share"):
            generate(run[0], tmp_path / "out", best=share)
    assert not (tmp_path / "out").exists()


def test_what_has_no_images_to_compare_with_is_refused(params, store, tmp_path):
    file = tmp_path / "generator.safetensors"
    file.write_bytes(to_safetensors(params, {}))
    for source in (file, params):
        with pytest.raises(InputError, match="give its folder, which knows them"):
            generate(source, tmp_path / "out", best=0.5)
        with pytest.raises(InputError, match="give its folder, which knows them"):
            best(source, KEY)
    assert not (tmp_path / "out").exists()
    assert best(file, KEY, 3, share=0.5, images=store).shape == (3, 16, 16, 3)
    other = some_generator(image_size=16, width=4, channels=1)
    for wrong, message in (
        ({"images": np.zeros((80, 16, 16, 3), np.uint8)}, "images must be what open_store returns"),
        ({"images": store, "labels": [0] * 64}, "labels must be one class"),
        ({"images": store, "num": 0}, "num 0 must be at least 1"),
        ({"images": store, "labels": "dark"}, "labels are for a conditional run"),
    ):
        with pytest.raises(InputError, match=message):
            best(params, KEY, **wrong)
    with pytest.raises(InputError, match="images are of the shape"):
        best(other, KEY, images=store)


def test_other_images_than_those_of_the_run_are_refused(run, place, tmp_path):
    moved = place.with_name("moved")
    place.rename(moved)
    try:
        shutil.copytree(moved, place)
        (place / "dark" / "0.png").unlink()
        with pytest.raises(InputError, match="has other images than when .* restore those to compare samples"):
            best(run[0], KEY)
    finally:
        shutil.rmtree(place)
        moved.rename(place)
