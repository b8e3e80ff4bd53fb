"""Batches follow from the seed and the step."""

import jax
import numpy as np
from helpers import prepared

from dcgan_jax.config import Config
from dcgan_jax.data.pipeline import batch_indices, batches, device_batches


def test_every_image_once_in_each_epoch_and_batches_follow_from_seed_and_step():
    count, size = 10, 4
    stream = np.concatenate([batch_indices(s, count=count, batch_size=size, seed=1) for s in range(10)])
    for epoch in stream.reshape(-1, count):
        assert sorted(epoch) == list(range(count))
    assert not np.array_equal(stream[:count], stream[count : 2 * count])
    np.testing.assert_array_equal(batch_indices(7, count=count, batch_size=size, seed=1), stream[28:32])
    assert not np.array_equal(batch_indices(7, count=count, batch_size=size, seed=2), stream[28:32])


def test_no_thread_of_the_pipeline_holds_up_the_end(photos, tmp_path):
    """Autotuning's does, until it looks up again: ever more seldom, at last once a minute."""
    assert batches(prepared(photos, tmp_path), Config(batch_size=4)).options().autotune.enabled is False


def test_the_pipeline_yields_normalised_batches_from_any_step(photos, tmp_path):
    made, config = prepared(photos, tmp_path), Config(batch_size=5, seed=3)
    whole = [batch for _, batch in zip(range(8), batches(made, config).as_numpy_iterator())]
    for step, batch in enumerate(whole):
        assert batch.shape == (5, 16, 16, 3) and batch.dtype == np.float32
        pixels = made.take(batch_indices(step, count=12, batch_size=5, seed=3))
        np.testing.assert_allclose(batch, pixels / 127.5 - 1, atol=1e-6)
    assert min(b.min() for b in whole) == -1
    resumed = device_batches(made, config, start=6)
    for step in (6, 7):
        batch = next(resumed)
        assert isinstance(batch, jax.Array)
        np.testing.assert_array_equal(batch, whole[step])


def test_each_process_reads_only_its_part_of_a_batch(photos, tmp_path, monkeypatch):
    made, read = prepared(photos, tmp_path), []
    take = type(made).take
    monkeypatch.setattr(type(made), "take", lambda self, indices: (read.append(indices), take(self, indices))[1])
    for part in (0, 1, 2):
        read.clear()
        stream = batches(made, Config(batch_size=6, seed=3), part=part, parts=3).as_numpy_iterator()
        whole = batch_indices(0, count=12, batch_size=6, seed=3)
        np.testing.assert_array_equal(next(stream), take(made, whole[2 * part : 2 * part + 2]) / np.float32(127.5) - 1)
        assert all(len(indices) == 2 for indices in read)
        assert any(np.array_equal(indices, whole[2 * part : 2 * part + 2]) for indices in read)
