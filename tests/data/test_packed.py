"""Pictures in tables and archives: Parquet, what Hugging Face's datasets saves, its Hub, and .tar of webdataset."""

import contextlib
import dataclasses
import gc
import io
import json
import re
import tarfile
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import prepared
from PIL import Image

from dcgan_jax.config import Config
from dcgan_jax.data.build import expected_type
from dcgan_jax.data.sources import absolute, open_source
from dcgan_jax.data.store import open_store
from dcgan_jax.run.folder import RunFolder
from dcgan_jax.run.hold import held
from dcgan_jax.system.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)
LABELS = [i % 3 for i in range(12)]
NAMES = ["cat", "dog", "owl"]


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


FILES = [png(pixels) for pixels in PIXELS]


def check(store, names=NAMES):
    np.testing.assert_array_equal(store.take(range(12)), PIXELS)
    assert [store.label_names[label] for label in store.labels] == [names[label] for label in LABELS]


def write_parquet(path, files=FILES, labels=LABELS, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"label": labels, "image": [{"bytes": content, "path": None} for content in files], **more}
    pq.write_table(pa.table(columns), path, row_group_size=5)


def test_parquet_with_numbers_as_labels(tmp_path):
    write_parquet(tmp_path / "set.parquet")
    check(prepared(tmp_path / "set.parquet", tmp_path / "cache"), ["0", "1", "2"])
    pq.write_table(pa.table({"picture": FILES, "text": ["a"] * 12}), tmp_path / "plain.parquet")
    store = prepared(tmp_path / "plain.parquet", tmp_path / "cache")
    np.testing.assert_array_equal(store.take(range(12)), PIXELS)
    assert store.label_names == ("",)


def test_a_run_finds_a_folder_of_tables_again_from_another_folder(tmp_path, tiny, monkeypatch):
    write_parquet(tmp_path / "sets" / "pets" / "test-00000-of-00001.parquet")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    config, folder = dataclasses.replace(tiny, data="hf:sets/pets:test"), RunFolder(tmp_path / "run")
    with held(folder, config) as taken, contextlib.closing(open_store(config)) as store:
        taken.begin(store)
    monkeypatch.chdir(tmp_path / "elsewhere")
    with contextlib.closing(open_store(folder.config())) as store:
        assert len(store) == 12
    assert [absolute(data) for data in ("hf:sets/pets", "hf:me/pets:test", "sprites")] == [
        "hf:sets/pets",  # of the Hub, where there is no such folder
        "hf:me/pets:test",
        "sprites",
    ]


def test_a_folder_of_parquet_is_read_by_split(tmp_path):
    write_parquet(tmp_path / "set" / "data" / "train-00000-of-00002.parquet", FILES[:7], LABELS[:7])
    write_parquet(tmp_path / "set" / "data" / "train-00001-of-00002.parquet", FILES[7:], LABELS[7:])
    write_parquet(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", FILES[:3], LABELS[:3])
    for data in (tmp_path / "set", f"hf:{tmp_path / 'set'}", f"hf:{tmp_path / 'set'}:train"):
        check(prepared(data, tmp_path / "cache"), ["0", "1", "2"])
    assert len(prepared(f"hf:{tmp_path / 'set'}:test", tmp_path / "cache")) == 3
    with pytest.raises(InputError, match=r"has the splits test, train: give one of them as --data hf:.*:SPLIT"):
        prepared(f"hf:{tmp_path / 'set'}:dev", tmp_path / "cache")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "set" / "train-2.parquet")
    with pytest.raises(InputError, match=r"train-2.parquet has no column image, but .* has one: keep the files of one"):
        prepared(tmp_path / "set", tmp_path / "cache")


def test_a_folder_of_arrow_files_is_read_without_datasets(tmp_path):
    features = {"image": {"_type": "Image"}, "kind": {"_type": "ClassLabel", "names": NAMES}}
    data = pa.table({"image": [{"bytes": content, "path": None} for content in FILES], "kind": LABELS})
    data = data.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for i, part in enumerate((data.slice(0, 5), data.slice(5))):
        with pa.OSFile(str(tmp_path / f"data-{i}.arrow"), "wb") as file, pa.ipc.new_stream(file, data.schema) as out:
            out.write_table(part)
    (tmp_path / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-0.arrow"}, {"filename": "data-1.arrow"}]})
    )
    check(prepared(tmp_path, tmp_path / "cache"))


def test_what_datasets_saves_is_read_without_a_network(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)})
    data = datasets.Dataset.from_dict({"image": [Image.fromarray(p) for p in PIXELS], "kind": LABELS}, features)
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": data, "test": data.select([0, 1])}).save_to_disk(str(tmp_path / "both"))
    data.to_parquet(str(tmp_path / "set.parquet"))
    for place in ("one", "both", "set.parquet"):
        check(prepared(tmp_path / place, tmp_path / "cache"))
    check(prepared(f"hf:{tmp_path / 'both'}", tmp_path / "cache"))
    assert len(prepared(f"hf:{tmp_path / 'both'}:test", tmp_path / "cache")) == 2


def test_a_set_on_the_hub_is_streamed_and_needs_no_network_later(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    data = datasets.Dataset.from_dict({"img": [Image.fromarray(p) for p in PIXELS], "label": LABELS}, features)
    with monkeypatch.context() as there:
        there.setattr("requests.head", lambda url, timeout: None)
        there.setattr(datasets, "load_dataset", lambda name, split, streaming: data.to_iterable_dataset())
        check(prepared("hf:someone/pets", tmp_path))
    check(prepared("hf:someone/pets", tmp_path))
    config = Config(data="hf:someone/pets", image_size=16)  # of which a new run compiles its step meanwhile
    assert expected_type(open_source(config, tmp_path), config) == "uint8"


def test_without_a_network_the_hub_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="hf:someone/pets:train cannot be reached: connect to the network"):
        prepared("hf:someone/pets", tmp_path)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_tar_with_labels_in_cls_files_or_folders(tmp_path, ending):
    path = tmp_path / f"set.{ending}"
    with tarfile.open(path, f"w:{ending[4:]}") as archive:
        for i, content in enumerate(FILES):
            for name, part in {f"{i:03d}.png": content, f"{i:03d}.cls": str(LABELS[i]).encode()}.items():
                info = tarfile.TarInfo(name)
                info.size = len(part)
                archive.addfile(info, io.BytesIO(part))
    check(prepared(path, tmp_path / "cache"), ["0", "1", "2"])
    for i, content in enumerate(FILES):
        (tmp_path / "pets" / NAMES[LABELS[i]]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / NAMES[LABELS[i]] / f"{i:03d}.png").write_bytes(content)
    with tarfile.open(path, f"w:{ending[4:]}") as archive:
        archive.add(tmp_path / "pets", "pets")
    store = prepared(path, tmp_path / "cache")
    assert sorted(store.label_names) == NAMES and len(store) == 12


def test_a_picture_without_a_cls_where_others_have_one_has_no_label(tmp_path, capsys):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for i, content in enumerate(FILES):
            files = {f"{NAMES[LABELS[i]]}/{i:03d}.png": content, f"{NAMES[LABELS[i]]}/{i:03d}.cls": b"%d" % LABELS[i]}
            for name, part in list(files.items())[: 1 if i == 7 else 2]:
                info = tarfile.TarInfo(name)
                info.size = len(part)
                archive.addfile(info, io.BytesIO(part))
    store = prepared(tmp_path / "set.tar", tmp_path / "cache")
    assert [store.label_names[i] for i in store.labels] == [*"0120120", "", *"2012"]
    assert "ignored" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, 2], "holds int64 in its column cells, not files of pictures: give another --column"),
        ([[1, 2], [3, 4]], "holds list<.*> in its column cells, not files of pictures"),
    ],
)
def test_a_column_that_holds_no_files_is_refused(tmp_path, cells, message):
    pq.write_table(pa.table({"image": FILES[:2], "cells": cells}), tmp_path / "set.parquet")
    with pytest.raises(InputError, match=message):
        prepared(tmp_path / "set.parquet", tmp_path / "cache", column="cells")


def test_bad_tables_and_archives_are_a_sentence(tmp_path):
    write_parquet(tmp_path / "whole.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-9])
    pq.write_table(pa.table({"text": ["a"], "number": [1]}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"left": FILES, "right": FILES}), tmp_path / "two.parquet")
    (tmp_path / "no.tar").write_bytes(b"no archive")
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for data, message in {
        "cut.parquet": r"cut.parquet cannot be read as a table \(.*\): get it again",
        "none.parquet": "has no column of pictures, only text, number: give --column",
        "two.parquet": r"several columns of pictures \(left, right\): name one with --column",
        "no.tar": r"no.tar cannot be read as a .tar \(.*\): get it again",
        "empty.tar": r"empty.tar cannot be read as a .tar \(file could not be opened successfully\): get it again",
        "hf:empty": "holds no tables",
        "hf:whole.parquet": "is a file: give it without hf:, as --data .*whole.parquet",
    }.items():
        data = re.sub("^(hf:|)", rf"\1{tmp_path}/", data)
        with pytest.raises(InputError, match=message) as error:
            prepared(data, tmp_path / "cache")
        assert "\n" not in str(error.value)
    store = prepared(tmp_path / "two.parquet", tmp_path / "cache", column="right")
    np.testing.assert_array_equal(store.take(range(12)), PIXELS)


def test_an_empty_cell_is_skipped_and_named(tmp_path):
    write_parquet(tmp_path / "set.parquet", [None, *FILES[1:]])
    store = prepared(tmp_path / "set.parquet", tmp_path / "cache")
    assert len(store) == 11 and store.skipped == ("row 0 (an empty cell)",)


def tar_of(path, count=12):
    with tarfile.open(path, "w") as archive:
        for i in range(count):
            info = tarfile.TarInfo(f"{i:04d}.png")
            info.size = len(FILES[i % 12])
            archive.addfile(info, io.BytesIO(FILES[i % 12]))
    return path


@pytest.mark.parametrize("where", ["in a header", "a header is cut"])
def test_a_tar_that_is_damaged_in_the_middle_is_not_taken_for_a_shorter_one(tmp_path, where):
    whole = bytearray(tar_of(tmp_path / "set.tar").read_bytes())
    at = whole.index(b"0007.png")
    broken = whole[: at + 300] if where == "a header is cut" else whole[: at + 148] + b"12345678" + whole[at + 156 :]
    (tmp_path / "set.tar").write_bytes(broken)
    with pytest.raises(
        InputError, match=rf"set.tar cannot be read as a .tar \(damaged from byte {at} on\): get it again"
    ):
        prepared(tmp_path / "set.tar", tmp_path / "cache")


def test_few_members_and_rows_are_in_memory_at_a_time(tmp_path):
    def members():
        gc.collect()
        return sum(isinstance(one, tarfile.TarInfo) for one in gc.get_objects())

    before = members()  # what other tests left
    items = open_source(Config(data=str(tar_of(tmp_path / "set.tar", 300))), tmp_path).items()
    assert len(list(zip(range(250), items))) == 250
    assert members() - before < 5
    cells = [{"bytes": FILES[i % 12], "path": None} for i in range(12_000)]  # 10 MB
    pq.write_table(pa.table({"image": cells}), tmp_path / "set.parquet", use_dictionary=False)
    items = open_source(Config(data=str(tmp_path / "set.parquet")), tmp_path).items()
    before = pa.total_allocated_bytes()
    tracemalloc.start()  # what is read is Python's bytes, what is decoded Arrow's
    assert len(list(zip(range(250), items))) == 250
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak + pa.total_allocated_bytes() - before < 4 << 20
