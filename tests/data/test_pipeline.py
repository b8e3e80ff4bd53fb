"""Batches follow from the seed and the step."""

import importlib.util
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import prepared, python

from dcgan_jax.config import Config
from dcgan_jax.data.pipeline import batch_indices, batches, tf_batches, threaded_batches
from dcgan_jax.data.split import held_out
from dcgan_jax.run.fit import fit
from dcgan_jax.system.errors import InputError

with_tensorflow = pytest.mark.skipif(not importlib.util.find_spec("tensorflow"), reason="TensorFlow is not installed")


def test_every_image_once_in_each_epoch_and_batches_follow_from_seed_and_step():
    count, size = 10, 4
    stream = np.concatenate([batch_indices(s, count=count, batch_size=size, seed=1) for s in range(10)])
    for epoch in stream.reshape(-1, count):
        assert sorted(epoch) == list(range(count))
    assert not np.array_equal(stream[:count], stream[count : 2 * count])
    np.testing.assert_array_equal(batch_indices(7, count=count, batch_size=size, seed=1), stream[28:32])
    assert not np.array_equal(batch_indices(7, count=count, batch_size=size, seed=2), stream[28:32])


@with_tensorflow
def test_no_thread_of_the_pipeline_holds_up_the_end(photos, tmp_path):
    """Autotuning's does, until it looks up again: ever more seldom, at last once a minute."""
    assert tf_batches(prepared(photos, tmp_path), Config(batch_size=4)).options().autotune.enabled is False


@with_tensorflow
@pytest.mark.parametrize("device_data", [False, True])
def test_the_pipeline_yields_batches_from_any_step(photos, tmp_path, device_data):
    made, config = prepared(photos, tmp_path), Config(batch_size=5, seed=3, device_data=device_data)
    whole = [batch for _, batch in zip(range(8), tf_batches(made, config).as_numpy_iterator())]
    for step, batch in enumerate(whole):
        assert batch.shape == (5, 16, 16, 3) and batch.dtype == np.uint8
        pixels = made.take(batch_indices(step, count=12, batch_size=5, seed=3))
        np.testing.assert_array_equal(batch, pixels)
    resumed = batches(made, config, start=6)
    for step in (6, 7):
        batch = next(resumed)
        assert isinstance(batch, jax.Array) and batch.dtype == np.uint8
        np.testing.assert_array_equal(batch, whole[step])


@with_tensorflow
@pytest.mark.slow
def test_a_script_ends_in_silence_with_its_batches_still_open(photos):
    code = """
import itertools, sys, tensorflow
from dcgan_jax import Config, batches, open_store

config = Config(data=sys.argv[1], image_size=64, batch_size=512, input="tf")
store = open_store(config)
images = batches(store, config)
for _ in range(6):
    next(images)
"""
    done = python("-c", code, photos)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr


@with_tensorflow
@pytest.mark.slow
def test_batches_come_while_tensorflow_is_being_imported_and_are_the_same(photos):
    code = """
import sys, time
import numpy as np
from dcgan_jax import Config
from dcgan_jax.data.pipeline import batch_indices, batches
from dcgan_jax.data.store import open_store

config = Config(data=sys.argv[1], image_size=16, batch_size=5, seed=3, input="tf")
store = open_store(config)
sources = []
for step, batch in enumerate(batches(store, config, start=4), 4):
    np.testing.assert_array_equal(batch, store.take(batch_indices(step, count=12, batch_size=5, seed=3)))
    sources.append(hasattr(sys.modules.get("tensorflow"), "__version__"))
    if sum(sources) == 20:
        break
    time.sleep(0.02)
print(sources[0], sources[-1])
"""
    done = python("-c", code, photos)
    assert done.stdout == "False True\n", done.stderr


@with_tensorflow
def test_the_batches_are_the_same_without_tensorflow(photos, tmp_path):
    made, config = prepared(photos, tmp_path), Config(batch_size=6, seed=3)
    for options in ({}, {"start": 5}, {"part": 1, "parts": 3}):
        ours, theirs = (
            threaded_batches(made, config, **options),
            tf_batches(made, config, **options).as_numpy_iterator(),
        )
        for _ in range(6):
            np.testing.assert_array_equal(next(ours), next(theirs), strict=True)
        ours.close()


@with_tensorflow
def test_each_process_reads_only_its_part_of_a_batch(photos, tmp_path, monkeypatch):
    made, read = prepared(photos, tmp_path), []
    take = type(made).take
    monkeypatch.setattr(type(made), "take", lambda self, indices: (read.append(indices), take(self, indices))[1])
    for part in (0, 1, 2):
        read.clear()
        stream = tf_batches(made, Config(batch_size=6, seed=3), part=part, parts=3).as_numpy_iterator()
        whole = batch_indices(0, count=12, batch_size=6, seed=3)
        np.testing.assert_array_equal(next(stream), take(made, whole[2 * part : 2 * part + 2]))
        assert all(len(indices) == 2 for indices in read)
        assert any(np.array_equal(indices, whole[2 * part : 2 * part + 2]) for indices in read)


@pytest.mark.parametrize("device_data", [False, True])
def test_images_that_are_held_out_are_never_in_a_batch(tmp_path, device_data):
    store = Numbered(tmp_path)
    config = Config(batch_size=608, held_out=32, device_data=device_data)
    batch = np.asarray(next(batches(store, config)))  # one epoch
    kept = held_out(store, 32)[1]
    assert sorted(batch.reshape(608, -1).view("<u4")[:, 0]) == sorted(set(range(640)) - set(kept))


@pytest.mark.parametrize("device_data", [False, True])
def test_labels_are_those_of_the_images_where_some_are_held_out(tmp_path, device_data):
    store = Numbered(tmp_path)
    store.labels = np.arange(640, dtype=np.int32) % 3
    config = Config(batch_size=60, held_out=32, device_data=device_data, input="numpy", conditional=True)
    images, labels = jax.device_get(next(batches(store, config)))
    np.testing.assert_array_equal(images.reshape(60, -1).view("<u4")[:, 0] % 3, labels)


class Numbered:
    """640 images of 2x2x1 whose bytes are their number."""

    def __init__(self, path):
        self.path, self.shape, self.labels = path, (640, 2, 2, 1), np.zeros(640, int)
        self.type = "uint8"

    def __len__(self):
        return 640

    def take(self, indices):
        return np.asarray(indices, "<u4").view(np.uint8).reshape(-1, 2, 2, 1)


@pytest.mark.parametrize("input", [pytest.param("tf", marks=with_tensorflow), "numpy"])
def test_images_that_cannot_be_read_any_more_end_in_one_line(photos, tmp_path, input):
    """A file that answers like a broken disk takes the place of the images."""
    made = prepared(photos, tmp_path)
    opened = {os.path.realpath(link): int(link.name) for link in Path("/proc/self/fd").iterdir()}
    with open("/proc/self/mem", "rb") as broken:
        os.dup2(broken.fileno(), opened[os.path.realpath(made.path / "images.u8")])
    with pytest.raises(InputError, match=r"cannot .*read.* Input/output error .*run the same command again") as error:
        next(batches(made, Config(batch_size=4, input=input)))
    assert "\n" not in str(error.value)


def test_images_that_do_not_fit_on_the_device_are_refused(photos, tmp_path, monkeypatch):
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 12 * 16 * 16 * 3 * 2 - 2}

        def __repr__(self):
            return "CudaDevice(id=0)"

    monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
    config = Config(data=str(photos), image_size=16, batch_size=4, steps=1, device_data=True)
    with pytest.raises(InputError, match=r"do not fit .* CudaDevice\(id=0\): give --no-device-data"):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()
