from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compilations
from numpy.testing import assert_allclose
from PIL import Image

from dcgan_jax.data import sprites
from dcgan_jax.gan.pixels import from_uint8
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
    before = compilations()
    features(part[:7])
    logits(part[:64])
    assert compilations() == before


def test_what_is_no_set_of_images_is_refused(images):
    for wrong in (images[0], images.astype(np.float32), images[..., :0], images[:0]):
        with pytest.raises(ValueError, match="uint8"):
            features(wrong)


def by_numpy(floats):
    """``features`` of images (N, H, W, C) in [-1, 1], and the logits, in float64: NumPy, and Pillow to enlarge."""
    with np.load(str(resources.files("dcgan_jax.metrics") / "features.npz"), allow_pickle=False) as file:
        weights = {name: file[name].astype(np.float64) for name in file.files}

    def larger(plane):
        return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR))

    x = np.repeat(floats, 3 // floats.shape[-1], axis=-1)
    if x.shape[1] < 32:
        x = np.stack([np.stack([larger(image[..., c]) for c in range(3)], axis=-1) for image in x])
    x = x.astype(np.float64)

    def block(number, x, stride=1):
        name = f"Block_{number}"
        kernel = weights[f"params/{name}/kernel"]
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        seen = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], (1, 2))[:, ::stride, ::stride]
        y = np.einsum("nhwcij,ijco->nhwo", seen, kernel, optimize=True)
        norm, stats = (f"{kind}/{name}/BatchNorm_0" for kind in ("params", "batch_stats"))
        scale = weights[f"{norm}/scale"] / np.sqrt(weights[f"{stats}/var"] + 1e-5)
        return np.maximum((y - weights[f"{stats}/mean"]) * scale + weights[f"{norm}/bias"], 0)

    depth1 = block(1, block(0, x, 2))
    x = block(2, depth1, 2)
    depth2 = x + block(3, block(4, x))  # Flax numbers the outer one first
    x = block(5, depth2, 2)
    x = x + block(6, x)
    pooled = np.concatenate([depth.mean((1, 2)) for depth in (depth1, depth2, x)], axis=-1)
    logits = pooled @ weights["params/Dense_0/kernel"] + weights["params/Dense_0/bias"]
    return (pooled - weights["projection/mean"]) @ weights["projection/matrix"], logits


def test_they_are_what_numpy_computes_with_the_same_weights(images):
    for part in (smaller(images[:3], 32), smaller(images[:2], 24), smaller(images[:2], 24)[..., :1]):
        vectors, classes = by_numpy(part / 127.5 - 1)
        assert vectors.std() > 0.2
        assert_allclose(features(part), vectors, atol=2e-4)
        assert_allclose(logits(part), classes, atol=2e-3)


def test_gradients_of_floats_are_the_slopes_of_what_numpy_computes(images):
    floats = 0.9 * from_uint8(smaller(images[:2], 32))
    assert_allclose(features_of_floats(jnp.asarray(floats)), by_numpy(floats)[0], atol=2e-4)
    weights = np.cos(np.arange(128))
    gradient = jax.grad(lambda x: (features_of_floats(x) @ weights.astype(np.float32)).sum())(jnp.asarray(floats))
    rng = np.random.default_rng(0)
    for way in rng.standard_normal((3, *floats.shape)):
        ahead, behind = (by_numpy(floats + sign * 1e-7 * way)[0] @ weights for sign in (1, -1))
        slope = (ahead - behind).sum() / 2e-7
        assert_allclose((np.asarray(gradient, np.float64) * way).sum(), slope, rtol=2e-3, atol=2e-3)


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


def test_features_of_pictures_with_alpha_are_those_on_black_and_on_white():
    images = np.stack([sprites.draw(0, i, alpha=True)[0] for i in range(5)])
    on_grounds = [
        np.stack([np.asarray(Image.alpha_composite(Image.new("RGBA", (64, 64), ground), rgba)) for rgba in pictures])
        for ground in ("black", "white")
        for pictures in [[Image.fromarray(image).convert("RGBA") for image in images]]
    ]
    wanted = np.concatenate([features(ground[..., :3]) for ground in on_grounds], axis=1)
    found = features(images)
    assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())  # Pillow rounds by a level
    assert_allclose(features_of_floats(jnp.asarray(from_uint8(images))), found, atol=0.02 * np.abs(found).max())
    assert logits(images).shape == (5, 10)
    hidden = images.copy()
    hidden[images[..., -1] == 0, 0] = 200  # is not seen
    assert_allclose(features(hidden), found, atol=1e-5)
