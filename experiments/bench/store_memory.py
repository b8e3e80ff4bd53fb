"""Does the memory of a run grow with its data set?

    python experiments/bench/store_memory.py                      # all kinds of sets, 2,000 and 20,000 pictures
    python experiments/bench/store_memory.py parquet 5000 50000   # one of them, with other numbers
    python experiments/bench/store_memory.py batches 16000 160000

Writes a set of pictures of noise, 32x32 RGB, and opens it as a run does: its pictures are decoded into a store of a new
cache folder. ``batches`` writes such a store itself, of 64x64 RGB images, and reads it through the tf.data pipeline for
one epoch. Prints the peak resident memory of the process that did that alone, and images per second. Figures in
docs/results/start-and-data.md: 20 minutes at nice 5 on two cores that some ten other processes wanted.
"""

import functools
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32


IMAGES = np.random.default_rng(0).integers(0, 256, (500, SIDE, SIDE, 3), np.uint8)


def image(i):
    return IMAGES[i % len(IMAGES)]


@functools.cache
def _png(i):
    out = io.BytesIO()
    Image.fromarray(image(i)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def png(i):
    return _png(i % len(IMAGES))


def folder(place, count):
    place.mkdir()
    for i in range(count):
        (place / f"{i:06d}.png").write_bytes(png(i))


def zipped(place, count):
    with zipfile.ZipFile(place, "w") as archive:
        for i in range(count):
            archive.writestr(f"{i:06d}.png", png(i))


def tar(place, count):
    with tarfile.open(place, "w:gz" if place.suffix == ".gz" else "w") as archive:
        for i in range(count):
            content = {"png": png(i), "cls": b"%d" % (i % 10)}
            for ending, part in content.items():
                info = tarfile.TarInfo(f"{i:06d}.{ending}")
                info.size = len(part)
                archive.addfile(info, io.BytesIO(part))


def parquet(place, count):
    """In one group of rows, which is what pyarrow writes by default."""
    import pyarrow as pa
    import pyarrow.parquet

    cells = [{"bytes": png(i), "path": None} for i in range(count)]
    pa.parquet.write_table(pa.table({"image": cells, "label": [i % 10 for i in range(count)]}), place)


def saved(place, count):
    """What ``datasets`` of Hugging Face saves."""
    import datasets

    def rows(count):
        for i in range(count):
            yield {"image": {"bytes": png(i), "path": None}, "label": i % 10}

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(10)})
    with tempfile.TemporaryDirectory() as cache:
        data = datasets.Dataset.from_generator(rows, features, cache, gen_kwargs={"count": count})
        data.save_to_disk(str(place))


def npy(place, count):
    values = np.lib.format.open_memmap(place, "w+", np.uint8, (count, SIDE, SIDE, 3))
    for i in range(count):
        values[i] = image(i)


def npz(place, count):
    np.savez_compressed(place, images=np.stack([image(i) for i in range(count)]), labels=np.arange(count) % 10)


def hdf5(place, count):
    import h5py

    with h5py.File(place, "w") as file:
        chunks = (100, SIDE, SIDE, 3)
        values = file.create_dataset("images", (count, *chunks[1:]), np.uint8, chunks=chunks, compression="gzip")
        for i in range(0, count, 100):
            values[i : i + 100] = [image(j) for j in range(i, min(i + 100, count))]
        file["labels"] = np.arange(count) % 10


def store(place, count):
    place.mkdir()
    with open(place / "images.u8", "wb") as out:
        for i in range(count):
            out.write(np.full(64 * 64 * 3, i % 256, np.uint8))
    np.save(place / "labels.npy", np.zeros(count, np.int32))
    manifest = {"shape": [count, 64, 64, 3], "fingerprint": "", "digest": "", "labels": [""], "skipped": []}
    manifest.update(off_colour=[], copies=0, transparent=0, drawn=0, several=0, values=[], type="uint8")
    manifest["scale"] = {"type": "uint8", "low": 0.0, "high": 255.0, "channels": 3}
    (place / "manifest.json").write_text(json.dumps(manifest))


KINDS = {
    "folder": (folder, "set"),
    "zip": (zipped, "set.zip"),
    "tar": (tar, "set.tar"),
    "tar.gz": (tar, "set.tar.gz"),
    "parquet": (parquet, "set.parquet"),
    "hf:FOLDER": (saved, "hf:set"),
    "npy": (npy, "set.npy"),
    "npz": (npz, "set.npz"),
    "h5": (hdf5, "set.h5"),
    "batches": (store, "store"),
}


def opened(data, count):
    """Open a set as a run does, from the folder that it lies in; the seconds that took."""
    from dcgan_jax.config import Config
    from dcgan_jax.data.pipeline import tf_batches
    from dcgan_jax.data.store import Store, open_store

    start = time.perf_counter()
    if data == "store":
        batches = tf_batches(Store(Path(data)), Config(batch_size=64)).as_numpy_iterator()
        for _ in zip(range(count // 64), batches):
            pass
    else:
        assert len(open_store(Config(data=data, image_size=SIDE), cache=Path("cache"))) == count
    return time.perf_counter() - start


def in_a_process(task, kind, count, place):
    """Run a task of this file in a process of its own."""
    command = [sys.executable, __file__, task, kind, str(count)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def main(task, *more):
    if task in ("make", "open"):
        write, data = KINDS[more[0]]
        count = int(more[1])
        if task == "make":
            write(Path(data.removeprefix("hf:")), count)
            return
        seconds = opened(data, count)
        # Not by getrusage, which begins with the memory of the process that started this one.
        (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
        print(f"peak RSS {int(peak) / 1024:.0f} MiB, {count / seconds:,.0f} images/s")
        return
    for kind in [task] if task in KINDS else KINDS:
        for count in map(int, more or ("2000", "20000")):
            with tempfile.TemporaryDirectory() as place:
                in_a_process("make", kind, count, place)
                print(f"{kind}, {count:,} images: {in_a_process('open', kind, count, place)}", flush=True)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["all"]))
