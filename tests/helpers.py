"""What several test files share."""

import jax
import numpy as np

from dcgan_jax.data import sources, store


def prepared(data, cache, **changes):
    """The store of what ``Config.data`` may name, 16x16 RGB unless changed."""
    settings = {"image_size": 16, "channels": 3, "background": "white", **changes}
    return store.prepare(sources.open_source(str(data), cache=cache), cache=cache, **settings)


def equal(a, b):
    """Whether two trees hold the same arrays, bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))
