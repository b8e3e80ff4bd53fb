"""The DCGAN of Radford et al. 2015, section 4, on a folder of photographs.

    python experiments/recipes/paper.py --workdir runs/paper --data PATH_OF_IMAGES

z uniform on [-1, 1], batch 128, Adam with learning rate 2e-4 and beta1 0.5, kernels N(0, 0.02), BatchNorm
scales N(1, 0.02), no BatchNorm in the discriminator's first block, LeakyReLU 0.2. The paper trains on
bedrooms (LSUN), faces and ImageNet; without ``--data`` the built-in sprites are used. Flags of
``dcgan_jax.train`` override these values.
"""

from dcgan_jax.config import Config
from dcgan_jax.train import main

CONFIG = Config(
    latent="uniform",
    batch_size=128,
    learning_rate=2e-4,
    beta1=0.5,
    leaky_slope=0.2,
    first_batchnorm=False,
    batchnorm_scale_mean=1.0,
    steps=25_000,
    sample_every=500,
    checkpoint_every=1000,
)

if __name__ == "__main__":
    main(CONFIG, __doc__)
