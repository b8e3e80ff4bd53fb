"""The classes of conditional runs: how they are drawn, and how networks get and judge them."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import some_generator

from dcgan_jax import Discriminator, InputError, create_state, decode, recipe, sample, sample_labels, train_step
from dcgan_jax.gan.average import precise_batch_norm
from dcgan_jax.gan.classes import Classes
from dcgan_jax.gan.objectives import squared_gradient
from dcgan_jax.gan.sampling import sheet

KEY = jax.random.key(0)
PETS = Classes(("cat", "dog", "guinea pig"), (10, 30, 60))


@pytest.fixture(scope="module")
def params():
    return some_generator(image_size=16, width=4, classes=PETS)


def test_classes_are_drawn_as_often_as_they_have_images_or_equally_often():
    for classes, shares in ((PETS, (0.1, 0.3, 0.6)), (dataclasses.replace(PETS, balanced=True), (1 / 3,) * 3)):
        labels = np.asarray(classes.draw(KEY, 20_000, as_trained=True))
        np.testing.assert_allclose(np.bincount(labels) / 20_000, shares, atol=0.015)  # four standard deviations
        np.testing.assert_allclose(np.bincount(classes.draw(KEY, 20_000)) / 20_000, (0.1, 0.3, 0.6), atol=0.015)


def test_the_logit_of_each_images_class_is_taken_at_each_place_and_of_each_head():
    logits = np.random.default_rng(0).standard_normal((4, 2, 2, 6), np.float32)  # two heads
    labels = np.array([2, 0, 1, 1], np.int32)
    wanted = np.stack([logits[i, :, :, label::3] for i, label in enumerate(labels)])
    np.testing.assert_array_equal(PETS.chosen(jnp.asarray(logits), jnp.asarray(labels)), wanted)
    np.testing.assert_array_equal(
        PETS.chosen(jnp.asarray(logits[:, 0, 0, :3]), labels)[:, 0], logits[range(4), 0, 0, labels]
    )


def test_an_image_depends_on_its_number_and_class_alone(params):
    images, labels = sample(params, KEY, 9), sample_labels(params, KEY, 9)
    assert len(set(np.asarray(labels).tolist())) > 1
    np.testing.assert_array_equal(sample(params, KEY, 4, start=5), images[5:])
    np.testing.assert_array_equal(sample_labels(params, KEY, 4, start=5), labels[5:])
    np.testing.assert_array_equal(sample(params, KEY, 9, labels=labels), images)
    dogs = sample(params, KEY, 9, labels="dog")
    np.testing.assert_array_equal(sample(params, KEY, 9, labels=1), dogs)
    np.testing.assert_array_equal(sample(params, KEY, 9, labels=["dog"] * 9), dogs)
    np.testing.assert_array_equal(sample(params, KEY, 9, labels=np.array(["dog"] * 9)), dogs)
    same = np.asarray(labels) == 1
    np.testing.assert_array_equal(dogs[same], images[same])
    assert all(not np.array_equal(a, b) for a, b in zip(dogs[~same], images[~same], strict=True))


def test_between_two_classes_the_rows_of_the_first_matrix_are_mixed(params):
    """With numbers of the middle in the place of one class's, this class draws what the two make half and half."""
    z, half = params.latent.draw(KEY, 3), np.array([[0.5, 0.0, 0.5]] * 3, np.float32)
    kernel = jnp.asarray(params.params["GeneratorBlock_0"]["ConvTranspose_0"]["kernel"])
    assert kernel.shape == (4, 4, 8, 8 + 3)
    mixed = kernel.at[..., 8].set((kernel[..., 8] + kernel[..., 10]) / 2)
    block = {**params.params["GeneratorBlock_0"], "ConvTranspose_0": {"kernel": mixed}}
    other = params.replace(params={**params.params, "GeneratorBlock_0": block})
    np.testing.assert_allclose(decode(params, z, labels=half), decode(other, z, labels="cat"), atol=1e-5)


def test_a_sheet_has_a_row_for_each_class_and_one_z_in_each_column(params):
    images = sheet(params, KEY)
    assert images.shape == (24, 16, 16, 3)
    for label in range(3):
        np.testing.assert_array_equal(images[8 * label : 8 * label + 8], sample(params, KEY, 8, labels=label))
    many = Classes(tuple(map(str, range(40))), (1,) * 40)
    assert len(sheet(some_generator(image_size=16, width=4, classes=many), KEY)) == 16 * 8


def test_batchnorms_statistics_are_those_of_the_classes_of_training(params):
    """In the first layer they follow from the rows of the classes: the means are averages with their shares. A class
    counts as much as all of z, whose length is about the root of 8."""
    kernel = params.params["GeneratorBlock_0"]["ConvTranspose_0"]["kernel"].mean((0, 1))  # (8, 8 + 3)
    for classes, shares in ((PETS, (0.1, 0.3, 0.6)), (dataclasses.replace(PETS, balanced=True), (1 / 3,) * 3)):
        stats = precise_batch_norm(params.replace(classes=classes), 1000, 32).batch_stats
        mean = stats["GeneratorBlock_0"]["BatchNorm_0"]["mean"]
        np.testing.assert_allclose(mean, 8**0.5 * kernel[:, 8:] @ np.array(shares, np.float32), atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: sample(p, KEY, 2, labels="dgo"), "there is no class 'dgo': choose dog$"),
        (lambda p: sample(p, KEY, 2, labels="zebra"), "there is no class 'zebra': choose cat, dog, guinea pig$"),
        (lambda p: sample(p, KEY, 2, labels=3), r"labels must lie in \[0, 2\], or be names"),
        (lambda p: sample(p, KEY, 2, labels=[0, -1]), r"labels must lie in \[0, 2\]"),
        (lambda p: sample(p, KEY, 2, labels=[0, 1, 2]), "one class or one for each of 2 images"),
        (lambda p: sample(p, KEY, 2, labels=["cat", 1]), "one class or one for each of 2 images"),
        (lambda p: sample(p, KEY, 2, labels=np.full((2, 3), np.nan)), "one class or one for each of 2 images"),
        (
            lambda p: decode(p, np.zeros((1, 8))),
            "the run is conditional: say which class each image is to be, by labels=",
        ),
        (
            lambda p: sample(p.replace(classes=Classes()), KEY, 2, labels=0),
            "labels are for a conditional run, .* leave labels= or --class out",
        ),
        (lambda p: sample_labels(p.replace(classes=Classes()), KEY), "the run is not conditional"),
    ],
)
def test_what_is_no_class_is_refused(params, call, message):
    with pytest.raises(InputError, match=message):
        call(params)


class OneColour(nn.Module):
    """z and classes -> images of one colour, which compile at once."""

    classes: int = 0

    @nn.compact
    def __call__(self, z, *, train):
        assert z.shape[1] == 8 + self.classes
        return jnp.broadcast_to(jnp.tanh(nn.Dense(1)(z))[:, :, None, None], (len(z), 16, 16, 3))


class Mean(nn.Module):
    """Images -> the mean times a weight for each class."""

    classes: int = 0
    shape: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x, *, train):
        weights = self.param("weights", nn.initializers.ones, (self.classes or 1,))
        return (x.mean((1, 2, 3))[:, None] * weights[None]).reshape(len(x), *self.shape, self.classes or 1)


@pytest.mark.parametrize("loss", ["bce", "relativistic"])
def test_networks_of_your_own_learn_from_the_logit_of_the_class_alone(tiny, loss):
    config = dataclasses.replace(tiny, conditional=True, loss=loss, augment="off")
    state = new_state(config)
    slopes = {"weights": jnp.array([1.0, 2.0, 4.0])}
    state = state.replace(discriminator=state.discriminator.replace(params=slopes))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    labels = np.array([1, 1, 1, 2], np.int32)
    z, slopes = state.latent.draw(jax.random.fold_in(KEY, 0), 4), state.discriminator.params["weights"]
    colours = state.generator(PETS.beside(z, jnp.asarray(labels)))[0].mean((1, 2, 3))
    expected = jax.nn.sigmoid(slopes[labels] * colours).mean()
    new, metrics = train_step(state, (pixels, labels), KEY)
    np.testing.assert_allclose(metrics["D_G_z1"], expected, rtol=1e-5)
    weights = np.asarray(new.discriminator.params["weights"])
    assert weights[0] == 1 and (weights[1:] != [2, 4]).all()  # no image is of the first class
    rows = np.asarray(
        new.generator.params["Dense_0"]["kernel"] != new_state(config).generator.params["Dense_0"]["kernel"]
    )
    assert not rows[8].any() and rows[9:].all()
    assert sample(new, KEY, 2, labels="dog").shape == (2, 16, 16, 3)


def new_state(config):
    return create_state(config, classes=PETS, generator=OneColour(3), discriminator=Mean(3, (1,)))


def test_networks_that_do_not_know_the_classes_are_refused(tiny):
    config = dataclasses.replace(tiny, conditional=True)
    with pytest.raises(
        InputError, match=r"of the shape \(1, 1\): it must give 3, one for each class, along the last axis"
    ):
        create_state(config, classes=PETS, generator=OneColour(3), discriminator=Mean())
    with pytest.raises(InputError, match="a conditional run needs classes=store.classes, of two classes at least"):
        create_state(config)
    with pytest.raises(InputError, match="a conditional state is trained with images and labels, "):
        train_step(new_state(config), np.zeros((4, 16, 16, 3), np.uint8), KEY)
    for labels in (np.zeros(3, np.int32), np.zeros(4, np.float32), [0, 0, 0, 0]):
        with pytest.raises(InputError, match=r"labels must be int32 of the shape \(4,\), one for each image"):
            train_step(new_state(config), (np.zeros((4, 16, 16, 3), np.uint8), labels), KEY)


def test_the_cheap_penalty_is_that_of_the_logit_of_the_class():
    """Euler's theorem holds for one of several logits as it does for one alone."""
    D = Discriminator(width=4, image_size=16, discriminator_norm="none", classes=3)
    images = jax.random.uniform(KEY, (4, 16, 16, 3), minval=-1)
    variables = D.init(jax.random.key(1), images, train=False)
    variables = jax.tree.map(lambda x: x + 0.1, variables)  # biases that are not 0
    labels = jnp.array([0, 2, 1, 2], jnp.int32)

    def judge(x, **scale):
        return PETS.chosen(D.apply(variables, x, train=True, **scale), labels), None

    cheap, plain = (squared_gradient(judge, images, homogeneous=homogeneous) for homogeneous in (True, False))
    np.testing.assert_allclose(cheap[0], plain[0], rtol=1e-4)
    np.testing.assert_allclose(cheap[2], plain[2], rtol=1e-4)


def test_the_logit_of_a_class_is_that_of_all_and_a_projection_on_its_vector():
    """Miyato & Koyama 2018, equation 4, with φ the features before the last layer, and a linear ψ."""
    D = Discriminator(width=4, image_size=16, discriminator_norm="none", classes=3)
    images, labels = jax.random.uniform(KEY, (4, 16, 16, 3), minval=-1), np.array([0, 2, 1, 2])
    variables = D.init(jax.random.key(1), images, train=False)
    variables["params"]["bias"] = jnp.array([0.1, 0.2, 0.3, 0.4])
    logits, seen = D.apply(variables, images, train=False, capture_intermediates=True)
    phi = np.asarray(seen["intermediates"][D.blocks[-1]]["__call__"][0]).reshape(4, -1)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    psi, vectors = kernel.reshape(-1, 4)[:, 0], kernel.reshape(-1, 4)[:, 1:].T
    wanted = phi @ psi + bias[0] + (vectors[labels] * phi).sum(1) + bias[1:][labels]
    np.testing.assert_allclose(PETS.chosen(logits, jnp.asarray(labels))[:, 0, 0, 0], wanted, rtol=1e-4, atol=1e-5)


def test_the_heads_of_projected_give_a_logit_for_each_class():
    config = recipe("projected", conditional=True, image_size=32, width=4)
    state = jax.eval_shape(lambda: create_state(config, classes=PETS))
    maps = jax.eval_shape(state.features, jnp.zeros((2, 32, 32, 3)))
    heads = {"params": state.heads.params}
    logits = jax.eval_shape(state.heads.module.apply, heads, maps)
    assert logits.shape == (2, 4, 4, 4 * 3)


def test_a_name_is_the_same_however_its_accents_are_written():
    mac = Classes(("cafe\u0301", "tea"), (1, 1))
    assert mac.label("caf\u00e9") == 0 and mac.label("cafe\u0301") == 0
    both = Classes(("cafe\u0301", "caf\u00e9"), (1, 1))
    assert (both.label("cafe\u0301"), both.label("caf\u00e9")) == (0, 1)


def test_long_names_are_shortened_in_messages():
    with pytest.raises(InputError, match="there is no class 'z{79}…': choose y{79}…, tea$"):
        Classes(("y" * 6000, "tea"), (1, 1)).label("z" * 6000)
