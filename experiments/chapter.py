# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Deep convolutional GANs
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/dcgan_jax/blob/main/experiments/chapter.ipynb)
#
# This is the DCGAN chapter of [Dive into Deep Learning](https://d2l.ai/chapter_generative-adversarial-networks/dcgan.html)
# with `dcgan_jax`: the same steps in the same order, in JAX and Flax. Read the two side by side.
#
# Two networks are trained against each other. The **generator** turns random numbers into images. The **discriminator**
# says which images are real. Each gets better because the other does.
#
# To run it on your machine:
#
# ```console
# $ python -m pip install 'dcgan_jax[notebook]'
# $ jupyter lab chapter.ipynb
# ```
#
# `chapter.ipynb` is made from `chapter.py`. This command runs it and writes the notebook (in the root of the checkout,
# after `pip install -e '.[notebook]'`; delete `runs/chapter` first):
#
# ```console
# $ jupytext --to ipynb --output - experiments/chapter.py | jupyter nbconvert --stdin --to notebook --execute --stdout | jupyter nbconvert --stdin --to notebook --coalesce-streams --stdout > experiments/chapter.ipynb
# ```
#
# The first cell installs the package where it is missing, such as on Colab. Elsewhere it does nothing.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("dcgan_jax") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "dcgan_jax"], check=True)

# %% [markdown]
# What is used below:

# %%
import warnings

warnings.filterwarnings("ignore", "IProgress")  # which pooch gives at its import: progress bars are text here

import dataclasses
import functools
import inspect
import itertools
import json
import os
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from IPython.display import display
from IPython.utils.capture import capture_output
from PIL import Image

from dcgan_jax import (
    Config,
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    InputError,
    cache_compilations,
    create_state,
    decode,
    evaluate_classes,
    fit,
    from_uint8,
    open_store,
    recipe,
    restore,
    sample,
    show,
    slerp,
    train_step,
)
from dcgan_jax.gan.networks import ConvTranspose
from dcgan_jax.gan.step import step

cache_compilations()  # what is compiled is kept on disk: a second run starts sooner

# %% [markdown]
# All settings are in the next cell. An environment variable such as `DCGAN_CHAPTER_EPOCHS=5` changes one without an
# edit. As they stand, the whole notebook takes about 40 minutes on two cores, most of it for exercise 2. The
# chapter's own numbers take hours there: set `RECIPE` to `"chapter"`, or to `"chapter-tf"` for those of its
# TensorFlow tab. `"paper"` has those of [Radford et al. 2015](https://arxiv.org/abs/1511.06434).
#
# | | here | `chapter` | `chapter-tf` | `paper` |
# |---|---|---|---|---|
# | images | 20,000 creatures that are drawn by code | 40,597 Pokémon sprites, downloaded at the first start | the same | the creatures |
# | side of an image | 32 | 64 | 64 | 64 |
# | width of the networks | 32 | 64 | 64 | 64 |
# | batch size | 32 | 256 | 256 | 128 |
# | learning rate | 0.0004 | 0.005 | 0.0005 | 0.0002 |
# | how long | 10 epochs | 20 epochs | 40 epochs | 25,000 steps |


# %%
def setting(name, default):
    value = type(default)(os.environ.get(f"DCGAN_CHAPTER_{name}", default))
    if value != default:
        print(f"{name} is {value} here, not {default}")
    return value


RECIPE = setting("RECIPE", "short")  # or "chapter" or "chapter-tf", which need none of the next six
DATA = setting("DATA", "sprites")  # or "pokemon", or the path of a folder or .zip of images
IMAGE_SIZE = setting("IMAGE_SIZE", 32)
WIDTH = setting("WIDTH", 32)
BATCH_SIZE = setting("BATCH_SIZE", 32)
LEARNING_RATE = setting("LEARNING_RATE", 0.0004)
EPOCHS = setting("EPOCHS", 10)
RELU_STEPS = setting("RELU_STEPS", 300)  # of each of the six runs of exercise 1
FASHION = os.environ.get(
    "DCGAN_CHAPTER_FASHION", "tfds:fashion_mnist"
)  # of exercise 2; or a folder with its four IDX files
FASHION_STEPS = setting("FASHION_STEPS", 1500)
FASHION_IMAGES = setting("FASHION_IMAGES", 4000)  # samples in each of three sets
WORKDIR = Path(
    os.environ.get("DCGAN_CHAPTER_WORKDIR", "runs/chapter")
)  # a run that is there is resumed; with other settings, name another

# %% [markdown]
# ## The data
#
# A `Config` holds all settings of a run. Images are decoded once, resized to squares, and kept in a cache. `squash`
# resizes as the chapter does: both sides get the same length, and nothing is cut off.

# %%
short = Config(
    data=DATA,
    resize="squash",
    image_size=IMAGE_SIZE,
    width=WIDTH,
    batch_size=BATCH_SIZE,
    learning_rate=LEARNING_RATE,
    augment="off",  # the chapter has none
    sample_every=100,
)
config = short if RECIPE == "short" else recipe(RECIPE)
images = open_store(config)
print(f"{len(images):,} images, {images.shape[1:]} each")

# %% [markdown]
# The generator ends with a tanh, so the pixels 0 to 255 are mapped to the range of tanh, −1 to 1. In other words, pixels
# between 0 and 1 have their mean, 0.5, subtracted, and are divided by the deviation 0.5.

# %%
batch = from_uint8(images.take(range(config.batch_size)))
print(batch.shape, batch.dtype, f"from {batch.min():g} to {batch.max():g}")
assert np.allclose(batch, (images.take(range(config.batch_size)) / 255 - 0.5) / 0.5, atol=1e-6)

# %% [markdown]
# The first 20 images:

# %%
show(batch[:20], columns=5)

# %% [markdown]
# ## The generator
#
# It is made of blocks. Each is a transposed convolution with a 4×4 kernel and no bias, then BatchNorm, then ReLU. JAX
# keeps the channels last: an array of images is (images, height, width, channels).

# %%
print(inspect.getsource(GeneratorBlock))

# %% [markdown]
# A transposed convolution with kernel $k$, stride $s$ and padding $p$ makes a side of $n$ one of
#
# $$n' = k + s\,(n - 1) - 2p.$$
#
# A block has $k = 4$, $s = 2$ and $p = 1$, so $n' = 4 + 2\,(n - 1) - 2 = 2n$: height and width double.

# %%
key = jax.random.key(0)
x = jnp.zeros((2, 16, 16, 3))
y, variables = GeneratorBlock(20).init_with_output(key, x, train=False)
y.shape

# %% [markdown]
# With stride 1 and padding 0 it is $n' = 4 + (n - 1) = n + 3$. This makes one position 4×4.

# %%
x = jnp.zeros((2, 1, 1, 3))
y, variables = GeneratorBlock(20, strides=1, padding=0).init_with_output(key, x, train=False)
y.shape

# %% [markdown]
# The whole generator is a list of such blocks. Its input, *z*, is 100 random numbers from $N(0, 1)$. The first block makes
# 4×4 positions with 512 channels of them. Each of the next three doubles the sides and halves the channels. A last transposed convolution and tanh draw
# the three colours, without BatchNorm. The numbers here are those of the chapter, for 64×64 pixels.

# %%
n = 64
net_G = [
    GeneratorBlock(8 * n, strides=1, padding=0),
    GeneratorBlock(4 * n),
    GeneratorBlock(2 * n),
    GeneratorBlock(n),
    ConvTranspose(3),
    jnp.tanh,
]

# %% [markdown]
# In Flax a module holds no numbers. `init` makes its variables, and `apply` calls it with them. `init_with_output` does
# both. This leads the shape of one input through a list, block by block. `eval_shape` finds the shapes without
# computing anything.


# %%
def print_shapes(blocks, shape):
    x, total = jax.ShapeDtypeStruct(shape, jnp.float32), 0
    print(f"{'input':19} {x.shape}")
    for block in blocks:
        if block is jnp.tanh:
            name, numbers = "tanh", 0
        else:
            mode = {"train": False} if isinstance(block, (GeneratorBlock, DiscriminatorBlock)) else {}
            x, variables = jax.eval_shape(functools.partial(block.init_with_output, **mode), key, x)
            name, numbers = type(block).__name__, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        print(f"{name:19} {x.shape!s:18} {numbers:9,} weights")
        total += numbers
    print(f"{total:,} weights in all")


print_shapes(net_G, (1, 1, 1, 100))

# %% [markdown]
# The package's `Generator` has the same blocks. It makes their list from the width and the side of the images, so it
# fits other sizes too. 100 random numbers give one image:

# %%
z = jax.random.normal(key, (1, 100))
image, variables = Generator(width=n, image_size=64).init_with_output(key, z, train=False)
assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 3_576_704
image.shape

# %% [markdown]
# ## The discriminator
#
# It is the mirror image: convolutions instead of transposed ones, and LeakyReLU instead of ReLU.
#
# $$\textrm{LeakyReLU}(x) = \begin{cases} x & \text{if } x > 0 \\ \alpha x & \text{otherwise} \end{cases}$$
#
# With $\alpha = 0$ it is the ReLU; with $\alpha = 1$ it changes nothing. On the left are its curves, on the right
# their slopes.
#
# The slope is why it is used. The ReLU's is 0 for every negative input. A unit whose input is negative for all
# images then gets no gradient, never changes, and stays 0 for good. This is called a **dying ReLU**. It is worse in a
# discriminator than elsewhere, since the generator learns only from the gradients that pass through it. With
# $\alpha = 0.2$, the chapter's value, a fifth of the gradient always passes.

# %%
x = jnp.arange(-2, 1, 0.1)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for alpha in (0, 0.2, 0.4, 0.6, 0.8, 1):
    axes[0].plot(x, jax.nn.leaky_relu(x, alpha), label=f"α = {alpha}")
    axes[1].plot(x, jax.vmap(jax.grad(lambda x, alpha=alpha: jax.nn.leaky_relu(x, alpha)))(x))
axes[0].set(xlabel="x", ylabel="LeakyReLU(x)")
axes[1].set(xlabel="x", ylabel="slope")
axes[0].legend()
for one in axes:
    one.grid(alpha=0.3)
plt.show()

# %% [markdown]
# A block is a convolution with a 4×4 kernel and no bias, then BatchNorm, then LeakyReLU. The package's block has
# switches for other recipes; the defaults are the chapter's.

# %%
print(inspect.getsource(DiscriminatorBlock))

# %% [markdown]
# A convolution makes a side of $n$ one of $n' = \lfloor (n + 2p - k) / s \rfloor + 1$. Here that is
# $\lfloor (n - 2) / 2 \rfloor + 1 = n / 2$: height and width are halved.

# %%
x = jnp.zeros((2, 16, 16, 3))
y, variables = DiscriminatorBlock(20).init_with_output(key, x, train=False)
y.shape

# %% [markdown]
# The discriminator is a list of four blocks, and a last convolution without padding. That one sees exactly 4×4 positions
# and makes one number of them, a logit: positive for "real".

# %%
net_D = [
    DiscriminatorBlock(n),
    DiscriminatorBlock(2 * n),
    DiscriminatorBlock(4 * n),
    DiscriminatorBlock(8 * n),
    nn.Conv(1, (4, 4), padding="VALID", use_bias=False, kernel_init=nn.initializers.normal(0.02)),
]
print_shapes(net_D, (1, 64, 64, 3))

# %% [markdown]
# The package's `Discriminator` gives one logit for one image:

# %%
x = jnp.zeros((1, 64, 64, 3))
logit, variables = Discriminator(width=n, image_size=64).init_with_output(key, x, train=False)
assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 2_765_568
logit.shape

# %% [markdown]
# ## BatchNorm
#
# BatchNorm subtracts the mean of each channel over the batch, divides by its deviation, and then applies a scale and a
# shift that are learned:
#
# $$\textrm{BN}(x) = \gamma\,\frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta.$$
#
# While it trains, $\mu$ and $\sigma$ are those of the batch; running averages of them are kept for later, when single
# images are drawn. In Flax these averages are a second collection of variables, `batch_stats`.
#
# Where does it belong? The paper and the summary of the chapter say: in all blocks, but not in the last layer of the
# generator, nor in the first block of the discriminator, which sees the images. The *code* of the chapter, and the list
# above, have it in that block too. These are 128 more weights at width 64. `first_batchnorm` chooses:

# %%
for first in (False, True):
    network = Discriminator(width=n, image_size=64, first_batchnorm=first)
    shapes = jax.eval_shape(functools.partial(network.init, train=False), key, x)
    weights = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    print(f"first_batchnorm={first!s:5}: BatchNorm in {len(shapes['batch_stats'])} of 4 blocks, {weights:,} weights")

# %% [markdown]
# The recipes `chapter` and `chapter-tf` do as the chapter's code does, all others as the paper says.
#
# ## How the weights start
#
# The chapter draws every weight from $N(0, 0.02)$, the scales $\gamma$ of BatchNorm included. In most DCGANs the
# kernels start like that, and the scales as $N(1, 0.02)$: then a block passes on what it gets instead of almost nothing.
# The setting is `batchnorm_scale_mean`, 0 or 1. (Shifts start at 0 here, in the chapter as $N(0, 0.02)$ as well.)

# %%
for mean in (0.0, 1.0):
    network = Generator(width=n, image_size=64, batchnorm_scale_mean=mean)
    params = network.init(key, z, train=False)["params"]
    for name in ("kernel", "scale"):
        leaves = [leaf.ravel() for path, leaf in jax.tree.leaves_with_path(params) if path[-1].key == name]
        values = jnp.concatenate(leaves)
        print(f"batchnorm_scale_mean={mean}: {name}s have mean {values.mean():.3f}, deviation {values.std():.3f}")

# %% [markdown]
# ## The losses
#
# The discriminator says how probable it is that an image is real: $D(x) = \sigma(\textrm{logit})$, where $\sigma$ is
# the sigmoid. **Binary cross-entropy** compares it with the truth $y$, 1 for real images and 0 for generated ones:
#
# $$\textrm{BCE}(x, y) = -y \log D(x) - (1 - y) \log (1 - D(x)).$$
#
# The discriminator minimises the mean of both kinds,
#
# $$L_D = \tfrac{1}{2} \left(\textrm{BCE}(x, 1) + \textrm{BCE}(G(z), 0)\right).$$
#
# The generator wants its images taken for real ones. It could maximise $\textrm{BCE}(G(z), 0)$, but where the
# discriminator is sure, on the left of the plot, that curve is flat, and a generator that is bad would learn nothing. So
# it minimises
#
# $$L_G = \textrm{BCE}(G(z), 1),$$
#
# which is steepest there. A discriminator that cannot tell says ½, and both losses are $\log 2 = 0.69$.

# %%
logits = jnp.arange(-5, 5, 0.1)
figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(
    logits, optax.sigmoid_binary_cross_entropy(logits, jnp.ones_like(logits)), label="BCE(x, 1): real; what G minimises"
)
axes.plot(
    logits, optax.sigmoid_binary_cross_entropy(logits, jnp.zeros_like(logits)), "--", label="BCE(x, 0): generated"
)
axes.axhline(np.log(2), color="grey", linewidth=0.5)
axes.set(xlabel="logit", ylabel="loss")
axes.legend()
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## One step, written out
#
# Here are `update_D` and `update_G` in plain lines. A player is a dictionary: its weights, the averages of BatchNorm, and
# what Adam remembers. Adam has $\beta_1 = 0.5$, less than the usual 0.9, and $\beta_2 = 0.999$.
#
# First the discriminator learns from a batch of real images `X` and one of generated images. Then the generator learns
# from the *updated* discriminator, with the same random numbers `Z`.

# %%
generator = Generator(width=config.width, image_size=config.image_size)
discriminator = Discriminator(width=config.width, image_size=config.image_size, first_batchnorm=config.first_batchnorm)
adam = optax.adam(LEARNING_RATE, b1=0.5, b2=0.999)


def bce(logits, target):
    return optax.sigmoid_binary_cross_entropy(logits, jnp.full_like(logits, target)).mean()


def called(network, params, batch_stats, x):
    return network.apply({"params": params, "batch_stats": batch_stats}, x, train=True, mutable=["batch_stats"])


def updated(player, grads, batch_stats):
    changes, memory = adam.update(grads, player["adam"])
    return {"params": optax.apply_updates(player["params"], changes), "batch_stats": batch_stats, "adam": memory}


@jax.jit
def update_D(X, Z, G, D):
    fake_X, _ = called(generator, G["params"], G["batch_stats"], Z)

    def loss(params):
        real_Y, changed = called(discriminator, params, D["batch_stats"], X)
        fake_Y, changed = called(discriminator, params, changed["batch_stats"], fake_X)
        return (bce(real_Y, 1) + bce(fake_Y, 0)) / 2, changed["batch_stats"]

    (loss_D, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(D["params"])
    return updated(D, grads, batch_stats), loss_D


@jax.jit
def update_G(Z, G, D):
    def loss(params):
        fake_X, changed = called(generator, params, G["batch_stats"], Z)
        fake_Y, _ = called(discriminator, D["params"], D["batch_stats"], fake_X)
        return bce(fake_Y, 1), changed["batch_stats"]

    (loss_G, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(G["params"])
    return updated(G, grads, batch_stats), loss_G


# %% [markdown]
# The package's `train_step` does both in one compiled function. It shares the generated images between the two
# updates, so they are drawn once, not twice. This is all of it; what is not in the plain lines serves other losses,
# gradient penalties, augmentation and a second discriminator:

# %%
print(inspect.getsource(step))

# %% [markdown]
# Do both compute the same? Both start from the same weights and get the same images and random numbers, five times. The
# losses are the same to five digits at first. They are two programs that round differently, and each step of Adam makes
# such differences larger, so after five steps it is three digits.

# %%
state = create_state(dataclasses.replace(config, learning_rate=LEARNING_RATE))
G, D = (
    {"params": player.params, "batch_stats": player.batch_stats, "adam": adam.init(player.params)}
    for player in jax.tree.map(jnp.copy, (state.generator, state.discriminator))  # train_step reuses their memory
)
X = jnp.asarray(batch)
for i in range(5):
    Z = state.latent.draw(jax.random.fold_in(key, i), len(X))  # as train_step draws them
    D, loss_D = update_D(X, Z, G, D)
    G, loss_G = update_G(Z, G, D)
    state, metrics = train_step(state, X, key)
    print(f"plain   loss_D {loss_D:.6f}, loss_G {loss_G:.6f}")
    print(f"package loss_D {metrics['loss_D']:.6f}, loss_G {metrics['loss_G']:.6f}")
    both = [loss_D, loss_G], [metrics["loss_D"], metrics["loss_G"]]
    np.testing.assert_allclose(*both, rtol=1e-4 if i == 0 else 2e-3)

# %% [markdown]
# ## Training
#
# `fit` repeats this step, logs, saves checkpoints, and draws the losses above 3×7 samples. In a notebook this picture
# renews itself while it trains. An epoch is one pass over all images. The last line says the losses and how many images
# were seen in a second.
#
# The two losses are no measure of quality, since each depends on the other network. Look at the images.
#
# From a shell, the same, the chapter's numbers, and those of its TensorFlow tab:
#
# ```console
# $ python -m dcgan_jax.train --workdir runs/short --resize squash --image-size 32 --width 32 --epochs 10
# $ python -m dcgan_jax.train --workdir runs/chapter --recipe chapter
# $ python -m dcgan_jax.train --workdir runs/chapter-tf --recipe chapter-tf
# ```

# %%
state = fit(config, WORKDIR / RECIPE, epochs=EPOCHS if RECIPE == "short" else None)

# %% [markdown]
# After ten epochs the creatures can be told apart by their ears, faces and limbs. For larger ones set `RECIPE` to one of
# the others, which has larger networks too.
#
# New images from the trained generator, which `restore` reads from its checkpoint:

# %%
params = restore(WORKDIR / RECIPE)
show(sample(params, jax.random.key(1), 21), columns=7)

# %% [markdown]
# Between two latent vectors lies a path of more such images. A generator that knew its images by heart would jump from
# one to another:

# %%
ends = jax.random.normal(jax.random.key(2), (3, 2, params.latent.dim))
paths = jnp.concatenate([slerp(*pair, jnp.linspace(0, 1, 10)) for pair in ends])
show(decode(params, paths), columns=10)

# %% [markdown]
# ## Summary
#
# - The generator has four blocks of transposed convolutions, also called fractionally strided, and a last one that draws.
# - The discriminator has four blocks of convolutions with stride 2 and LeakyReLU, and a last one that judges. BatchNorm
#   is in all blocks but, as a rule, its first.
# - LeakyReLU has a slope below zero too. It keeps units from dying, so that gradients reach the generator.
#
# ## Exercise 1: what if the discriminator has ReLU instead of LeakyReLU?
#
# `leaky_slope=0` makes it a ReLU; everything else stays. A single run says little, since two runs with the same
# settings and other random numbers differ too. So each is trained three times, with the creatures of three seeds. To
# be quick, the networks are half as wide. **KID** measures at the end how far samples are from real images. Lower is
# better; new real images get about 0.

# %%
SEEDS = (0, 1, 2)
SLOPES = {"LeakyReLU(0.2)": 0.2, "ReLU": 0.0}
narrow = dataclasses.replace(
    short,
    width=max(WIDTH // 2, 1),
    steps=RELU_STEPS,
    log_every=max(RELU_STEPS // 50, 1),
    sample_every=RELU_STEPS,
    evaluate_every=RELU_STEPS * BATCH_SIZE,
)
for slope, seed in itertools.product(SLOPES.values(), SEEDS):
    with capture_output(stdout=False, stderr=False):  # the figure below is in place of six live pictures
        fit(dataclasses.replace(narrow, leaky_slope=slope, seed=seed), WORKDIR / f"slope-{slope:g}-seed-{seed}")

# %% [markdown]
# The curves, and samples of the first seed:


# %%
def logged(slope, seed, name):
    """The steps with a metric, and its values."""
    path = WORKDIR / f"slope-{slope:g}-seed-{seed}" / "metrics.jsonl"
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if name in line]
    return [line["step"] for line in lines], [line[name] for line in lines]


figure, axes = plt.subplots(2, 2, figsize=(7, 5), layout="constrained", height_ratios=(1, 0.9))
for colour, (name, slope) in zip(("C0", "C1"), SLOPES.items()):
    for seed in SEEDS:
        for above, loss in zip(axes[0], ("loss_D", "loss_G")):
            above.plot(*logged(slope, seed, loss), color=colour, linewidth=1, label=name if seed == 0 else None)
axes[0, 0].set(xlabel="step", ylabel="loss of the discriminator", ylim=(0, 1))
axes[0, 1].set(xlabel="step", ylabel="loss of the generator", ylim=(0, 8))
axes[0, 0].legend()
for one in axes[0]:
    one.grid(alpha=0.3)
for below, (name, slope) in zip(axes[1], SLOPES.items()):
    drawn = sample(restore(WORKDIR / f"slope-{slope:g}-seed-0", "newest"), jax.random.key(1), 21)
    below.imshow(show(drawn, columns=7), interpolation="nearest")  # sharp, and a small file
    below.set_title(name)
    below.axis("off")
plt.show()

for name, slope in SLOPES.items():
    kids = [logged(slope, seed, "kid")[1][-1] for seed in SEEDS]
    print(f"{name:15} KID {np.mean(kids):.2f} (the three runs: {', '.join(f'{kid:.2f}' for kid in kids)})")

# %% [markdown]
# **LeakyReLU was better with each of the three seeds**: a KID of about 22 on the average, against 24 with ReLU. The worst
# run with LeakyReLU was nearer to the real images than the best with ReLU. But ReLU does not fail here. BatchNorm centres
# the inputs of most units, so a unit rarely gets negative ones only, and few die. What is lost is half of the gradient
# that the generator learns from. Six short runs show the start of training; they do not say where long ones end. The
# losses hardly tell the two apart, so judge by the samples and by KID.
#
# ## Exercise 2: Fashion-MNIST. Which category works well, which does not?
#
# One DCGAN learns all ten categories from 32×32 grey images. It is not told which is which. (The cells of this exercise
# were run by themselves, with the settings above and `FASHION = "fashion-mnist"`, a folder with the four files.)

# %%
NAMES = "T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot".split(", ")
fashion = Config(
    data=FASHION or "none",
    channels=1,
    image_size=32,
    width=WIDTH,
    batch_size=BATCH_SIZE,
    steps=FASHION_STEPS,
    sample_every=max(FASHION_STEPS // 10, 1),
)
try:
    clothes = open_store(fashion)
except InputError as error:
    clothes = None
    print(f"Fashion-MNIST is not here, so this exercise is left out: {error}")
else:
    fit(fashion, WORKDIR / "fashion")

# %% [markdown]
# `evaluate_classes` answers the question. It is what `python -m dcgan_jax.evaluate --classes` calls. A classifier learns
# the labels of the real images, and then says which category each sample belongs to. The samples of a category are
# compared with real images of it, in the features of another small classifier that comes with the package.

# %%
if clothes:
    numbered = all(label.isdigit() for label in clothes.label_names)
    classes = evaluate_classes(WORKDIR / "fashion", num=FASHION_IMAGES, names=NAMES if numbered else ())
    print(
        f"step {classes.step}, {classes.n:,} samples; the classifier is right for {classes.classifier['accuracy']:.1%}"
    )
    print(classes.finding)
    picture = Image.open(WORKDIR / "fashion" / "classes.png")
    picture.thumbnail((800, 800))
    display(picture.convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE))  # small, so that the notebook is, too

# %% [markdown]
# The rows are sorted, the best category first. The first bars say how often it is drawn; a red mark is its share of the
# real images. The second say how far its samples are from the real ones: 0 is as near as other real images.
#
# This run is short, and the order of another may differ. Three longer ones (10,000 steps) agreed: trousers, sneakers and
# dresses came out best. They have one outline each. Bags came out worst and sandals mostly next, and only 7 % of the
# samples were sandals. Sandals are made of thin straps, and bags have many shapes: few pixels are the same from one to
# the next.
