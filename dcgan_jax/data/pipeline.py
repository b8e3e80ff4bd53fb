"""Batches as a pure function of (seed, step), with tf.data, or with NumPy in threads, which needs no TensorFlow.

The images are read in the order of one endless stream: a permutation of the whole set, then a new
one, and so on. Batch ``step`` is the part [step·B, (step + 1)·B) of it. So every image appears
exactly once in each epoch, the rest of one epoch goes into the first batch of the next, and resuming
needs only the step.

With balanced classes the stream is one of rounds: in each round every class comes once, in a random order, with the
next image of an endless stream of its own, which is made as that of the whole set is.
"""

import atexit
import concurrent.futures
import contextlib
import functools
import importlib.util
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dcgan_jax.config import Config
from dcgan_jax.data.split import held_out
from dcgan_jax.data.store import Store
from dcgan_jax.gan.step import Batch
from dcgan_jax.system.errors import InputError, first_line

if TYPE_CHECKING:
    import tensorflow as tf


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def batch_indices(step: int, *, count: int, batch_size: int, seed: int) -> np.ndarray:
    """The images of batch ``step`` (from 0): (batch_size,) indices below ``count``."""
    position = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(position, count)
    parts = [_permutation(seed, int(e), count)[offsets[epochs == e]] for e in np.unique(epochs)]
    return np.concatenate(parts)


class _Balanced:
    """``batch_indices`` with each class equally often; a label (N,) says which class an image is of."""

    def __init__(self, labels: np.ndarray):
        self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def __call__(self, step: int, *, batch_size: int, seed: int) -> np.ndarray:
        places = range(step * batch_size, (step + 1) * batch_size)
        return np.array([self._at(place, seed) for place in places])

    def _at(self, place, seed):
        turn, i = divmod(place, len(self._members))
        label = _order((seed, 0, turn), len(self._members))[i]
        epoch, i = divmod(turn, len(self._members[label]))
        return self._members[label][_order((seed, 1, int(label), epoch), len(self._members[label]))[i]]


@functools.lru_cache(maxsize=1 << 14)
def _order(seed: tuple[int, ...], count: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


def _order_of(store: Store, config: Config, part: int, parts: int) -> tuple[np.ndarray, Callable[[int], np.ndarray]]:
    """The indices of all images to train on; and from the number of a batch to those of them in its ``part``, as places
    among them."""
    train = held_out(store, config.held_out, conditional=config.conditional)[0]
    size, options = config.batch_size // parts, {"batch_size": config.batch_size, "seed": config.seed}
    if config.class_sampling == "balanced":
        indices = _Balanced(store.labels[train])
    else:
        indices = functools.partial(batch_indices, count=len(train))
    return train, lambda step: indices(int(step), **options)[part * size : (part + 1) * size]


def feeder(config: Config) -> Literal["tf", "numpy"]:
    """What reads the images: ``config.input``, or for ``auto`` what there is.

    Raises:
      InputError: ``config`` asks for tf, and TensorFlow is not installed.
    """
    installed = importlib.util.find_spec("tensorflow") is not None
    if config.input == "tf" and not installed:
        raise InputError("--input tf needs TensorFlow: python -m pip install tensorflow, or --input auto")
    return config.input if config.input != "auto" else "tf" if installed else "numpy"


def tf_batches(store: Store, config: Config, *, start: int = 0, part: int = 0, parts: int = 1) -> "tf.data.Dataset":
    """The endless data set of batches from step ``start`` on: uint8 or uint16 (batch_size / parts, H, W, C), of a
    conditional run pairs of these and labels, int32.

    Each batch is cut into ``parts``, and only number ``part`` of them is read. Those held out are never read.
    """
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the accelerator's memory belongs to JAX
    size, read = config.batch_size // parts, _reader(store, config, part, parts)

    @tf.autograph.experimental.do_not_convert  # it would write a file, which a killed run leaves behind
    def load(step):
        of_images = tf.as_dtype(store.type)
        types = (of_images, tf.int32) if config.conditional else of_images
        batch = tf.numpy_function(read, [step], types, stateful=False)
        pixels = tf.ensure_shape(batch[0] if config.conditional else batch, (size, *store.shape[1:]))
        return (pixels, tf.ensure_shape(batch[1], (size,))) if config.conditional else pixels

    options = tf.data.Options()
    # There is nothing to tune here, and its thread can delay the end by a minute.
    options.autotune.enabled = False
    steps = tf.data.Dataset.counter(start=start)
    return steps.map(load, num_parallel_calls=2, deterministic=True).prefetch(2).with_options(options)


def threaded_batches(store: Store, config: Config, *, start: int = 0, part: int = 0, parts: int = 1) -> Generator[Any]:
    """The same as ``tf_batches``, without TensorFlow: two threads read, two batches ahead."""
    read = _reader(store, config, part, parts)
    with concurrent.futures.ThreadPoolExecutor(2, "batches") as threads:
        waiting = deque(threads.submit(read, step) for step in range(start, start + 2))
        for step in itertools.count(start + 2):
            waiting.append(threads.submit(read, step))
            yield waiting.popleft().result()


def _reader(store: Store, config: Config, part: int, parts: int) -> Callable[[int], Any]:
    train, places = _order_of(store, config, part, parts)

    def read(step):
        indices = train[places(step)]
        return (store.take(indices), store.labels[indices]) if config.conditional else store.take(indices)

    return read


def batches(store: Store, config: Config, *, start: int = 0, sharding: NamedSharding | None = None) -> Iterator[Any]:
    """The endless stream of batches on the device, two of them on their way there at any time.

    Batch ``i`` depends only on the images, ``config.seed`` and ``i``: to resume is to start at another number.

    Args:
      store: what ``open_store(config)`` returns.
      config: its ``batch_size``, ``seed``, ``held_out`` (images that are never in a batch), ``input``, and
        ``device_data``: with it the same batches are taken on the device, from a copy of all images there.
      start: the number of the first batch, from 0.
      sharding: of all devices: then each process reads its part of a batch, and each array is the whole batch.

    Yields:
      uint8 or uint16 (batch_size, H, W, C), for ``train_step`` or ``from_pixels``; of a
      conditional run pairs (images, labels), labels int32 (batch_size,).

    Raises:
      InputError: TensorFlow is asked for and not installed, or the images cannot be read any more.
    """
    parts = {"part": jax.process_index(), "parts": jax.process_count()} if sharding else {}
    if config.device_data:
        yield from _resident_batches(store, config, start, sharding, **parts)
    if feeder(config) == "tf":
        source = _tf_once_imported(store, config, start, **parts)
    else:
        source = threaded_batches(store, config, start=start, **parts)
    queue = deque(_put(batch, sharding) for batch in itertools.islice(source, 2))
    for batch in source:
        yield queue.popleft()
        queue.append(_put(batch, sharding))


def _resident_batches(store, config, start, sharding, part=0, parts=1):
    train, places = _order_of(store, config, part, parts)
    whole = NamedSharding(sharding.mesh, PartitionSpec()) if sharding else None
    images = _put(store.take(train), whole)
    gather = jax.jit(lambda images, indices: images.at[indices].get(mode="promise_in_bounds"), out_shardings=sharding)
    for step in itertools.count(start):
        indices = places(step)
        batch = gather(images, _put(indices.astype(np.int32), sharding))
        yield Batch(batch, _put(store.labels[train[indices]], sharding)) if config.conditional else batch


def _tf_once_imported(store, config, start, part=0, parts=1):
    """``tf_batches``, and while TensorFlow is being imported, which takes seconds, the same from NumPy."""
    with concurrent.futures.ThreadPoolExecutor(1, "import") as thread:
        importing = thread.submit(importlib.import_module, "tensorflow")
        with contextlib.closing(threaded_batches(store, config, start=start, part=part, parts=parts)) as early:
            while not importing.done():
                yield next(early)
                start += 1
        importing.result()
    dataset = tf_batches(store, config, start=start, part=part, parts=parts)
    yield from _read(dataset, store)


def _put(batch: Any, sharding: NamedSharding | None) -> Any:
    """Send an array to the device; of a pair both."""
    if isinstance(batch, tuple):
        return Batch(*(_put(array, sharding) for array in batch))
    return jax.make_array_from_process_local_data(sharding, batch) if sharding else jax.device_put(batch)


def _read(dataset, store):
    """
    Raises:
      InputError: the store cannot be read any more, of which TensorFlow makes an error of its own.
    """
    import tensorflow as tf

    # Looked up now: the end of a script empties the modules before it closes this.
    refused, forget = tf.errors.OpError, atexit.unregister
    # Given up while Python still runs: the end of the iterator waits for threads that call Python.
    iterator = [dataset.as_numpy_iterator()]
    atexit.register(iterator.clear)
    try:
        while True:
            yield next(iterator[0])
    except refused as error:
        problem = f"{store.path} cannot be read any more ({first_line(error)})"
        raise InputError(f"{problem}: run the same command again") from error
    finally:
        forget(iterator.clear)
