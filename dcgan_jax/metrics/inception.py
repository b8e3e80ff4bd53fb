"""The features of the FID: the original Inception network, a graph of TensorFlow, from a file that the user has."""

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from dcgan_jax.metrics.features import FeatureSet, of_images
from dcgan_jax.system.disk import reading, user_path
from dcgan_jax.system.errors import InputError, first_line
from dcgan_jax.system.files import read_bytes

INPUT, OUTPUT = "ExpandDims", "pool_3"
"""The tensors of the graph: float32 (N, H, W, 3) from 0 to 255, which it resizes itself, and (N, 1, 1, 2048)."""


def inception(file: Path) -> FeatureSet:
    """What the graph ``classify_image_graph_def.pb`` of Heusel et al. 2017 says of images: (N, 2048).

    Raises:
      InputError: TensorFlow is not installed, or the file cannot be read, or is no graph with these tensors.
    """
    if not importlib.util.find_spec("tensorflow"):
        raise InputError("--inception needs TensorFlow: python -m pip install tensorflow, or leave it out")
    file = user_path(file)
    with reading(file):
        content = read_bytes(file, most=1 << 30)

    import tensorflow as tf
    from google.protobuf.message import DecodeError

    tf.config.set_visible_devices([], "GPU")  # the accelerator's memory belongs to JAX
    graph, definition = tf.Graph(), tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(content)
        definition = tf.compat.v1.graph_util.extract_sub_graph(definition, [OUTPUT])
        with graph.as_default():
            images = tf.compat.v1.placeholder(tf.float32, (None, None, None, 3))
            (output,) = tf.import_graph_def(definition, {f"{INPUT}:0": images}, [f"{OUTPUT}:0"], name="")
    except (DecodeError, AssertionError, ValueError) as error:
        raise InputError(
            f"{file} is no graph from {INPUT}:0 to {OUTPUT}:0 ({first_line(error)}): --inception wants "
            "classify_image_graph_def.pb"
        ) from None
    session = tf.compat.v1.Session(graph=graph)

    def apply(chunk):
        chunk = np.broadcast_to(chunk, (*chunk.shape[:3], 3)).astype(np.float32)
        return session.run(output, {images: chunk}).reshape(len(chunk), -1)

    digest = hashlib.sha256(hashlib.sha256(content).digest() + Path(__file__).read_bytes()).digest()
    return FeatureSet("Inception", functools.partial(of_images, apply), digest)
