"""The DCGAN chapter of Dive into Deep Learning, with its data and its numbers (PyTorch tab).

    python experiments/recipes/chapter.py --workdir runs/d2l

40,597 Pokémon sprites, batch 256, learning rate 0.005, 20 epochs (3,171 steps), N(0, 0.02) for every
weight, BatchNorm's scales included, BatchNorm in the discriminator's first block too. The first start
downloads the archive. Flags of ``dcgan_jax.train`` override these values.
"""

from dcgan_jax.config import Config
from dcgan_jax.train import main

IMAGES, EPOCHS, BATCH = 40_597, 20, 256

CONFIG = Config(
    data="pokemon",
    resize="squash",
    batch_size=BATCH,
    steps=IMAGES * EPOCHS // BATCH,
    learning_rate=0.005,
    batchnorm_scale_mean=0.0,
    first_batchnorm=True,
    sample_every=IMAGES // BATCH,
)

if __name__ == "__main__":
    main(CONFIG, __doc__)
