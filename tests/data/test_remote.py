"""Downloads, from a server on loopback, and data sets of tensorflow-datasets."""

import hashlib
import http.server
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import prepared

from dcgan_jax.config import Config
from dcgan_jax.data import remote, sources
from dcgan_jax.data.sources import POKEMON_URLS
from dcgan_jax.system.errors import InputError


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
    return lambda server: monkeypatch.setattr(sources, "POKEMON_URLS", [server.url]), body


def test_pokemon_is_downloaded_once(pokemon, tmp_path):
    point_at, body = pokemon
    with Server(body) as server:
        point_at(server)
        assert len(prepared("pokemon", tmp_path)) == 12
    assert len(prepared("pokemon", tmp_path)) == 12  # the server is gone
    assert sorted(p.name for p in (tmp_path / "downloads").iterdir()) == ["pokemon.zip", "pokemon.zip.sha256"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda body: body + b"x", {}, "has SHA-1 .*, not .*: try again, or put the file at"),
        (lambda body: body, {"cut": 7}, "could not be downloaded .*: try again, or put the file at"),
        (
            lambda body: body,
            {"status": 403},
            "could not be downloaded .403 .*Forbidden.*: try again, or put the file at",
        ),
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
    with pytest.raises(InputError, match="could not be downloaded .*: try again, or put the file at") as said:
        prepared("pokemon", tmp_path)
    Path(re.search("put the file at (.*) yourself", str(said.value))[1]).write_bytes(body)
    assert len(prepared("pokemon", tmp_path)) == 12


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
                ),
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


def test_two_starts_at_once_prepare_a_data_set_once(dots, tmp_path, monkeypatch):
    made, came, locked = [], [], remote.locked
    monkeypatch.setattr(remote, "locked", lambda path: (came.append(path), locked(path))[1])

    class Spots(dots):
        def _generate_examples(self):
            made.append(None)
            while len(came) < 2:  # the other start is there, too
                time.sleep(0.001)
            yield from super()._generate_examples()

    with ThreadPoolExecutor(2) as pool:
        opened = list(pool.map(lambda _: sources.open_source(Config(data="tfds:spots"), tmp_path), range(2)))
    assert [source.count for source in opened] == [6, 6] and len(made) == 2  # a train and a test split


def test_a_published_data_set(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.image_classification.FashionMNIST, "url_infos", None)  # nothing is asked for
    with tfds.testing.mock_data(num_examples=7):
        made = prepared("tfds:fashion_mnist:test", tmp_path)
    assert made.shape == (7, 16, 16, 3)
    assert set(made.label_names) <= {
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    }


def test_an_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match="no data set 'nonesuch'"):
        prepared("tfds:nonesuch", tmp_path)
    with pytest.raises(InputError, match="is not of the form tfds:NAME"):
        prepared("tfds:", tmp_path)


def test_a_wrong_file_put_there_by_hand_is_refused(pokemon, tmp_path):
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "pokemon.zip").write_bytes(pokemon[1][:-1])
    with pytest.raises(InputError, match="pokemon.zip has SHA-1 .*, or was changed: delete it and "):
        prepared("pokemon", tmp_path)


def test_a_file_that_was_changed_after_it_was_verified_is_refused(pokemon, tmp_path, monkeypatch):
    """By the SHA-256 that was learned then, whatever its SHA-1 says."""
    point_at, body = pokemon
    with Server(body) as server:
        point_at(server)
        prepared("pokemon", tmp_path)
    forged = body + b"\0"
    (tmp_path / "downloads" / "pokemon.zip").write_bytes(forged)
    monkeypatch.setattr(sources, "POKEMON_SHA1", hashlib.sha1(forged).hexdigest())
    with pytest.raises(InputError, match="or was changed: delete it and .*sha256") as said:
        prepared("pokemon", tmp_path)
    (tmp_path / "downloads" / "pokemon.zip").unlink()
    Path(str(said.value).partition("delete it and ")[2]).unlink()
    monkeypatch.setattr(sources, "POKEMON_SHA1", hashlib.sha1(body).hexdigest())
    with Server(body) as server:
        point_at(server)
        assert len(prepared("pokemon", tmp_path)) == 12


def test_the_next_address_is_tried(pokemon, tmp_path, monkeypatch):
    with Server(pokemon[1], status=404) as broken, Server(pokemon[1]) as server:
        monkeypatch.setattr(sources, "POKEMON_URLS", [broken.url, server.url])
        assert len(prepared("pokemon", tmp_path)) == 12
    assert [url.split("://")[0] for url in POKEMON_URLS] == ["https", "http"]


def test_a_data_set_of_which_nothing_answers_is_refused_at_once(tmp_path, monkeypatch, capfd):
    import tensorflow_datasets as tfds

    with Server(b"") as server:
        pass
    asked = []
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setattr(tfds.image_classification.FashionMNIST, "url_infos", {server.url: None})
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda self: asked.append(self))
    with pytest.raises(InputError, match="tfds:fashion_mnist cannot be downloaded: connect to the network"):
        prepared("tfds:fashion_mnist", tmp_path)
    assert not asked and "WARNING" not in capfd.readouterr().err


def test_data_sets_lie_in_our_cache_unless_told_otherwise(dots, tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert len(prepared("tfds:dots", tmp_path)) == 6
    assert (tmp_path / "tfds" / "dots" / "1.0.0").is_dir()


SLOW_BUILDER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
import tensorflow_datasets as tfds

class Endless(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(10, 12, 1))}))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        print("preparing", flush=True)
        time.sleep(600)
        yield 0, {}

from dcgan_jax.train import main
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_does_not_wait_for_tensorflow_datasets(tmp_path, number, code):
    command = [sys.executable, "-c", SLOW_BUILDER, "--workdir", str(tmp_path / "run"), "--data", "tfds:endless"]
    environment = {**os.environ, "GLIBC_TUNABLES": ""}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while (line := run.stdout.readline()) and "preparing" not in line:
        pass
    run.send_signal(number)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == code and said.splitlines()[-1] == "stopped: the same command starts again", said
    assert not (tmp_path / "run").exists()
