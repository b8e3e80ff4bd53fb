"""The DCGAN of Radford et al. 2015, section 4, on a folder of photographs.

    python experiments/recipes/paper.py --workdir runs/paper --data PATH_OF_IMAGES

The same as ``python -m dcgan_jax.train --recipe paper``. The paper trains on bedrooms (LSUN), faces and ImageNet;
without ``--data`` the built-in sprites are used.
"""

from dcgan_jax.train import main

if __name__ == "__main__":
    main("paper", __doc__)
