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
# This is the DCGAN chapter of [Dive into Deep Learning](https://d2l.ai/chapter_generative-adversarial-networks/dcgan.html)
# with `dcgan_jax`: the same steps in the same order, in JAX and Flax. Read the two side by side.
#
# Two networks are trained against each other. The **generator** turns random numbers into images. The **discriminator**
# says which images are real. Each gets better because the other does.
#
# `chapter.ipynb` is made from `chapter.py`. This command runs it and writes the notebook (in the root of the checkout,
# after `pip install -e '.[notebook]'`; delete `runs/chapter` first):
#
# ```console
# $ jupytext --to ipynb --output - experiments/chapter.py | jupyter nbconvert --stdin --to notebook --execute --stdout | jupyter nbconvert --stdin --to notebook --coalesce-streams --stdout > experiments/chapter.ipynb
# ```

# %%
import warnings

warnings.filterwarnings("ignore", "IProgress")  # which pooch gives at its import: progress bars are text here

import dataclasses
import inspect
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
from IPython.display import Image, display

from dcgan_jax import (
    Config,
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    InputError,
    create_state,
    decode,
    evaluate_classes,
    fit,
    from_uint8,
    restore,
    sample,
    show,
    slerp,
    train_step,
)
from dcgan_jax.data.store import open_store
from dcgan_jax.gan.step import step

# %% [markdown]
# All settings are in the next cell. An environment variable such as `DCGAN_CHAPTER_STEPS=100` changes one without an
# edit. For the chapter's own data set `DATA` is `"pokemon"`: 40,597 sprites, which the first start downloads. The
# default, `"sprites"`, needs no network: 20,000 creatures that are drawn by code.


# %%
def setting(name, default):
    value = type(default)(os.environ.get(f"DCGAN_CHAPTER_{name}", default))
    if value != default:
        print(f"{name} is {value} here, not {default}")
    return value


DATA = setting("DATA", "sprites")  # or "pokemon", or the path of a folder or .zip of images
IMAGE_SIZE = setting("IMAGE_SIZE", 64)
WIDTH = setting("WIDTH", 32)  # the chapter's networks have 64, and take four times as long
BATCH_SIZE = setting("BATCH_SIZE", 32)
STEPS = setting("STEPS", 1200)
RELU_STEPS = setting("RELU_STEPS", 400)  # of exercise 1
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
# resizes as the chapter does: both sides to 64 pixels, nothing is cut off.

# %%
config = Config(
    data=DATA,
    resize="squash",
    image_size=IMAGE_SIZE,
    width=WIDTH,
    batch_size=BATCH_SIZE,
    steps=STEPS,
    sample_every=max(STEPS // 10, 1),
    keep_every=RELU_STEPS,  # exercise 1 compares checkpoints of this step
)
images = open_store(config)
print(f"{len(images):,} images, {images.shape[1:]} each")

# %% [markdown]
# The generator ends with a tanh, so the pixels 0 to 255 are mapped to the range of tanh, −1 to 1.

# %%
batch = from_uint8(images.take(range(BATCH_SIZE)))
print(batch.shape, batch.dtype, f"from {batch.min():g} to {batch.max():g}")

# %% [markdown]
# The first 20 images:

# %%
show(batch[:20], columns=5)

# %% [markdown]
# ## The generator
#
# It is made of blocks. Each is a transposed convolution with a 4×4 kernel, then BatchNorm, then ReLU. JAX keeps the
# channels last: an array of images is (images, height, width, channels).

# %%
print(inspect.getsource(GeneratorBlock))

# %% [markdown]
# With stride 2 and padding 1 a block doubles height and width: from side *n* to 2 (*n* − 1) + 4 − 2 = 2 *n*.

# %%
key = jax.random.key(0)
x = jnp.zeros((2, 16, 16, 3))
y, variables = GeneratorBlock(20).init_with_output(key, x, train=False)
y.shape

# %% [markdown]
# With stride 1 and padding 0 it adds 3 to both: (*n* − 1) + 4 = *n* + 3. This turns one position into 4×4.

# %%
x = jnp.zeros((2, 1, 1, 3))
y, variables = GeneratorBlock(20, strides=1, padding=0).init_with_output(key, x, train=False)
y.shape

# %% [markdown]
# The generator starts with such a block. Then one block after another doubles the sides and halves the channels, and
# a last transposed convolution and tanh draw the three colours. In Flax a network holds no numbers: `init` makes its
# variables, and `apply` takes them.

# %%
generator = Generator(width=WIDTH, image_size=IMAGE_SIZE)
z = jax.random.normal(key, (1, 100))
variables = generator.init(key, z, train=False)
shapes = generator.tabulate(key, z, train=False, depth=1, console_kwargs={"width": 110, "force_jupyter": False})
print(shapes)

# %% [markdown]
# 100 random numbers give one image:

# %%
generator.apply(variables, z, train=False).shape

# %% [markdown]
# ## The discriminator
#
# It is the mirror image: convolutions instead of transposed ones, and LeakyReLU instead of ReLU. LeakyReLU is *x* for
# positive *x* and α *x* below. With α = 0 it is the ReLU, which passes no gradient back where its input is negative;
# with α = 1 it changes nothing.

# %%
x = jnp.arange(-2, 1, 0.1)
figure, axes = plt.subplots(figsize=(4, 3))
for alpha in (0, 0.2, 0.4, 0.6, 0.8, 1):
    axes.plot(x, jax.nn.leaky_relu(x, alpha), label=f"α = {alpha}")
axes.set(xlabel="x", ylabel="LeakyReLU(x)")
axes.legend()
axes.grid(alpha=0.3)
plt.show()

# %%
print(inspect.getsource(DiscriminatorBlock))

# %% [markdown]
# A block halves height and width: from side *n* to (*n* + 2 − 4) / 2 + 1 = *n* / 2.

# %%
x = jnp.zeros((2, 16, 16, 3))
y, variables = DiscriminatorBlock(20).init_with_output(key, x, train=False)
y.shape

# %% [markdown]
# The discriminator's last layer gives one number for each image, a logit: positive for "real".

# %%
discriminator = Discriminator(width=WIDTH, image_size=IMAGE_SIZE)
x = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3))
variables = discriminator.init(key, x, train=False)
discriminator.apply(variables, x, train=False).shape

# %% [markdown]
# ## Training
#
# `train_step` does what the chapter's `update_D` and `update_G` do. First the discriminator learns to tell real images
# from generated ones; then the generator learns to make the updated discriminator say "real". Both use Adam with
# β₁ = 0.5, and binary cross-entropy on the logits.

# %%
print(inspect.getsource(step))

# %% [markdown]
# One step. The state holds both networks, their optimizers and the number of steps.

# %%
state = create_state(config)
state, metrics = train_step(state, jnp.asarray(batch), key)
{name: round(float(value), 3) for name, value in metrics.items()}

# %% [markdown]
# `fit` repeats it, logs, saves checkpoints, and draws the losses above 3×7 samples. In a notebook this picture renews
# itself. The same from a shell: `python -m dcgan_jax.train --workdir runs/`.
#
# The two losses are no measure of quality, since each depends on the other network. Look at the images.

# %%
state = fit(config, WORKDIR / "leaky")

# %% [markdown]
# New images from the trained generator, which `restore` reads from its checkpoint:

# %%
params = restore(WORKDIR / "leaky")
show(sample(params, jax.random.key(1), 21), columns=7)

# %% [markdown]
# The generator did not learn the images by heart. Between two latent vectors lies a path of more such images:

# %%
ends = jax.random.normal(jax.random.key(2), (3, 2, params.latent.dim))
paths = jnp.concatenate([slerp(*pair, jnp.linspace(0, 1, 10)) for pair in ends])
show(decode(params, paths), columns=10)

# %% [markdown]
# ## Summary
#
# - A DCGAN is a generator of transposed convolutions and a discriminator of convolutions, with BatchNorm in both.
# - The discriminator has LeakyReLU, so that gradients reach the generator from everywhere.
# - Adam with β₁ = 0.5 keeps the two from swinging around each other.
#
# ## Exercise 1: what if the discriminator has ReLU instead of LeakyReLU?
#
# `leaky_slope=0` makes it a ReLU. Everything else stays, the seed too.

# %%
relu = dataclasses.replace(config, leaky_slope=0.0, steps=RELU_STEPS)
relu_state = fit(relu, WORKDIR / "relu")


# %%
def losses(run):
    lines = [json.loads(line) for line in (WORKDIR / run / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["step"] <= RELU_STEPS and "loss_D" in line]
    return {name: [line[name] for line in lines] for name in ("step", "loss_D", "loss_G")}


figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained", height_ratios=(1, 1.2))
for (above, below), (run, title) in zip(axes.T, {"leaky": "LeakyReLU(0.2)", "relu": "ReLU"}.items(), strict=True):
    curves = losses(run)
    above.plot(curves["step"], curves["loss_D"], label="discriminator")
    above.plot(curves["step"], curves["loss_G"], "--", label="generator")
    above.set(title=title, xlabel="step", ylabel="loss", ylim=(0, 8))
    above.grid(alpha=0.3)
    drawn = sample(restore(WORKDIR / run, step=RELU_STEPS), jax.random.key(1), 21)
    below.imshow(show(drawn, columns=7))
    below.axis("off")
above.legend()
plt.show()

# %% [markdown]
# Both columns have the same seed, noise and number of steps. With ReLU, a unit of the discriminator whose input is
# negative passes nothing back. The generator learns only from what the discriminator passes back, so it learns through
# fewer paths: about half of them in each layer. LeakyReLU keeps a fifth of the gradient there. Judge by the samples, not
# by the losses: a low loss of the generator can also mean that the discriminator is weak.
#
# ## Exercise 2: Fashion-MNIST. Which category works well, which does not?
#
# One DCGAN learns all ten categories from 32×32 grey images. It is not told which is which.

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
    found = evaluate_classes(WORKDIR / "fashion", num=FASHION_IMAGES, names=NAMES if numbered else ())
    print(f"step {found.step}, {found.n:,} samples; the classifier is right for {found.classifier['accuracy']:.1%}")
    print(found.finding)
    display(Image(filename=WORKDIR / "fashion" / "classes.png"))

# %% [markdown]
# The rows are sorted, the best category first. The first bars say how often it is drawn; a red mark is its share of the
# real images. The second say how far its samples are from the real ones: 0 is as near as other real images.
#
# This run is short, and the order of another may differ. Three longer ones (10,000 steps) agreed: trousers, sneakers and
# dresses came out best. They have one outline each. Bags came out worst and sandals mostly next, and only 7 % of the
# samples were sandals. Sandals are made of thin straps, and bags have many shapes: few pixels are the same from one to
# the next.
