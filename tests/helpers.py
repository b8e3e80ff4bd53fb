"""What several test files share."""

import jax
import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data import sources, store
from dcgan_jax.run.folder import RunFolder


def prepared(data, cache, **changes):
    """The store of what ``Config.data`` may name, 16x16 RGB unless changed."""
    config = Config(**{"data": str(data), "image_size": 16, **changes})
    return store.prepare(sources.open_source(config, cache), config, cache)


def metrics_of(workdir):
    """The lines of a run's metrics.jsonl."""
    return RunFolder(workdir).read_metrics()


def equal(a, b):
    """Whether two trees hold the same arrays, bit for bit."""
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))
