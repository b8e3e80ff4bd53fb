"""The DCGAN chapter of Dive into Deep Learning, with its data and its numbers (PyTorch tab).

    python experiments/recipes/chapter.py --workdir runs/d2l

The same as ``python -m dcgan_jax.train --recipe chapter --workdir runs/d2l``. The first start downloads the archive.
"""

from dcgan_jax.train import main

if __name__ == "__main__":
    main("chapter", __doc__)
