from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from dcgan_jax.data import sprites
from dcgan_jax.gan.pixels import from_uint8
from dcgan_jax.metrics import features as module
from dcgan_jax.metrics.distances import frechet_distance
from dcgan_jax.metrics.features import features, features_of_floats, logits


@pytest.fixture(scope="module")
def images():
    return np.stack([sprites.draw(0, i)[0] for i in range(200)])


def smaller(images, size):
    return np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])


def test_weights_are_small_and_no_pickle():
    file = resources.files("dcgan_jax.metrics") / "features.npz"
    assert len(file.read_bytes()) < 1_000_000
    with np.load(str(file), allow_pickle=False) as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float16)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 32, 64])
def test_any_size_and_number_of_channels(images, size, channels):
    part = smaller(images[:3], size)[..., :channels]
    found = features(part)
    assert found.shape == (3, 128) and found.dtype == np.float32 and np.isfinite(found).all()
    assert logits(part).shape == (3, 10)


def test_an_image_does_not_depend_on_its_neighbours(images):
    """67 images are a full chunk and a part of one."""
    part = smaller(images, 32)
    assert_allclose(features(part)[60:67], features(part[60:67]), atol=1e-4)


def test_gray_is_the_same_in_one_channel_and_in_three(images):
    gray = smaller(images[:5], 32)[..., :1]
    assert_allclose(features(gray), features(np.repeat(gray, 3, axis=-1)), atol=1e-5)


def test_compiled_once_for_each_size(images):
    part = smaller(images[:80], 40)
    features(part)
    before = module._apply._cache_size()
    features(part[:7])
    logits(part[:64])
    assert module._apply._cache_size() == before


def test_what_is_no_set_of_images_is_refused(images):
    for wrong in (images[0], images.astype(np.float32), images[..., :2], images[:0]):
        with pytest.raises(ValueError, match="uint8"):
            features(wrong)


def test_of_floats_they_are_the_same_and_have_gradients(images):
    part = smaller(images[:2], 24)
    floats = jnp.asarray(from_uint8(part))
    assert_allclose(features_of_floats(floats), features(part), atol=1e-4)
    gradient = jax.grad(lambda x: features_of_floats(x).sum())(floats)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.slow
def test_distance_grows_with_each_kind_of_damage(images):
    """Noise, checkerboard, blur, lost colour, fewer kinds of images."""
    rng = np.random.RandomState(0)
    clean, other = images[:100], images[100:]
    reals = features(clean)
    floor = frechet_distance(reals, features(other))

    def noise(strength):
        return other + 60 * strength * rng.randn(*other.shape)

    def checkerboard(strength):
        board = (np.indices(other.shape[1:3]).sum(0) % 2 * 2 - 1)[..., None]
        return other + 40 * strength * board

    def blur(strength):
        return (1 - strength) * other + strength * smaller(smaller(other, 16), 64)

    def gray(strength):
        return (1 - strength) * other + strength * other.mean(-1, keepdims=True)

    for damage in (noise, checkerboard, blur, gray):
        found = [np.clip(damage(strength), 0, 255).astype(np.uint8) for strength in (0.3, 1)]
        weak, strong = (frechet_distance(reals, features(part)) for part in found)
        assert floor < weak < strong, damage.__name__
        assert strong > 1.5 * floor, damage.__name__
    few = np.repeat(other[:10], 10, axis=0)
    assert frechet_distance(reals, features(few)) > 1.5 * floor
