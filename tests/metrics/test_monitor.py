"""The metrics that are taken while training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax import create_state, generator_params, recipe, sample, to_uint8
from dcgan_jax.data.split import disjoint_halves, held_out
from dcgan_jax.metrics.distances import diversity_ratio, frechet_distance, kernel_distance, prdc
from dcgan_jax.metrics.features import features
from dcgan_jax.metrics.monitor import Monitor


@pytest.fixture(scope="module")
def store(tmp_path_factory, cache):
    """700 pictures of coloured squares, each kind of 7 in a folder of its own."""
    root, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for i in range(700):
        pixels = np.full((16, 16, 3), rng.integers(0, 256, 3), np.uint8)
        pixels[4:12, 4:12] = rng.integers(0, 256, 3)
        (root / f"{i // 7:03d}").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / f"{i // 7:03d}" / f"{i}.png")
    return prepared(root, cache)


def figures(reals, fakes):
    """What the monitor gives, of features."""
    found = prdc(reals, fakes)
    return {
        "kid": kernel_distance(reals, fakes, subsets=20),
        "fd": frechet_distance(reals, fakes),
        "precision": found.precision,
        "recall": found.recall,
        "coverage": found.coverage,
        "diversity": diversity_ratio(reals, fakes),
    }


def test_figures_are_those_of_one_half_against_samples_and_against_the_other_half(store, tiny):
    """Of 350 samples from the noise of key 0, drawn with the averaged weights."""
    state = create_state(tiny)
    state = state.replace(
        ema=jax.tree.map(lambda leaf: leaf + 0.05 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), state.ema)
    )
    values = Monitor(store, held_out_images=0)(state)
    other, half = disjoint_halves(len(store), store.labels)
    drawn = to_uint8(sample(generator_params(state, num=1024), jax.random.key(0), len(other)))
    reals, fresh, fakes = (features(images) for images in (store.take(half), store.take(other), drawn))
    expected = {f"{name}_floor": value for name, value in figures(reals, fresh).items()} | figures(reals, fakes)
    assert values == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert values["coverage_floor"] > 0.8 and abs(values["diversity_floor"] - 1) < 0.1
    assert values["kid"] > 5 * abs(values["kid_floor"]) and values["fd"] > 5 * values["fd_floor"]
    assert values["coverage"] < 0.2 and values["diversity"] < 0.5
    assert len(half) == len(other) == 350 and not set(store.labels[half]) & set(store.labels[other])


class Heart:
    """A discriminator that knows some images by heart: 4 for them, 1 for other real ones, 0 for the rest."""

    def __init__(self, known, reals):
        self.known, self.reals = ({image.tobytes() for image in images} for images in (known, reals))

    def __call__(self, images):
        pixels = np.asarray(np.round((np.asarray(images) + 1) * 127.5), np.uint8)
        return np.array([3 * (x.tobytes() in self.known) + (x.tobytes() in self.reals) for x in pixels], np.float32)


def test_memory_is_how_far_held_out_images_are_on_the_way_to_generated_ones(store, tiny, monkeypatch):
    train, kept = held_out(store, 200)
    judge = Heart(store.take(train), store.take(range(len(store))))
    monkeypatch.setattr("dcgan_jax.metrics.monitor.judge", lambda _, images, labels: {"": judge(images).mean()})
    monitor = Monitor(store, held_out_images=200)
    assert len(kept) == 35
    assert monitor(create_state(tiny))["memory"] == pytest.approx(0.75)  # 4, 1 and 0


def test_a_discriminator_of_features_has_a_memory_of_its_own(store):
    state = create_state(recipe("projected", image_size=16, width=4, latent_dim=8, batch_size=4))
    last = {f"Dense_{i}": jax.tree.map(jnp.negative, state.heads.params[f"Dense_{i}"]) for i in (1, 3, 5, 7)}
    state = state.replace(heads=state.heads.replace(params=state.heads.params | last))  # so real images look more real
    values = Monitor(store, held_out_images=200)(state)
    train, others = held_out(store, 200)
    train = train[np.random.default_rng(0).choice(len(train), len(others), replace=False)]
    fakes = sample(state, jax.random.key(0), len(others))

    def mean(images):
        maps = state.features(np.asarray(images, np.float32))
        return float(state.heads.module.apply({"params": state.heads.params}, maps).mean())

    t, h = (mean(store.take(indices) / 127.5 - 1) for indices in (train, others))
    g = mean(fakes)
    assert t > g
    assert values["memory_heads"] == pytest.approx((t - h) / (t - g), rel=1e-3)


def test_held_out_images_are_whole_labels_and_never_trained_on(store, cache, tiny):
    from dcgan_jax.data.pipeline import tf_batches

    train, kept = held_out(store, 200)
    assert len(kept) == 35 and len(train) + len(kept) == 700 and not set(train) & set(kept)
    assert not set(store.labels[train]) & set(store.labels[kept])
    config = dataclasses.replace(tiny, batch_size=19)
    seen = set()
    for batch, _ in zip(tf_batches(store, config).as_numpy_iterator(), range(35)):  # one epoch of 665
        seen |= {image.tobytes() for image in batch}
    shown, hidden = ({image.tobytes() for image in store.take(indices)} for indices in (train, kept))
    assert len(hidden) == 35 and seen == shown and not seen & hidden


def test_few_images_are_all_trained_on(photos, cache):
    train, kept = held_out(prepared(photos, cache), 200)
    assert list(train) == list(range(12)) and not len(kept)
