"""Each operation against NumPy, written out image by image; what the whole does to the images of training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcgan_jax import Config, create_state, train_step
from dcgan_jax.gan import augment

KEY = jax.random.key(0)


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 3)).astype(np.float32)


def reference(name, image, value):
    image = image.astype(np.float64)
    if name == "brightness":
        return image + value
    if name == "saturation":
        grey = image.mean(2, keepdims=True)
        return grey + (image - grey) * value
    if name == "contrast":
        return image.mean() + (image - image.mean()) * value
    result = np.zeros_like(image) if name == "translation" else image.copy()
    side = len(image)
    for i in range(side):
        for j in range(side):
            if name == "translation":
                if 0 <= i + value[0] < side and 0 <= j + value[1] < side:
                    result[i + value[0], j + value[1]] = image[i, j]
            elif -4 <= i - value[0] < 4 and -4 <= j - value[1] < 4:  # of 8 pixels
                result[i, j] = 0
    return result


VALUES = {
    "brightness": [-0.5, 0.5, 0, 0.1, 0.3],
    "saturation": [0, 2, 1, 0.3, 1.7],
    "contrast": [0.5, 1.5, 1, 0.7, 1.2],
    "translation": [(0, 0), (2, -2), (-2, 1), (1, 2), (-1, -1)],
    "cutout": [(0, 0), (8, 8), (16, 3), (5, 16), (15, 15)],
}


@pytest.mark.parametrize("name", VALUES)
def test_an_operation(name, x):
    size = [(8, 8)] if name == "cutout" else []
    ours = getattr(augment, name)(jnp.asarray(x), jnp.asarray(VALUES[name]), *size)
    np.testing.assert_allclose(ours, [reference(name, *pair) for pair in zip(x, VALUES[name])], atol=1e-6)


def test_the_values_are_fresh_for_each_image_and_in_range():
    """Of images that are 0.5 everywhere, the part that is not grey tells brightness, shift and cut-out square."""
    x = jnp.full((2000, 16, 16, 3), 0.5)
    y = np.asarray(jax.jit(augment.augment)(KEY, x))
    grey = (y == 0).all(3)
    levels = np.array([image[~hidden].mean() for image, hidden in zip(y, grey)])
    assert len(np.unique(levels)) > 1900 and 0 <= levels.min() < 0.01 and 0.99 < levels.max() <= 1
    filled = np.asarray([[rows.all(1)[i] for i in (0, 1, 2, 13, 14, 15)] for rows in grey]).mean(0)
    assert filled[0] == pytest.approx(0.4, abs=0.05) == filled[5] and filled[1] == pytest.approx(0.2, abs=0.05)
    assert filled[2] == filled[3] == 0  # by 2 of 16 pixels at most
    centre = grey[:, 8, 8].mean()  # hidden by 8 of 17 rows and of 17 columns
    assert centre == pytest.approx((8 / 17) ** 2, abs=0.04)


def test_colours_are_changed_by_factors_of_the_whole_range_each_by_its_own():
    """The image has three values: red and green left of its middle, grey right of it.

    The contrast is the factor between the grey levels of both halves, the saturation the rest of the factor between
    the channels. Where the cut-out hides a half, or the shift moves it, there is nothing to see.
    """
    x = np.zeros((4000, 16, 16, 3), np.float32)
    x[:, :, :8] += np.float32([0.5, 0.3, 0.1])
    x[:, :, 8:] -= 0.2
    y = np.asarray(jax.jit(augment.augment)(KEY, x))
    corner, other = y[:, 3, 3], y[:, 3, -4]
    seen = (corner != 0).all(1) & (other != 0).all(1)
    corner, other = corner[seen], other[seen]
    contrast = (corner.mean(1) - other.mean(1)) / (0.3 + 0.2)
    saturation = (corner[:, 0] - corner[:, 2]) / 0.4 / contrast
    assert len(contrast) > 1000
    for factor, low, high in ((contrast, 0.5, 1.5), (saturation, 0, 2)):
        assert low <= factor.min() + 1e-4 and factor.max() <= high + 1e-3
        deciles = np.quantile(factor, np.linspace(0.1, 0.9, 9))
        np.testing.assert_allclose(deciles, np.linspace(low, high, 11)[1:-1], atol=0.08 * (high - low))
    brightness = other.mean(1) - (contrast * (-0.2 - 0.05) + 0.05)  # the mean of the image is 0.05
    pairs = np.corrcoef([contrast, saturation, brightness])
    assert np.abs(pairs - np.eye(3)).max() < 0.12


def test_an_image_is_changed_with_the_given_probability(x):
    many = jnp.asarray(np.tile(x, (200, 1, 1, 1)))
    for p in (0.0, 0.3, 1.0):
        same = (augment.augment(KEY, many, p) == many).all((1, 2, 3)).mean()
        assert same == pytest.approx(1 - p, abs=0.05)


def test_a_flip_mirrors_half_of_the_images(x):
    many = jnp.asarray(np.tile(x, (200, 1, 1, 1)))
    flipped = augment.flip(KEY, many)
    mirrored = (flipped == many[:, :, ::-1]).all((1, 2, 3))
    assert mirrored.mean() == pytest.approx(0.5, abs=0.05)
    assert ((flipped == many).all((1, 2, 3)) | mirrored).all()


@pytest.mark.parametrize(
    ("setting", "images", "p"),
    [("auto", 12, 1), ("auto", 10_000, 1), ("auto", 55_000, 0.5), ("auto", 100_000, 0), ("auto", 10**6, 0),
     ("auto", None, 0), ("full", 10**6, 1), ("off", 12, 0)],
)  # fmt: skip
def test_the_probability_follows_from_the_number_of_images(tiny, setting, images, p):
    assert augment.probability(setting, images) == p
    state = create_state(dataclasses.replace(tiny, augment=setting), images=images)
    assert state.annealing.start.augment == state.annealing.end.augment == p and state.augments == (p > 0)


def test_real_and_generated_images_are_changed_in_both_updates(tiny):
    """A generator of zeros gives logits that differ only if its images are changed."""
    images = jax.random.uniform(KEY, (4, 16, 16, 3), minval=-1)
    metrics = {}
    for setting in ("off", "full"):
        state = create_state(dataclasses.replace(tiny, augment=setting, discriminator_norm="none"))
        G = state.generator
        blind = G.replace(params={**G.params, "ConvTranspose_0": {"kernel": 0 * G.params["ConvTranspose_0"]["kernel"]}})
        metrics[setting] = train_step(state.replace(generator=blind), images, KEY)[1]
    assert all(metrics["off"][name] != metrics["full"][name] for name in ("D_x", "D_G_z1", "D_G_z2"))


def test_without_augmentation_the_step_is_the_same_program(tiny):
    from dcgan_jax.gan.step import compiled_step
    from dcgan_jax.system.xla import compiler_options

    step = compiled_step(**compiler_options("cpu"))

    images = jnp.zeros((4, 16, 16, 3))
    programs = {
        name: step.lower(create_state(dataclasses.replace(tiny, augment=name), images=n), images, KEY).as_text()
        for name, n in (("off", 10), ("auto", 10**6))
    }
    assert programs["off"] == programs["auto"]
    full = create_state(Config(**{**vars(tiny), "augment": "full"}))
    assert len(step.lower(full, images, KEY).as_text()) > len(programs["off"])


@pytest.mark.parametrize("name", VALUES)
def test_an_operation_on_images_with_alpha_changes_the_colours_that_are_seen(name, x):
    """As if they were not premultiplied; where there was grey there is nothing."""
    alpha = np.random.default_rng(1).uniform(0.2, 1, (5, 16, 16, 1))
    alpha[:, :, :3] = 0
    straight = (x + 1) / 2

    def premultiplied(colours, alpha):
        return np.concatenate([colours * alpha, alpha], axis=-1) * 2 - 1

    def wanted(colours, alpha, value):
        if name in ("translation", "cutout"):
            return reference(name, premultiplied(colours, alpha) + 1, value) - 1
        if name == "contrast":
            mean = (colours * alpha).sum() / (3 * alpha.sum())
            return premultiplied(mean + (colours - mean) * value, alpha)
        return premultiplied((reference(name, colours * 2 - 1, value) + 1) / 2, alpha)

    size = [(8, 8)] if name == "cutout" else []
    images = jnp.asarray(premultiplied(straight, alpha), jnp.float32)
    ours = getattr(augment, name)(images, jnp.asarray(VALUES[name]), *size)
    all_wanted = [wanted(*each) for each in zip(straight, alpha, VALUES[name], strict=True)]
    np.testing.assert_allclose(ours, all_wanted, atol=1e-5)


def test_an_empty_picture_stays_empty():
    y = augment.augment(KEY, jnp.full((50, 16, 16, 4), -1.0))
    np.testing.assert_allclose(y, -1, atol=1e-6)
