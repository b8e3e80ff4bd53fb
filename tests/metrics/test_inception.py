"""With a stand-in for the FID's graph: few channels, but the same names, and the operations of its age."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dcgan_jax.metrics.inception import inception
from dcgan_jax.system.errors import InputError

KERNEL = np.random.RandomState(0).randn(3, 5).astype(np.float32)
MEAN = np.arange(5, dtype=np.float32) / 5


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """A picture's bytes -> ExpandDims -> 16 pixels -> 1x1 convolution, BatchNorm, ReLU -> pool_3 -> softmax.

    BatchNorm is the operation of the real file, which TensorFlow only takes from graphs of before 2016.
    """
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        pixels = tf.cast(tf.io.decode_jpeg(tf.constant(b"", name="DecodeJpeg/contents"), channels=3), tf.float32)
        x = tf.expand_dims(pixels, 0, name="ExpandDims")
        x = (tf.compat.v1.image.resize_bilinear(x, (16, 16)) - 128) / 128
        x = tf.nn.conv2d(x, KERNEL[None, None], 1, "SAME", name="conv")
        x = tf.nn.relu(x, name="relu")
        tf.raw_ops.AvgPool(value=x, ksize=[1, 16, 16, 1], strides=[1] * 4, padding="VALID", name="pool_3")
        tf.nn.softmax(tf.zeros((1, 5)), name="softmax")
        for name, values in {"mean": MEAN, "variance": MEAN + 1, "beta": MEAN / 2, "gamma": MEAN + 2}.items():
            tf.constant(values, name=name)
    definition = graph.as_graph_def()
    norm = definition.node.add(name="norm", op="BatchNormWithGlobalNormalization")
    norm.input.extend(["conv", "mean", "variance", "beta", "gamma"])
    norm.attr["T"].type = tf.float32.as_datatype_enum
    norm.attr["variance_epsilon"].f = 0.001
    norm.attr["scale_after_normalization"].b = True
    (relu,) = (node for node in definition.node if node.name == "relu")
    relu.input[0] = "norm"
    definition.versions.producer = 8
    file = tmp_path_factory.mktemp("inception") / "classify_image_graph_def.pb"
    file.write_bytes(definition.SerializeToString())
    return file


def expected(images):
    """Of images of 16 pixels, which are not resized."""
    pixels = np.broadcast_to(images, (*images.shape[:3], 3)) / 128 - 1
    x = (pixels @ KERNEL - MEAN) / np.sqrt(MEAN + 1.001) * (MEAN + 2) + MEAN / 2
    return np.maximum(x, 0).mean((1, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_vectors_are_pool_3_of_the_levels_from_0_to_255(graph, channels):
    images = np.random.RandomState(1).randint(0, 256, (70, 16, 16, channels), np.uint8)
    assert_allclose(inception(graph).vectors(images), expected(images), atol=1e-5)


def test_the_graph_resizes_by_itself(graph):
    images = np.random.RandomState(1).randint(0, 256, (3, 8, 8, 3), np.uint8)
    found = inception(graph).vectors(images.repeat(2, 1).repeat(2, 2))
    assert inception(graph).vectors(images).shape == found.shape == (3, 5)


@pytest.mark.parametrize("content", [b"", b"no graph at all", None])
def test_another_file_is_refused_with_a_sentence(tmp_path, content):
    file = tmp_path / "graph.pb"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match="classify_image_graph_def.pb|No such file") as error:
        inception(file)
    assert "\n" not in str(error.value)
