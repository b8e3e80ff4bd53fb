"""Shares against known mixtures, figures of classes against what was put in, the classifier against plain shapes."""

import numpy as np
import pytest
from helpers import prepared
from pictures import SHAPES, shape, write_shapes

from dcgan_jax.metrics.classes import Sorted, accuracy, compare, share_interval, shares
from dcgan_jax.metrics.classifier import Classifier, accuracy_of_learner, classifier
from dcgan_jax.metrics.features import features
from dcgan_jax.system.errors import InputError

CONFUSION = np.array([[90, 10, 0], [20, 70, 10], [0, 0, 100]])


def test_shares_of_a_known_mixture_come_back_through_the_mistakes():
    for mixture in ([0.5, 0.3, 0.2], [0.1, 0.9, 0.0], [1 / 3, 1 / 3, 1 / 3]):
        named = np.array(mixture) @ CONFUSION * 1000
        for confusion in (CONFUSION, CONFUSION * np.array([[1], [2], [5]])):  # how many reals there were does not count
            assert shares(confusion, named) == pytest.approx(mixture, abs=1e-3)
    assert shares(np.eye(3), np.array([1, 2, 5])) == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_shares_are_never_negative_and_sum_to_one():
    """More named 1 than any mixture gives; the inverse of the matrix would make the others negative."""
    found = shares(CONFUSION, np.array([0, 100, 0]))
    assert np.linalg.solve((CONFUSION / 100).T, [0, 1, 0]).min() < -0.1
    assert found.min() >= 0 and found.sum() == pytest.approx(1) and found[1] == pytest.approx(1, abs=0.01)
    together = shares(np.stack([CONFUSION, np.eye(3) * 9]), np.array([[0, 100, 0], [1, 2, 5]]))
    assert together[0] == pytest.approx(found) and together[1] == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_the_interval_holds_the_share_in_19_of_20_cases_and_shrinks_with_more_reals():
    rng, mixture, held = np.random.default_rng(0), np.array([0.5, 0.3, 0.2]), []
    for seed in range(30):
        seen = np.stack([rng.multinomial(100, row / 100) for row in CONFUSION])
        low, high = share_interval(seen, rng.multinomial(400, mixture @ CONFUSION / 100), seed=seed)
        held.append((low <= mixture) & (mixture <= high))
    assert 0.88 < np.mean(held) < 0.995
    few, many = (share_interval(CONFUSION * times, np.array([470, 270, 260])) for times in (1, 50))
    assert (few[1] - few[0])[:2].min() > 1.2 * (many[1] - many[0])[:2].max()


def test_the_interval_is_that_of_a_binomial_where_no_mistake_is_made():
    counts = np.array([200, 120, 80])
    low, high = share_interval(np.eye(3, dtype=int) * 100_000, counts)
    p = counts / 400
    np.testing.assert_allclose(high - low, 2 * 1.96 * np.sqrt(p * (1 - p) / 400), rtol=0.15)


def test_the_share_among_the_reals_is_that_of_the_labels_not_of_what_the_classifier_names():
    labels, named = np.repeat([0, 1], [40, 20]), np.repeat([0, 1, 0], [40, 10, 10])
    judge = Classifier(2, None, np.tile(labels, 2), np.arange(60), np.arange(60, 120), named, 0.5, np.zeros(60, bool))
    vectors = np.random.default_rng(0).standard_normal((120, 4))
    samples = Sorted(vectors[:60], np.repeat([0, 1], 30), np.zeros(60, bool))
    _, ranked = compare(judge, vectors, [samples])
    shares = {of.label: of.figures["share"] for of in ranked}
    assert [shares[i].floor for i in (0, 1)] == pytest.approx([2 / 3, 1 / 3])
    assert [shares[i].value for i in (0, 1)] == pytest.approx([0, 1], abs=0.01)  # half of all ones are named 0


@pytest.fixture(scope="module")
def store(tmp_path_factory, cache):
    return prepared(write_shapes(tmp_path_factory.mktemp("shapes"), 60), cache)


@pytest.fixture(scope="module")
def judge(store, cache):
    return classifier(store, cache)


def test_the_classifier_tells_shapes_apart_that_it_has_not_seen(store, judge):
    assert judge.accuracy() > 0.9
    assert judge.confusion().sum(1).tolist() == [12, 12, 12]  # a fifth of each class is held out
    assert not set(judge.train) & set(judge.held_out) and len(judge.train) + len(judge.held_out) == 180
    assert judge.junk.sum() == 2  # the 5 % quantile of 36 values lies between the second and the third
    fresh = np.stack([shape(kind, 1000 + i) for i in range(20) for kind in SHAPES])
    named, sure = judge.name(fresh)
    assert np.mean([store.label_names[label] for label in named] == np.tile(SHAPES, 20)) > 0.9
    assert sure.min() >= 1 / 3 and sure.max() <= 1


def test_the_classifier_is_kept_and_a_damaged_one_trained_again(store, judge, cache, monkeypatch):
    from dcgan_jax.metrics import classifier as module

    trained, train = [], module.train_classifier
    monkeypatch.setattr(module, "train_classifier", lambda *args: trained.append(1) or train(*args))
    monkeypatch.setattr(module, "EPOCHS", 1)
    assert np.array_equal(classifier(store, cache).named, judge.named) and not trained
    (kept,) = (path for path in (cache / "classifiers").iterdir() if path.stat().st_size > 1000)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-100] + b"x" * 100)
    classifier(store, cache)
    assert trained
    kept.write_bytes(whole)


def test_labels_that_are_too_few_too_many_or_too_rare_are_refused(tmp_path, store, cache):
    one = write_shapes(tmp_path / "one", 4, kinds=SHAPES[:1])
    with pytest.raises(InputError, match="have 1 label, but 2 to 20 are needed: put them in a folder for each class"):
        classifier(prepared(one, cache), cache)
    with pytest.raises(
        InputError, match="cross has 4 .* at least 50: add some, or put its images into another class's"
    ):
        classifier(prepared(write_shapes(tmp_path / "few", 4), cache), cache)
    with pytest.raises(InputError, match="has 4 images, but each class needs at least 50: add some$"):  # one is too few
        classifier(prepared(write_shapes(tmp_path / "two", 4, kinds=SHAPES[:2]), cache), cache)
    store = prepared(write_shapes(tmp_path / "many", 1, kinds=[f"{i:02}" for i in range(21)]), cache)
    with pytest.raises(InputError, match="have 21 labels, but 2 to 20 are needed: put them in at most 20 folders"):
        classifier(store, cache)


def test_a_class_that_is_drawn_badly_comes_last_and_one_that_is_not_drawn_has_no_figures():
    """A classifier that is right for all: the first class real, the second noise, the third missing."""
    images = np.stack([shape(kind, i) for i in range(50) for kind in SHAPES])
    labels = np.tile(np.arange(3), 50)
    train, held_out = np.arange(90), np.arange(90, 150)
    judge = Classifier(3, None, labels, train, held_out, labels[held_out], 0.5, np.arange(60) % 20 == 0)
    good = np.stack([shape(SHAPES[0], 100 + i) for i in range(20)])
    noise = np.random.RandomState(0).randint(0, 255, (60, 16, 16, 3)).astype(np.uint8)
    vectors, named = features(np.concatenate([good, noise])), np.repeat([0, 1], [20, 60])
    junk, ranked = compare(judge, features(images), [Sorted(vectors, named, named == 1)] * 3)
    assert (junk.value, junk.n) == (0.75, 80) and junk.floor == pytest.approx(0.05)
    assert [of.label for of in ranked] == [0, 1, 2]
    well, badly, missing = (of.figures for of in ranked)
    assert [of["share"].value for of in (well, badly, missing)] == pytest.approx([0.25, 0.75, 0])
    assert all(of["share"].floor == pytest.approx(1 / 3) for of in (well, badly, missing))
    assert set(missing) == {"share"} and np.isinf(ranked[2].excess())
    assert well["kid"].n == badly["kid"].n == 20 and (well["junk"].value, badly["junk"].value) == (0, 1)
    assert well["kid"].value - well["kid"].floor == pytest.approx(ranked[0].excess())
    assert badly["kid"].value > 10 * abs(well["kid"].value) and badly["fd"].value > 3 * well["fd"].value
    assert well["precision"].value > 0.5 > badly["precision"].value and well["coverage"].value > 0.5
    assert badly["coverage"].value < 0.2 and badly["fd"].floor < 2 * well["fd"].value
    further = compare(judge, features(images) + 9, [Sorted(vectors + 9, named, named == 1)] * 3)[1]
    for before, after in zip(ranked, further):  # where a class lies in the features does not count
        assert after.excess() == pytest.approx(before.excess(), rel=1e-3)


def test_samples_of_a_conditional_run_belong_to_the_class_that_they_were_asked_for():
    """Of twenty crosses that were asked for, five are discs; the twenty discs are all discs."""
    images = np.stack([shape(kind, i) for i in range(60) for kind in SHAPES[:2]])
    labels = np.tile(np.arange(2), 60)
    train, held_out = np.arange(80), np.arange(80, 120)
    judge = Classifier(2, None, labels, train, held_out, labels[held_out], 0.5, np.zeros(40, bool))
    of_crosses = [shape(SHAPES[0], 100 + i) for i in range(15)] + [shape(SHAPES[1], 100 + i) for i in range(5)]
    of_discs = [shape(SHAPES[1], 200 + i) for i in range(20)]
    vectors, named = features(np.stack(of_crosses + of_discs)), np.repeat([0, 1], [15, 25])
    asked = Sorted(vectors, named, np.zeros(40, bool), np.repeat([0, 1], 20))
    ranked = {one.label: one.figures for one in compare(judge, features(images), [asked] * 3)[1]}
    assert [ranked[i]["accuracy"].value for i in (0, 1)] == [0.75, 1] and ranked[0]["accuracy"].n == 60
    assert ranked[0]["fd"].n == 20 and ranked[0]["fd"].value > ranked[1]["fd"].value
    right = accuracy(judge, [asked] * 3)
    assert (right.value, right.floor, right.n) == (105 / 120, 1, 120)
    z, p = 1.959964, 105 / 120  # Wilson 1927
    half = z * np.sqrt(p * (1 - p) / 120 + z**2 / 4 / 120**2)
    ends = ((p + z**2 / 240 - half) / (1 + z**2 / 120), (p + z**2 / 240 + half) / (1 + z**2 / 120))
    assert (right.low, right.high) == pytest.approx(ends, abs=1e-6)


def test_who_learned_from_good_samples_knows_the_reals_and_who_learned_from_wrong_ones_does_not(store, judge):
    images = np.stack([shape(kind, 500 + i) for i in range(40) for kind in store.label_names])
    labels = np.tile(np.arange(3, dtype=np.int32), 40)
    assert accuracy_of_learner(judge, store, images, labels) > 0.9
    assert accuracy_of_learner(judge, store, images, (labels + 1) % 3) < 0.1
