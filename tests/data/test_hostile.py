"""Nothing hostile gets further than a message: archives, names, pictures, files that are not data."""

import errno
import io
import os
import re
import struct
import sys
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import prepared, python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import dcgan_jax
from dcgan_jax.config import Config
from dcgan_jax.data import decode, depth, sources, store
from dcgan_jax.data.depth import eight_bits
from dcgan_jax.system.errors import InputError


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


RED = encoded(Image.new("RGB", (8, 8), "red"), "PNG")


def make_zip(path, members, compression=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


def everything(root):
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not {"cache", "locks"} & set(path.relative_to(root).parts)
    )


# --- archives ---------------------------------------------------------------------------------------


def test_names_that_lead_elsewhere_are_pictures_like_any_other(tmp_path):
    names = (
        "../outside.png",
        str(tmp_path / "absolute.png"),
        "a/../../b.png",
        "C:\\windows\\x.png",
        "a\\..\\..\\y.png",
    )
    path = make_zip(tmp_path / "slip" / "slip.zip", dict.fromkeys(names, RED))
    assert len(prepared(path, tmp_path / "cache")) == 5
    assert everything(tmp_path) == ["slip", "slip/slip.zip"]


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(RED)
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    made = prepared(make_zip(tmp_path / "zip" / "link.zip", {link: str(secret), "red.png": RED}), tmp_path / "cache")
    assert len(made) == 1 and made.skipped[0].startswith("link.png (not a picture of a known format")


def test_a_member_that_declares_too_much_is_counted_and_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "FILE_LIMIT", 10_000)
    bomb = encoded(Image.new("RGB", (100, 100)), "BMP")
    made = prepared(make_zip(tmp_path / "z" / "z.zip", {"bomb.bmp": bomb, "red.png": RED}), tmp_path / "cache")
    assert len(made) == 1 and made.skipped == ("bomb.bmp (a file of 0.0 MiB, more than 0.0 MiB)",)


def test_a_member_that_expands_beyond_what_it_declares_is_read_no_further(tmp_path):
    real, declared = 64 << 20, 1000
    path = make_zip(tmp_path / "z" / "z.zip", {"bomb.bmp": bytes(real), "red.png": RED})
    path.write_bytes(path.read_bytes().replace(real.to_bytes(4, "little"), declared.to_bytes(4, "little")))
    tracemalloc.start()
    made = prepared(path, tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(made) == 1 and "bomb.bmp (Bad CRC-32" in made.skipped[0]
    assert peak < 8 << 20


def test_an_archive_that_claims_the_impossible_is_refused(tmp_path):
    """As the archives of overlapping members do: a few KiB that declare gigabytes."""
    path = make_zip(tmp_path / "z" / "z.zip", {f"{i}.png": RED for i in range(9)})
    path.write_bytes(
        path.read_bytes().replace(
            len(RED).to_bytes(4, "little") + (5).to_bytes(2, "little"),
            (2**31).to_bytes(4, "little") + (5).to_bytes(2, "little"),
        )
    )
    with pytest.raises(InputError, match=r"z.zip claims to expand from 0.0 MiB to 18,432.0 MiB, more than images do"):
        prepared(path, tmp_path / "cache")
    assert not (tmp_path / "cache" / "stores").exists()


def test_a_member_that_is_encrypted_is_counted(tmp_path):
    path = make_zip(tmp_path / "z" / "z.zip", {"secret.png": RED, "red.png": RED})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    made = prepared(path, tmp_path / "cache")
    assert len(made) == 1 and "encrypted" in made.skipped[0]


# --- folders and pictures ---------------------------------------------------------------------------


def test_a_decompression_bomb_is_a_bad_file(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(encoded(Image.new("1", (100, 100)), "PNG"))
    (tmp_path / "red.png").write_bytes(RED)
    for limit in (5_001, 4_999):  # Pillow warns above this and raises at twice it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        made = prepared(tmp_path, tmp_path / f"cache{limit}")
        assert len(made) == 1 and re.match("bomb.png .*exceeds limit of .* pixels", made.skipped[0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_what_is_no_file_is_counted_and_never_waited_for(tmp_path):
    root = tmp_path / "folder"
    root.mkdir()
    for i in range(4):
        (root / f"{i}.png").write_bytes(RED)
    os.mkfifo(root / "pipe.png")
    (root / "nowhere.png").symlink_to("missing")
    (root / "round.png").symlink_to("round.png")
    made = prepared(root, tmp_path / "cache")
    assert len(made) == 4
    reasons = {
        "nowhere.png": "No such file or directory",
        "pipe.png": "not a regular file",
        "round.png": "Too many levels",
    }
    for line, (name, reason) in zip(made.skipped, reasons.items(), strict=True):
        assert line.startswith(name) and reason in line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_what_the_system_refuses_is_an_error_and_no_image_is_lost(tmp_path, monkeypatch, error, reason):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(RED)

    def refuse(path):
        if path.name == "2.png":
            raise error
        return RED

    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_file", refuse)
        with pytest.raises(InputError, match=f"2.png in .* cannot be read: {reason}: fix this and run the same"):
            prepared(tmp_path, tmp_path / "cache")
    assert len(prepared(tmp_path, tmp_path / "cache")) == 4


def test_a_file_that_vanishes_while_it_is_learned_is_an_error(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(RED)
    config = Config(data=str(tmp_path), image_size=16)
    source = sources.open_source(config, tmp_path / "cache")
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match="1.png in .* cannot be read: No such file"):
        store.prepare(source, config, tmp_path / "cache")


def scanned(side, scans):
    """A progressive JPEG whose last scan is repeated."""
    content = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * scans + b"\xff\xd9"


def tiled(side):
    """A TIFF that says its one tile has ``side`` pixels each way, of a picture of 16 by 16."""
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 12) + b"\0" * 4 + struct.pack("<H", len(tags)) + entries + b"\0" * 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "deep.png",
            lambda: encoded(Image.new("I;16", (7600, 7600)), "PNG"),
            "7600 x 7600 pixels would take 523.3 MiB to decode",
        ),
        (
            "long.png",
            lambda: encoded(Image.new("1", (1, 70_000)), "PNG"),
            "1 x 70000 pixels, more than 65535 along one side",
        ),
        (
            "wide.jpg",
            lambda: encoded(Image.new("L", (8000, 7000)), "JPEG", progressive=True),
            "8000 x 7000 pixels would take",
        ),
        ("plain.ppm", lambda: b"P1 2001 2000 " + b"0" * 2001 * 2000, "2001 x 2000 pixels in a format that is slow"),
        ("scans.jpg", lambda: scanned(1000, 1100), r"11\d\d scans of 1000 x 1000 pixels would take too long"),
        ("tile.tif", lambda: tiled(30_000), "16 x 16 pixels would take 11,158.0 MiB to decode"),
    ],
)
def test_what_would_take_too_much_memory_or_time_is_not_decoded(tmp_path, monkeypatch, name, content, message):
    (tmp_path / name).write_bytes(content())
    (tmp_path / "red.png").write_bytes(RED)
    decoded = []
    monkeypatch.setattr(
        depth, "eight_bits", lambda image, *args: (decoded.append(image.format), eight_bits(image, *args))[1]
    )
    made = prepared(tmp_path, tmp_path / "cache")
    assert len(made) == 1 and re.match(f"{name} .{message}", made.skipped[0]), made.skipped
    assert decoded == ["PNG"]


def test_a_file_of_gigabytes_is_not_read(tmp_path):
    (tmp_path / "red.png").write_bytes(RED)
    with open(tmp_path / "huge.avif", "wb") as out:
        out.write(b"\0\0\0\x20ftypavif")
        out.truncate(3 << 30)
    made = prepared(tmp_path, tmp_path / "cache")
    assert made.skipped == ("huge.avif (a file of 3,072.0 MiB, more than 128.0 MiB)",)


def test_large_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    for i in range(6):
        (tmp_path / f"{i}.png").write_bytes(encoded(Image.new("L", (60, 60)), "PNG"))
    monkeypatch.setattr(decode, "SHARE", 60 * 60)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    at_once, most = [], []

    def watched(image, *args):
        at_once.append(None)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return eight_bits(image, *args)

    monkeypatch.setattr(depth, "eight_bits", watched)
    assert len(prepared(tmp_path, tmp_path / "cache")) == 6
    assert max(most) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux takes any byte in a name")
def test_names_cannot_write_to_the_terminal(tmp_path, capfd):
    root = os.fsencode(tmp_path / "folder")
    os.mkdir(root)
    for name in (b"a\x1b[2J\x1b]0;title\x07.png", b"b\nb\r.png", b"c\xff\xfe.png", "d\u202egnp.exe.png".encode()):
        with open(os.path.join(root, name), "wb") as out:
            out.write(b"no picture")
    for i in range(4):
        (tmp_path / "folder" / f"{i}.png").write_bytes(RED)
    made = prepared(tmp_path / "folder", tmp_path / "cache")
    said = "".join(line for line in capfd.readouterr().err.splitlines(keepends=True) if line.startswith("skipped"))
    assert said.startswith("skipped 4 of 8 files") and said[:-1].isprintable()
    assert [line.split(" ")[0] for line in made.skipped] == [
        r"a\x1b[2J\x1b]0;title\x07.png", r"b\nb\r.png", r"c\xff\xfe.png", r"d\u202egnp.exe.png",
    ]  # fmt: skip
    refused = python("-m", "dcgan_jax.train", "--workdir", "run", "--data", "no\x1b[2Jthing")
    assert refused.returncode == 2 and r"no\x1b[2Jthing" in refused.stderr and "\x1b" not in refused.stderr


def test_nothing_is_ever_unpickled():
    """But tensors of a file whose checksum is known, by an unpickler that knows no other names."""
    package = Path(dcgan_jax.__file__).parent
    for path in package.rglob("*.py"):
        code = path.read_text()
        if path == package / "pretrained" / "tensors.py":  # tests/pretrained
            assert "find_class" in code and not re.search(r"pickle\.loads?\(", code)
            continue
        assert not re.search(
            r"\b(pickle|dill|joblib|marshal|shelve|eval|exec)\b[.(]|import (pickle|dill|joblib|marshal|shelve)", code
        ), path
        assert code.count("np.load(") == code.count("allow_pickle=False"), path


def pictures():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8))
    frames = [noise.convert("P"), noise.rotate(90).convert("P")]
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "png", encoded(noise, "PNG")
    yield "png", encoded(noise.convert("P"), "PNG", transparency=3)
    yield "png", encoded(Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10) * 500), "PNG")
    yield "jpg", encoded(noise, "JPEG", exif=exif)
    yield "jpg", encoded(noise.convert("CMYK"), "JPEG", progressive=True)
    yield "gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=0)
    yield "webp", encoded(noise, "WEBP", lossless=True)
    yield "webp", encoded(noise.convert("RGBA"), "WEBP", quality=50)
    yield "bmp", encoded(noise, "BMP")
    yield "bmp", encoded(noise.convert("P"), "BMP")


places, some_bytes = st.floats(0, 1, exclude_max=True), st.binary(max_size=6)
mutations = st.lists(
    st.tuples(st.sampled_from(["overwrite", "insert", "delete", "cut", "double"]), places, some_bytes),
    min_size=1,
    max_size=6,
)


def mutate(content, steps):
    content = bytearray(content)
    for kind, place, new in steps:
        at = int(place * len(content))
        match kind:
            case "overwrite":
                content[at : at + len(new)] = new
            case "insert":
                content[at:at] = new
            case "delete":
                del content[at : at + 1 + len(new)]
            case "cut":
                del content[at:]
            case "double":
                content[at:at] = content[at : at + 64]
    return bytes(content)


@pytest.mark.slow
@settings(max_examples=2500, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(list(pictures())), mutations)
def test_a_mutated_picture_is_an_image_or_a_counted_skip(tmp_path_factory, picture, steps):
    root = tmp_path_factory.mktemp("fuzz", numbered=True)
    kind, content = picture
    (root / "good.png").write_bytes(RED)
    (root / f"mutated.{kind}").write_bytes(mutate(content, steps))
    with warnings.catch_warnings(action="ignore"):  # Pillow's, of what it mends by itself
        made = prepared(root, root / "cache")
    assert made.shape[1:] == (16, 16, 3)
    assert len(made) + len(made.skipped) == 2
    if made.skipped:
        assert made.skipped[0].startswith(f"mutated.{kind} (")
