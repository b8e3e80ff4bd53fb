import json

import numpy as np
import pytest

from dcgan_jax.data import sprites
from dcgan_jax.data.split import disjoint_halves
from dcgan_jax.metrics import evaluate as module
from dcgan_jax.metrics.distances import (
    c_t,
    diversity_ratio,
    frechet_distance,
    kernel_distance,
    nearest,
    prdc,
)
from dcgan_jax.metrics.evaluate import LABELS, Reals
from dcgan_jax.metrics.features import FeatureSet, features
from dcgan_jax.metrics.image_distances import channel_ratios, sliced_wasserstein
from dcgan_jax.system.errors import InputError

UP = ("precision", "recall", "density", "coverage")
TO_ONE = ("diversity", "mean", "deviation")


@pytest.fixture(scope="module")
def images():
    """600 creatures at 32x32: 400 to compare with, 200 more."""
    pictures = np.stack([sprites.draw(0, i)[0] for i in range(600)])
    return pictures.reshape(600, 32, 2, 32, 2, 3).mean((2, 4)).astype(np.uint8)


def halves(images, **options):
    return Reals(images.__getitem__, features(images), **options)


def compare(reals, images):
    return reals.compare(images, features(images))


@pytest.fixture(scope="module")
def reals(images):
    return halves(images[:400])


@pytest.fixture(scope="module")
def clean(images, reals):
    return compare(reals, images[400:])


def badness(name, value):
    good = LABELS[name][1]
    return {"lower": value, "higher": -value, "near 1": abs(value - 1), "near 0": abs(value)}[good]


def test_reals_sit_at_their_floor_and_noise_is_worse_in_every_metric(images, reals, clean):
    noise = 40 * np.random.RandomState(0).randn(*images[400:].shape)
    noisy = np.clip(0.5 * images[400:] + noise, 0, 255).astype(np.uint8)
    worse = compare(reals, noisy)
    assert reals.n == 200 and reals.floor.keys() == clean.keys() == worse.keys() == LABELS.keys()
    json.dumps(clean, allow_nan=False)
    for name, value in worse.items():
        bad, good, floor = (badness(name, x) for x in (value, clean[name], reals.floor[name]))
        assert abs(good - floor) < 0.3 * (bad - floor), (name, value, clean[name], reals.floor[name])


def test_every_number_is_that_of_its_function(images, reals, clean, monkeypatch):
    """Against the first half; for the floor the second one takes the samples' place, and half of it what is held out."""
    first, second = disjoint_halves(400)
    of_reals, of_others, of_samples = (features(part) for part in (images[first], images[second], images[400:]))

    def far(vectors):
        return np.median(nearest(of_reals, vectors)[0])

    for found, part, vectors, fresh, held_out in (
        (clean, images[400:], of_samples, of_samples, of_others),
        (reals.floor, images[second], of_others, of_others[::2], of_others[1::2]),
    ):
        means, deviations = channel_ratios(images[first], part)
        expected = {
            "fd": frechet_distance(of_reals, vectors),
            "kid": kernel_distance(of_reals, vectors),
            **prdc(of_reals, vectors)._asdict(),
            "diversity": diversity_ratio(of_reals, vectors),
            "swd": sliced_wasserstein(images[first], part)["mean"],
            "mean": max(means, key=lambda ratio: abs(ratio - 1)),
            "deviation": max(deviations, key=lambda ratio: abs(ratio - 1)),
            "nearest": far(fresh) / far(held_out),
            "c_t": c_t(of_reals, held_out, fresh),
        }
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    monkeypatch.setattr(module, "SWD_IMAGES", 50)
    assert {name: figures.n for name, figures in reals.figures([clean]).items() if figures.n != 200} == {"swd": 50}
    some = compare(reals, images[400:])["swd"]
    assert some == pytest.approx(sliced_wasserstein(images[first][:50], images[400:450])["mean"], rel=1e-9)


@pytest.mark.slow
def test_dropped_kinds_and_copies_are_seen(images, reals, clean):
    few = compare(reals, np.tile(images[400:][np.arange(200) % 10 < 2], (5, 1, 1, 1)))  # two kinds of ten
    assert few["recall"] < 0.8 * clean["recall"]
    assert few["fd"] > 2 * reals.floor["fd"]
    assert abs(clean["c_t"]) < 3 and clean["nearest"] > 0.9
    copies = compare(reals, images[:400:2] ^ 1)  # of both halves
    assert copies["c_t"] < -4 and copies["nearest"] < 0.8


def test_the_same_images_give_the_same_numbers(images):
    first, again, other = (halves(images[:80], seed=seed) for seed in (0, 0, 1))
    assert first.floor == again.floor != other.floor
    assert compare(first, images[80:100]) == compare(again, images[80:100]) != compare(other, images[80:100])


def test_groups_do_not_sit_on_both_sides(images):
    """Every image twice: a floor from halves that share images is too low."""
    twice, labels = np.repeat(images[:100], 2, axis=0), np.repeat(np.arange(100), 2)
    grouped, mixed = (halves(twice, groups=groups).floor for groups in (labels, None))
    assert grouped["fd"] > mixed["fd"]
    assert grouped["nearest"] > 0.5


def test_several_sets_give_a_mean_and_a_range(images, reals, clean):
    sets = [clean, compare(reals, images[:200])]
    for name, figures in reals.figures(sets).items():
        assert figures.floor == reals.floor[name] and figures.n == 200
        assert (figures.low, figures.high) == (min(s[name] for s in sets), max(s[name] for s in sets))
        assert figures.value == pytest.approx((figures.low + figures.high) / 2)


def test_as_many_components_as_features_change_nothing_and_few_forget_the_rest(images):
    """In features of 48 dimensions: means of blocks of pixels."""

    def blocks(images):
        return images.reshape(-1, 4, 8, 4, 8, 3).mean((2, 4)).reshape(-1, 48).astype(np.float32) / 255

    whole, turned, few = (
        Reals(images[:400].__getitem__, blocks(images[:400]), features=FeatureSet("blocks", blocks, b"", components))
        for components in (None, 48, 2)
    )
    vectors = blocks(images[400:])
    found, same, less = (reals.compare(images[400:], vectors) for reals in (whole, turned, few))
    for one in (same, found):
        one.pop("kid")  # its kernel sees where the features lie, which are centred now
    assert same == pytest.approx(found, rel=1e-3, abs=1e-5)
    assert 0 < less["fd"] < found["fd"]
    pairs = few.closest(images[7:9], blocks(images[7:9]), num=1)
    assert np.array_equal(pairs[0, 0], pairs[0, 1])


def test_num_limits_what_is_compared_and_too_few_images_are_named(images):
    assert halves(images[:100], num=20).n == 20
    with pytest.raises(InputError, match="6 others, but 11 are too few"):
        halves(images[:11])


def test_images_without_any_difference_leave_out_what_is_not_defined():
    reals = halves(np.zeros((40, 16, 16, 1), np.uint8))
    assert not {"diversity", "nearest"} & reals.floor.keys()
    assert set(reals.figures([reals.floor])) == set(reals.floor)


def test_copies_are_found_mirrored_or_not(images, reals):
    fakes = np.concatenate([images[500:520], images[7:8], images[390:391, :, ::-1]])
    pairs = reals.closest(fakes, features(fakes), num=3)
    assert pairs.shape == (3, 2, 32, 32, 3)
    for pair in pairs[:2]:
        assert np.array_equal(pair[0], pair[1])
    found = {image.tobytes() for image in pairs[:2, 0]}
    assert found == {images[7].tobytes(), images[390].tobytes()}
    assert not np.array_equal(pairs[2, 0], pairs[2, 1])
