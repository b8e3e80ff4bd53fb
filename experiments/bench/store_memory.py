"""Does the memory of a run grow with its data set?

    python experiments/bench/store_memory.py 200     # MB of decoded 64x64 RGB images
    python experiments/bench/store_memory.py 2000

Writes a store of that size, reads it through the tf.data pipeline for one epoch, and prints the peak
resident memory of the process and the images per second. Figures in docs/results/start-and-data.md.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dcgan_jax.config import Config
from dcgan_jax.data.pipeline import tf_batches
from dcgan_jax.data.store import Store

count = int(sys.argv[1]) * 10**6 // (64 * 64 * 3)
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    with open(folder / "images.u8", "wb") as out:
        for i in range(count):
            out.write(np.full(64 * 64 * 3, i % 256, np.uint8))
    np.save(folder / "labels.npy", np.zeros(count, np.int32))
    manifest = {"shape": [count, 64, 64, 3], "fingerprint": "", "digest": "", "labels": [""], "skipped": []}
    manifest.update(off_colour=[], copies=0, transparent=0, drawn=0, values=[])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    start = time.perf_counter()
    for _, batch in zip(range(count // 64), tf_batches(Store(folder), Config(batch_size=64)).as_numpy_iterator()):
        pass
    seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"{count:,} images: peak RSS {peak:.0f} MiB, {count / seconds:,.0f} images/s")
