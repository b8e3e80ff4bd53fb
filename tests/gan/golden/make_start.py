"""Record the weights that a run starts with, for tests/gan/test_networks.py.

    python tests/gan/golden/make_start.py

Was run with version 0.2.0, whose initialisers are those of Flax; writes start.npz beside itself.
"""

from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from dcgan_jax import Config, create_state

golden = {"jax": np.array(jax.__version__)}
for norm in ("batch", "spectral"):
    config = Config(image_size=16, width=4, latent_dim=8, discriminator_norm=norm, extra_convs=1)
    for name, network in create_state(config).networks.items():
        for path, leaf in flatten_dict(network.params, sep="/").items():
            golden[f"{norm}/{name}/{path}"] = np.asarray(leaf)
np.savez_compressed(Path(__file__).with_name("start.npz"), **golden)
