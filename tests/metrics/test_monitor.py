"""The metrics that are taken while training."""

import dataclasses

import numpy as np
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax import create_state, from_uint8
from dcgan_jax.data.split import held_out
from dcgan_jax.metrics.distances import disjoint_halves, frechet_distance
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


def test_floors_are_those_of_real_images_of_the_other_half(store):
    monitor = Monitor(store, held_out_images=0)
    other, half = disjoint_halves(len(store), store.labels)
    reals, fresh = (features(store.take(indices)) for indices in (half, other))
    assert monitor.floor["fd_floor"] == pytest.approx(frechet_distance(reals, fresh), rel=1e-6)
    assert monitor.floor["coverage_floor"] > 0.8 and monitor.floor["diversity_floor"] == pytest.approx(1, abs=0.1)


def test_an_untrained_generator_is_far_from_the_images_and_always_as_far(store, tiny):
    state = create_state(tiny)
    values = Monitor(store, held_out_images=0)(state)
    assert set(values) == {
        name + end for name in ("kid", "fd", "precision", "recall", "coverage", "diversity") for end in ("", "_floor")
    }
    assert values["kid"] > 5 * values["kid_floor"] and values["fd"] > 5 * values["fd_floor"]
    assert values["coverage"] < 0.2 and values["diversity"] < 0.5
    assert Monitor(store, held_out_images=0)(state) == values


class Heart:
    """A discriminator that knows some images by heart: 2 for them, 1 for other real ones, 0 for the rest."""

    def __init__(self, known, reals):
        self.known, self.reals = ({image.tobytes() for image in images} for images in (known, reals))

    def __call__(self, images):
        pixels = np.asarray(np.round((np.asarray(images) + 1) * 127.5), np.uint8)
        return np.array([(x.tobytes() in self.known) + (x.tobytes() in self.reals) for x in pixels], np.float32)


def test_memory_is_how_far_held_out_images_are_on_the_way_to_generated_ones(store, tiny, monkeypatch):
    train, kept = held_out(store, 200)
    judge = Heart(store.take(train), store.take(range(len(store))))
    monkeypatch.setattr("dcgan_jax.metrics.monitor._judge", lambda _, images: judge(images).mean())
    monitor = Monitor(store, held_out_images=200)
    assert len(kept) == 35
    assert monitor(create_state(tiny))["memory"] == pytest.approx(0.5)  # 2, 1 and 0


def test_held_out_images_are_whole_labels_and_never_trained_on(store, cache, tiny):
    from dcgan_jax.data.pipeline import batches

    train, kept = held_out(store, 200)
    assert len(kept) == 35 and len(train) + len(kept) == 700 and not set(train) & set(kept)
    assert not set(store.labels[train]) & set(store.labels[kept])
    config = dataclasses.replace(tiny, batch_size=19)
    seen = set()
    for batch, _ in zip(batches(store, config).as_numpy_iterator(), range(35)):  # one epoch of 665
        seen |= {image.tobytes() for image in batch}
    hidden = {image.tobytes() for image in from_uint8(store.take(kept))}
    assert len(seen) == len({image.tobytes() for image in store.take(train)}) and not seen & hidden


def test_few_images_are_all_trained_on(photos, cache):
    train, kept = held_out(prepared(photos, cache), 200)
    assert list(train) == list(range(12)) and not len(kept)
