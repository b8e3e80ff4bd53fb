"""Against numbers that PyTorch computed with the same weights (golden/make_golden.py)."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dcgan_jax.metrics.imagenet import NETWORK, imagenet

GOLDEN = np.load(Path(__file__).parent / "golden" / "imagenet.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def features():
    return imagenet()


@pytest.mark.parametrize("name", ["square", "wide", "gray", "noise", "large"])
def test_features_are_those_of_pytorch(features, name):
    found = features.vectors(GOLDEN[f"{name}/images"])
    assert found.dtype == np.float32
    assert_allclose(found, GOLDEN[f"{name}/features"], atol=1e-4)
    assert not {"torch", NETWORK.package} & set(sys.modules)
