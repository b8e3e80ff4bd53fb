"""Each metric against a closed form, a slow direct computation, or numbers that another program gave."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import linalg, ndimage

from dcgan_jax.data.split import disjoint_halves, held_out
from dcgan_jax.data.store import Store
from dcgan_jax.metrics import distances, image_distances
from dcgan_jax.metrics.distances import (
    c_t,
    diversity_ratio,
    frechet_distance,
    kernel_distance,
    nearest,
    prdc,
    principal_components,
)
from dcgan_jax.metrics.image_distances import channel_ratios, sliced_wasserstein
from dcgan_jax.system.errors import InputError


@pytest.fixture
def rng():
    return np.random.RandomState(0)  # its stream never changes


def exact_gaussian(rng, n, mean, root):
    """Samples whose mean and covariance are exactly ``mean`` and ``root @ root.T``."""
    x = rng.randn(n, len(mean))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T @ root.T + mean


def images(rng, n, size=32, channels=3):
    """Smooth coloured noise, uint8."""
    smooth = ndimage.gaussian_filter(rng.randn(n, size, size, channels), (0, 2, 2, 0))
    return np.clip(128 + 250 * smooth, 0, 255).astype(np.uint8)


def noisy(rng, pixels, scale):
    return np.clip(pixels + scale * rng.randn(*pixels.shape), 0, 255).astype(np.uint8)


def test_frechet_distance_of_gaussians_is_the_closed_form(rng):
    deviations, others = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.5, 0.5])
    turn = linalg.qr(rng.randn(3, 3))[0]  # commuting covariances: the distance is that of the deviations
    a = exact_gaussian(rng, 100, np.zeros(3), turn * deviations)
    b = exact_gaussian(rng, 77, np.array([1.0, -2.0, 0.5]), turn * others)
    assert_allclose(frechet_distance(a, b), 5.25 + ((deviations - others) ** 2).sum(), rtol=1e-10)
    assert_allclose(frechet_distance(a, a), 0, atol=1e-10)


def test_frechet_distance_agrees_with_sqrtm(rng):
    a, b = rng.randn(200, 16) @ rng.randn(16, 16), rng.randn(150, 16) @ rng.randn(16, 16) + 1
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert_allclose(frechet_distance(a, b), expected, rtol=1e-8)
    few = rng.randn(5, 16)  # fewer samples than dimensions: singular covariances
    assert frechet_distance(few, few) < 1e-9


def test_kernel_distance_agrees_with_a_double_loop(rng):
    a, b = rng.randn(12, 4), rng.randn(9, 4) + 2

    def kernel(x, y):
        return (sum(x[i] * y[i] for i in range(4)) / 4 + 1) ** 3

    def mean(x, y, leave_out):
        return np.mean([kernel(x[i], y[j]) for i in range(len(x)) for j in range(len(y)) if i != j or not leave_out])

    expected = mean(a[:9], a[:9], True) + mean(b, b, True) - 2 * mean(a[:9], b, False)
    assert_allclose(kernel_distance(a[:9], b, subsets=3), expected, rtol=1e-10)
    subset_means = [kernel_distance(a, b, seed=seed, subsets=2000) for seed in (0, 1)]  # nine of twelve at a time
    assert_allclose(subset_means, mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), rtol=0.05)
    assert subset_means[0] != subset_means[1]


def test_kernel_distance_is_unbiased(rng):
    values = [kernel_distance(rng.randn(50, 8), rng.randn(50, 8), subsets=1) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert min(values) < 0


# Recorded from compute_prdc of the package prdc 0.2: (real, fake, k) -> precision, recall, density, coverage.
PRDC_RECORDED = [
    ((120, 100, 5, 0.0, 1.0), (0.94, 0.85, 1.186, 0.925)),
    ((120, 100, 5, 0.8, 0.6), (0.91, 0.075, 0.718, 0.35)),
    ((90, 150, 3, 0.3, 1.4), (0.526666666667, 0.944444444444, 0.362222222222, 0.766666666667)),
]


@pytest.mark.parametrize("case", PRDC_RECORDED)
def test_prdc_agrees_with_the_package_of_its_authors(case, rng, monkeypatch):
    (n, m, k, shift, scale), expected = case
    monkeypatch.setattr(distances, "BLOCK", 37 * n)  # several blocks, the last one not full
    real, fake = rng.randn(n, 8), shift + scale * rng.randn(m, 8)
    assert_allclose(prdc(real, fake, k), expected, rtol=1e-12)


def test_prdc_of_a_set_with_itself(rng):
    real = rng.randn(60, 8)
    assert prdc(real, real) == (1, 1, 1, 1)  # a ball holds k samples but its rim: density is exactly 1


def test_diversity_ratio_is_that_of_the_pairwise_distances(rng):
    real = rng.randn(40, 8)
    assert_allclose(diversity_ratio(real, 0.5 * real[::2] + 3), 0.5 * diversity_ratio(real, real[::2]))
    pairs = [np.linalg.norm(x - y) for i, x in enumerate(real) for y in real[:i]]
    other = rng.randn(30, 8)
    others = [np.linalg.norm(x - y) for i, x in enumerate(other) for y in other[:i]]
    assert_allclose(diversity_ratio(real, other), np.mean(others) / np.mean(pairs))
    assert diversity_ratio(real, np.repeat(real[:1], 30, 0)) == pytest.approx(0, abs=1e-6)


def test_nearest_finds_what_was_copied(rng, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 700)
    train = rng.randn(100, 8)
    chosen = rng.permutation(100)[:30]
    found, indices = nearest(train, train[chosen] + 1e-3 * rng.randn(30, 8))
    np.testing.assert_array_equal(indices, chosen)
    assert_allclose(found, 0, atol=1e-2)
    slow = np.linalg.norm(train[:, None] - train[None, :5] - 1, axis=-1)
    found, indices = nearest(train, train[:5] + 1)
    assert_allclose(found, slow.min(0), rtol=1e-10)
    np.testing.assert_array_equal(indices, slow.argmin(0))


@pytest.mark.parametrize("cells", [1, 4])
def test_c_t_has_the_sign_of_the_illness(rng, cells):
    def draw(n, scale=1.0):
        return scale * rng.randn(n, 4) + 8 * rng.randint(0, 2, (n, 1))

    train, held_out = draw(600), draw(400)
    assert abs(c_t(train, held_out, draw(500), cells=cells)) < 3
    assert c_t(train, held_out, train[:500] + 0.05 * rng.randn(500, 4), cells=cells) < -5
    assert c_t(train, held_out, draw(500, 1.6), cells=cells) > 5


def test_c_t_of_one_cell_is_scipys_mann_whitney(rng):
    from scipy.stats import mannwhitneyu

    train, held_out, fake = rng.randn(50, 3), rng.randn(40, 3), 1.3 * rng.randn(30, 3)
    d_fake, d_held = nearest(train, fake)[0], nearest(train, held_out)[0]
    u = mannwhitneyu(d_fake, d_held).statistic
    assert_allclose(c_t(train, held_out, fake, cells=1), (u - 600) / np.sqrt(30 * 40 * 71 / 12), rtol=1e-10)


def test_c_t_of_two_cells_is_weighted_by_held_out_samples(rng):
    """Two far clusters are the two cells: SciPy tests each, and the second has thrice as many held-out samples."""
    from scipy.stats import mannwhitneyu

    def clusters(left, right, scale=1.0):
        return scale * rng.randn(left, 3), 1000 + scale * rng.randn(right, 3)

    train, held_out, fake = clusters(50, 60), clusters(20, 60), clusters(45, 25, 1.2)
    scores = []
    for t, h, f in zip(train, held_out, fake):
        u = mannwhitneyu(nearest(t, f)[0], nearest(t, h)[0]).statistic
        scores.append((u - len(f) * len(h) / 2) / np.sqrt(len(f) * len(h) * (len(f) + len(h) + 1) / 12))
    found = c_t(*map(np.concatenate, (train, held_out, fake)), cells=2)
    assert_allclose(found, (20 * scores[0] + 60 * scores[1]) / 80, rtol=1e-8)


def test_a_tie_is_half_a_win():
    assert_allclose(distances.mann_whitney(np.array([1.0, 2]), np.array([2.0, 2])), (1 - 2) / np.sqrt(4 * 5 / 12))


def test_principal_components_are_the_directions_of_the_largest_variance(rng):
    vectors = rng.randn(500, 4) * [1, 9, 3, 0.1] + [7, 0, 0, 0]
    mean, directions = principal_components(vectors, 2)
    assert_allclose(mean, vectors.mean(0))
    expected = np.linalg.svd(vectors - vectors.mean(0))[2][:2].T
    assert_allclose(np.abs(directions), np.abs(expected), atol=1e-9)


def test_c_t_sees_copies_in_one_cell_only(rng):
    """The global test averages them away: one half of the fakes is copied, the other too far off."""
    left, right = np.zeros(4), np.full(4, 20.0)
    train = np.concatenate([left + rng.randn(300, 4), right + rng.randn(300, 4)])
    held_out = np.concatenate([left + rng.randn(200, 4), right + rng.randn(20, 4)])
    fake = np.concatenate([train[:250] + 0.01 * rng.randn(250, 4), right + 2 * rng.randn(250, 4)])
    assert c_t(train, held_out, fake, cells=2) < -5 < c_t(train, held_out, fake, cells=1)


def test_channel_ratios(rng):
    real = rng.randint(50, 100, (6, 16, 16, 3)).astype(np.uint8)
    fake = (real * np.array([1, 2, 1], np.uint8)) + np.array([0, 0, 50], np.uint8)
    means, deviations = channel_ratios(real, fake)
    assert_allclose(deviations, [1, 2, 1])
    assert_allclose(means, [1, 2, 1 + 50 / real[..., 2].mean()])
    for ours, floats in zip((means, deviations), channel_ratios(real / 127.5 - 1, fake / 127.5 - 1), strict=True):
        assert_allclose(ours, floats)
    assert np.isnan(channel_ratios(np.zeros_like(real), fake)).all()


def test_colours_that_are_not_seen_are_no_distance(rng):
    """They have no part in the figures of colours, which are those seen on black, nor in SWD; alpha has its own."""
    real = rng.randint(0, 256, (40, 16, 16, 4)).astype(np.uint8)
    real[..., 3] = np.where(rng.rand(40, 16, 16) < 0.5, 0, real[..., 3])
    fake = real.copy()
    fake[..., :3] = np.where(real[..., 3:] == 0, 255 - real[..., :3], real[..., :3])
    assert_allclose(channel_ratios(real, fake), np.ones((2, 4)))
    same = sliced_wasserstein(real, real)
    assert sliced_wasserstein(real, fake) == same
    half = real.copy()
    half[..., 3] //= 2
    means, deviations = channel_ratios(real, half)
    assert_allclose([*means, *deviations], 0.5, atol=0.01)  # half of the light, too
    assert sliced_wasserstein(real, half) != same
    straight = real.astype(float)
    on_black = straight[..., :3] * straight[..., 3:] / 255
    assert_allclose(
        channel_ratios(real, real[:20])[0][:3], on_black[:20].mean((0, 1, 2)) / on_black.mean((0, 1, 2)), rtol=1e-5
    )


def slow_pyramid(image):
    """The Laplacian pyramid of one (H, W, C) image by scipy, as the definition says it."""
    binomial = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[..., None] / 256
    levels = [image.astype(np.float64)]
    while levels[-1].shape[0] > 16:
        fine = levels[-1]
        levels.append(ndimage.convolve(fine, binomial, mode="mirror")[::2, ::2])
        stuffed = np.zeros_like(fine)
        stuffed[::2, ::2] = levels[-1]
        levels[-2] = fine - ndimage.convolve(stuffed, 4 * binomial, mode="mirror")
    return levels


def slow_swd(real, fake, rng):
    """Patch by patch, direction by direction."""
    result = []
    for level in range(len(slow_pyramid(real[0]))):
        sets = []
        for pixels in (real, fake):
            patches = []
            for image in pixels:
                plane = slow_pyramid(image)[level]
                for _ in range(128):
                    y, x = rng.randint(0, plane.shape[0] - 6), rng.randint(0, plane.shape[1] - 6)
                    patches.append(plane[y : y + 7, x : x + 7])
            patches = np.array(patches)
            for c in range(patches.shape[-1]):
                patches[..., c] = (patches[..., c] - patches[..., c].mean()) / patches[..., c].std()
            sets.append(patches.reshape(len(patches), -1))
        total = []
        for _ in range(512):
            direction = rng.randn(sets[0].shape[1])
            direction /= np.linalg.norm(direction)
            total.append(np.mean(np.abs(np.sort(sets[0] @ direction) - np.sort(sets[1] @ direction))))
        result.append(1000 * np.mean(total))
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_swd_agrees_with_the_definition_done_slowly(rng, channels):
    real = images(rng, 20, 64, channels)
    fake = noisy(rng, ndimage.gaussian_filter(images(rng, 20, 64, channels), (0, 0, 3, 0)), 8)
    fast = [sliced_wasserstein(real, fake, seed=seed) for seed in range(5)]
    assert list(fast[0]) == [64, 32, 16, "mean"]
    fast = np.mean([list(levels.values()) for levels in fast], axis=0)
    slow = np.mean([slow_swd(real, fake, rng) for _ in range(2)], axis=0)
    assert_allclose(fast, [*slow, slow.mean()], rtol=0.1)  # patches and directions are random


def test_laplacian_levels_are_scipys(rng):
    image = images(rng, 1, 64).astype(np.float32)
    for level, expected in enumerate(slow_pyramid(image[0])):
        assert_allclose(image_distances.laplacian(image, level, 3)[0], expected, atol=1e-3)


@pytest.mark.slow
def test_swd_grows_with_noise_and_is_blind_to_colour(rng):
    real, other = images(rng, 50), images(rng, 50)
    floor = sliced_wasserstein(real, other)["mean"]
    values = [sliced_wasserstein(real, noisy(rng, other, scale))["mean"] for scale in (10, 20, 40)]
    assert floor < values[0] < values[1] < values[2]
    cast = (other // 4 * np.array([1, 2, 3]) + 20).astype(np.uint8)
    assert sliced_wasserstein(real, cast)["mean"] == pytest.approx(floor, rel=0.15)
    as_floats = sliced_wasserstein(real / 127.5 - 1, other / 127.5 - 1)["mean"]
    assert as_floats == pytest.approx(floor, rel=1e-3)


def test_swd_of_sets_without_detail_is_zero():
    flat = np.full((4, 16, 16, 1), 7, np.uint8)
    assert sliced_wasserstein(flat, flat) == {16: 0, "mean": 0}


def test_halves_are_disjoint_even_and_whole(rng):
    labels = rng.randint(0, 120, 501)
    for groups in (None, labels, [f"species {label}" for label in labels]):
        a, b = disjoint_halves(501, groups, seed=3)
        assert sorted([*a, *b]) == list(range(501))
        assert abs(len(a) - len(b)) < 10
    assert not set(labels[a]) & set(labels[b])
    assert not np.array_equal(a, disjoint_halves(501, groups, seed=4)[0])


def test_a_few_classes_stay_on_both_sides(rng):
    labels = rng.randint(0, 10, 500)
    a, b = disjoint_halves(500, labels)
    assert set(labels[a]) == set(labels[b]) == set(range(10))
    labels = np.maximum(np.arange(500) - 400, 0)  # a hundred groups, but one of 401
    assert len(disjoint_halves(500, labels)[0]) == 250


class Labelled(Store):
    def __init__(self, labels):
        self.shape, self.labels = (len(labels), 16, 16, 3), labels


def test_a_split_does_not_depend_on_how_labels_are_numbered():
    """The numbers are those of version 0.2.0, which numbered labels as they first appear."""
    labels = np.random.RandomState(7).randint(0, 150, 1500)
    for numbers in (np.arange(150), np.random.RandomState(9).permutation(150)):
        assert disjoint_halves(1500, numbers[labels])[0][:6].tolist() == [804, 1000, 939, 44, 1364, 890]
        assert held_out(Labelled(numbers[labels]), 70)[1][:6].tolist() == [14, 36, 39, 76, 103, 116]
        assert held_out(Labelled(numbers[labels]), 70, conditional=True)[1][:6].tolist() == [12, 20, 44, 60, 98, 109]


def test_too_few_images_are_named():
    with pytest.raises(InputError, match="at least 6 images in each set; there are 5 and 9"):
        prdc(np.zeros((5, 3)), np.zeros((9, 3)))
    with pytest.raises(InputError, match="at least 2"):
        frechet_distance(np.zeros((1, 3)), np.zeros((9, 3)))
    with pytest.raises(InputError, match="use fewer cells"):
        c_t(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 2)), cells=5)
    with pytest.raises(InputError, match="16 pixels"):
        sliced_wasserstein(np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8, 3)))
