"""Sources, the store and the pipeline, through the code paths a run uses."""

import hashlib
import http.server
import json
import os
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from dcgan_jax.data import sources, store
from dcgan_jax.data.pipeline import batch_indices, batches, device_batches
from dcgan_jax.system.errors import InputError
from dcgan_jax.system.files import locked
from helpers import prepared


@pytest.fixture(scope="session")
def archive(photos, tmp_path_factory):
    """The photos as a .zip, with the litter that archives come with."""
    path = tmp_path_factory.mktemp("zip") / "photos.zip"
    with zipfile.ZipFile(path, "w") as out:
        for file in sorted(photos.rglob("*.png")):
            out.write(file, f"deep/down/{file.relative_to(photos)}")
        out.writestr("__MACOSX/deep/._00.png", b"resource fork")
        out.writestr("deep/.hidden.png", b"hidden")
        out.writestr("deep/readme.txt", b"text")
    return path


def test_a_folder_and_its_zip_give_the_same_images(photos, archive, tmp_path):
    folder, zipped = prepared(photos, tmp_path), prepared(archive, tmp_path)
    assert folder.shape == zipped.shape == (12, 16, 16, 3)
    everything = range(12)
    np.testing.assert_array_equal(folder.take(everything), zipped.take(everything))
    np.testing.assert_array_equal(folder.labels, zipped.labels)
    assert folder.label_names == zipped.label_names == ("even", "odd")
    assert sorted(folder.take(everything)[:, 0, 0, 0]) == [20 * i for i in everything]


def test_a_store_is_built_once_and_again_when_its_source_changes(photos, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for i, file in enumerate(sorted(photos.rglob("*.png"))):
        (root / f"{i}.png").write_bytes(file.read_bytes())
    cache = tmp_path / "cache"
    first = prepared(root, cache)
    built = (first.path / "images.u8").stat().st_ino
    assert (prepared(root, cache).path / "images.u8").stat().st_ino == built
    assert prepared(root, cache, channels=1).shape == (12, 16, 16, 1)
    Image.new("RGB", (9, 9), "red").save(root / "more.png")
    again = prepared(root, cache)
    assert len(again) == 13 and again.path == first.path
    assert first.shape[0] == 12 and first.take([0]).shape == (1, 16, 16, 3)  # a run that still reads it
    assert sorted(p.name for p in (cache / "stores").iterdir() if "partial" in p.name) == []


def test_a_half_written_store_is_never_taken_for_a_whole_one(photos, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.json, "dumps", lambda value, **kw: killed() if kw else str(value))
        with pytest.raises(KeyboardInterrupt):
            prepared(photos, tmp_path)
    assert list((tmp_path / "stores").iterdir()) == []
    assert len(prepared(photos, tmp_path)) == 12


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "found nothing"),
        ({"a.txt": b"", "b.txt": b"", "c.csv": b"", "Makefile": b""}, "found 2 .txt, 1 .csv, 1 without an ending"),
        ({".hidden.png": b"", "__MACOSX/x.png": b""}, "found nothing"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path, files, message):
    root = tmp_path / "folder"
    root.mkdir()
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        prepared(root, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_does_not_exist_is_refused_with_the_choices(tmp_path):
    with pytest.raises(InputError, match="no such folder or file, nor one of sprites, pokemon, tfds:NAME"):
        prepared("sprite", tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="neither a folder nor a readable .zip"):
        prepared(tmp_path / "notes.txt", tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="'mauvish' is no colour"):
        prepared(tmp_path, tmp_path / "cache", background="mauvish")


def broken_folder(root, good, bad):
    root.mkdir()
    for i in range(good):
        Image.new("RGB", (8, 8), (i, i, i)).save(root / f"good{i}.png")
    whole = (root / "good0.png").read_bytes()
    for i in range(bad):
        (root / f"bad{i}.png").write_bytes((b"no picture", whole[: len(whole) // 2], b"")[i % 3])
    return root


def test_bad_files_are_skipped_counted_and_named(tmp_path, capsys):
    made = prepared(broken_folder(tmp_path / "some", good=5, bad=3), tmp_path / "cache")
    assert len(made) == 5 and made.skipped["count"] == 3
    assert [line.split()[0] for line in made.skipped["first"]] == ["bad0.png", "bad1.png", "bad2.png"]
    assert "skipped 3 of 8 files" in (said := capsys.readouterr().err) and "bad0.png" in said


def test_more_than_half_bad_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"6 of 11 files in .* could not be decoded: bad0.png"):
        prepared(broken_folder(tmp_path / "most", good=5, bad=6), tmp_path / "cache")
    assert list((tmp_path / "cache" / "stores").iterdir()) == []
    assert len(prepared(broken_folder(tmp_path / "half", good=5, bad=5), tmp_path / "cache")) == 5


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
    assert batches(prepared(photos, tmp_path), batch_size=4, seed=0).options().autotune.enabled is False


def test_the_pipeline_yields_normalised_batches_from_any_step(photos, tmp_path):
    made = prepared(photos, tmp_path)
    whole = [batch for _, batch in zip(range(8), batches(made, batch_size=5, seed=3).as_numpy_iterator())]
    for step, batch in enumerate(whole):
        assert batch.shape == (5, 16, 16, 3) and batch.dtype == np.float32
        pixels = made.take(batch_indices(step, count=12, batch_size=5, seed=3))
        np.testing.assert_allclose(batch, pixels / 127.5 - 1, atol=1e-6)
    assert min(b.min() for b in whole) == -1
    resumed = device_batches(made, batch_size=5, seed=3, start=6)
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
        stream = batches(made, batch_size=6, seed=3, part=part, parts=3).as_numpy_iterator()
        whole = batch_indices(0, count=12, batch_size=6, seed=3)
        np.testing.assert_array_equal(next(stream), take(made, whole[2 * part : 2 * part + 2]) / np.float32(127.5) - 1)
        assert all(len(indices) == 2 for indices in read)
        assert any(np.array_equal(indices, whole[2 * part : 2 * part + 2]) for indices in read)


def test_a_damaged_store_is_named_with_the_mend(photos, tmp_path):
    for damage in (
        lambda path: os.truncate(path / "images.u8", 100),
        lambda path: (path / "manifest.json").write_text('{"shape": ['),
        lambda path: np.save(path / "labels.npy", np.array([{"a": print}]), allow_pickle=True),
        lambda path: (path / "labels.npy").unlink(),
    ):
        path = prepared(photos, tmp_path).path
        damage(path)
        with pytest.raises(InputError, match=f"{path} is damaged .*: delete it, it will be built again"):
            prepared(photos, tmp_path)
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


def test_what_killed_processes_left_is_cleaned_up_and_live_ones_are_waited_for(photos, tmp_path):
    path = prepared(photos, tmp_path).path
    left = path.with_name(f"{path.name}.partial")
    path.rename(left)  # as if killed while it was being built
    made = []
    with locked(tmp_path / "locks" / f"{path.name}.lock"):
        other = threading.Thread(target=lambda: made.append(prepared(photos, tmp_path)))
        other.start()
        other.join(0.3)
        assert other.is_alive() and left.exists()
    other.join()
    assert len(made[0]) == 12 and not left.exists()


def test_no_room_in_the_cache_is_said_before_anything_is_decoded(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(InputError, match=r"stores/photos.* has 0.0 MiB free, but the decoded copy of .* needs 9.0 MiB"):
        prepared(photos, tmp_path, image_size=512)
    assert list(tmp_path.glob("stores/*")) == []


def resident_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
def test_reading_a_store_does_not_make_it_resident(tmp_path):
    folder, count, side = tmp_path / "store", 2048, 256  # 384 MiB
    folder.mkdir()
    with open(folder / "images.u8", "wb") as out:
        for i in range(count):
            out.write(np.full(side * side * 3, i % 256, np.uint8))
    np.save(folder / "labels.npy", np.zeros(count, np.int32))
    manifest = {"shape": [count, side, side, 3], "fingerprint": "", "digest": "", "labels": [""], "skipped": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    made, before, peak = store.Store(folder), resident_mib(), 0
    for start in range(0, count, 8):
        assert (made.take(range(start, start + 8))[:, 9, 9, 0] == np.arange(start, start + 8) % 256).all()
        peak = max(peak, resident_mib() - before)
    assert peak < 128


# --- the chapter's archive, from a server on loopback --------------------------------------------


class Server:
    """Serves one body; ``cut`` bytes of it are announced but never sent."""

    def __init__(self, body, cut=0, status=200):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) - cut])

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/pokemon.zip"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def pokemon(archive, monkeypatch):
    body = archive.read_bytes()
    monkeypatch.setattr(sources, "POKEMON_SHA1", hashlib.sha1(body).hexdigest())
    return lambda server: monkeypatch.setattr(sources, "POKEMON_URL", server.url), body


def test_pokemon_is_downloaded_once(pokemon, tmp_path):
    point_at, body = pokemon
    with Server(body) as server:
        point_at(server)
        assert len(prepared("pokemon", tmp_path)) == 12
    assert len(prepared("pokemon", tmp_path)) == 12  # the server is gone
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == ["pokemon.zip"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda body: body + b"x", {}, "has SHA-1 .*, not .*: the file was changed or damaged"),
        (lambda body: body, {"cut": 7}, "broke off after .* bytes: try again, or put the file at"),
        (lambda body: body, {"status": 403}, "answered 403 Forbidden: try again, or put the file at"),
    ],
)
def test_a_failed_download_says_how_and_leaves_nothing(pokemon, tmp_path, change, options, message):
    point_at, body = pokemon
    with Server(change(body), **options) as server:
        point_at(server)
        with pytest.raises(InputError, match=message):
            prepared("pokemon", tmp_path)
    assert list((tmp_path / "downloads").iterdir()) == []
    with Server(body) as server:
        point_at(server)
        assert len(prepared("pokemon", tmp_path)) == 12


def test_no_network_says_so(pokemon, tmp_path):
    point_at, body = pokemon
    with Server(body) as server:
        point_at(server)
    with pytest.raises(InputError, match="cannot be reached .*: connect to the network, or put the file at"):
        prepared("pokemon", tmp_path)


# --- tensorflow-datasets ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dots():
    """A local builder, as a user would write it."""
    import tensorflow_datasets as tfds

    class Dots(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(10, 12, 1)),
                        "label": tfds.features.ClassLabel(names=["dark", "light"]),
                    }
                )
            )

        def _split_generators(self, _):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for i in range(6):
                yield i, {"image": np.full((10, 12, 1), 50 * i, np.uint8), "label": int(i >= 3)}

    return Dots


def test_a_local_builder(dots, tmp_path):
    made = prepared("tfds:dots", tmp_path, channels=1)
    assert made.shape == (6, 16, 16, 1)
    assert sorted(made.take(range(6))[:, 5, 5, 0]) == [0, 50, 100, 150, 200, 250]
    light = [made.label_names[label] == "light" for label in made.labels]
    assert light == [value >= 150 for value in made.take(range(6))[:, 5, 5, 0]]
    assert len(prepared("tfds:dots:test[:50%]", tmp_path)) == 3
    assert len(prepared("tfds:dots:1.0.0", tmp_path)) == 6
    with pytest.raises(InputError, match="no split 'validation'; there are train, test"):
        prepared("tfds:dots:validation", tmp_path)


def test_two_starts_at_once_prepare_a_data_set_once(dots, tmp_path):
    made = []

    class Spots(dots):
        def _generate_examples(self):
            made.append(None)
            time.sleep(0.5)
            yield from super()._generate_examples()

    with ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(lambda _: sources.open_source("tfds:spots", cache=tmp_path), range(2)))
    assert [source.count for source in opened] == [6, 6] and len(made) == 2  # a train and a test split


def test_a_published_data_set(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=7):
        made = prepared("tfds:fashion_mnist:test", tmp_path)
    assert made.shape == (7, 16, 16, 3)
    assert set(made.label_names) <= {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match="no data set 'nonesuch'"):
        prepared("tfds:nonesuch", tmp_path)
    with pytest.raises(InputError, match="is not of the form tfds:NAME"):
        prepared("tfds:", tmp_path)
