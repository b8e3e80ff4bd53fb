"""Colours and values are what the files mean: colour profiles, 16 and 32 bits, floats."""

import io
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import prepared
from PIL import Image
from profiles import from_linear, gray_profile, p3_to_srgb, rgb_profile, srgb_profile

from dcgan_jax.config import Config
from dcgan_jax.data.decode import read_picture, read_square
from dcgan_jax.gan.pixels import rounded_to_uint8
from dcgan_jax.system.errors import InputError

GREEN = (60, 200, 91)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def one(content, **settings):
    """The value of a picture of one colour."""
    square = rounded_to_uint8(read_square(content, Config(image_size=16, **settings)))
    assert (square == square[0, 0]).all()
    return tuple(map(int, square[0, 0]))


def near(found, wanted, within=1):
    return np.abs(np.asarray(found, float) - wanted).max() <= within


# --- colour profiles --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_display_p3_green_is_that_of_a_viewer(kind):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}, "AVIF": {"quality": 100}}.get(kind, {})
    green = one(encoded(Image.new("RGB", (8, 8), GREEN), kind, icc_profile=rgb_profile(), **options))
    assert near(green, (0, 203, 74), 0 if kind == "PNG" else 1)
    assert near(green, p3_to_srgb(GREEN))


def test_many_colours_follow_the_formulas():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    found = read_square(encoded(Image.fromarray(colours), icc_profile=rgb_profile()), Config(image_size=16))
    wanted = np.array([p3_to_srgb(colour) for colour in colours.reshape(-1, 3)]).reshape(colours.shape)
    assert near(found, wanted, 2) and np.abs(found - wanted).mean() < 0.5
    assert np.abs(colours - wanted).mean() > 5


def test_gray_profiles_and_gray_pictures_with_profiles_of_colours():
    for profile in (gray_profile(1.0), rgb_profile(gamma=1.0)):
        assert near(one(encoded(Image.new("L", (8, 8), 100), icc_profile=profile)), from_linear(100 / 255))
        assert near(one(encoded(Image.new("L", (8, 8), 100), icc_profile=profile), channels=1), from_linear(100 / 255))
    deep = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))
    assert near(one(encoded(deep, icc_profile=gray_profile(1.0))), from_linear(100 / 255))


def test_palettes_too():
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, *GREEN])
    assert near(one(encoded(palette, icc_profile=rgb_profile())), (0, 203, 74))


def test_transparency_stays():
    profile = {"icc_profile": rgb_profile()}
    half = Image.new("RGBA", (8, 8), (*GREEN, 128))
    assert near(one(encoded(half, **profile), background="black"), p3_to_srgb(GREEN) * 128 / 255)
    assert one(encoded(Image.new("RGBA", (8, 8), (*GREEN, 0)), **profile), background="#010203") == (1, 2, 3)
    gray = Image.new("LA", (8, 8), (100, 128))
    wanted = from_linear(100 / 255) * 128 / 255
    assert near(one(encoded(gray, icc_profile=gray_profile(1.0)), background="black"), wanted)
    key = encoded(Image.new("RGB", (8, 8), GREEN), transparency=GREEN, **profile)
    assert one(key, background="#010203") == (1, 2, 3)
    key = encoded(Image.new("L", (8, 8), 9), transparency=9, icc_profile=gray_profile(1.0))
    assert one(key, background="#010203") == (1, 2, 3)


def test_srgb_changes_no_bit():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    found = read_square(encoded(Image.fromarray(colours), icc_profile=srgb_profile()), Config(image_size=16))
    np.testing.assert_array_equal(found, colours)


def test_lab_is_converted():
    """Red, (255, 0, 0), is L 54.29, a 80.80, b 69.89 under D50 (Lindbloom's calculator)."""
    lab = Image.new("LAB", (8, 8), (round(54.29 * 2.55), 128 + 81, 128 + 70))
    assert near(one(encoded(lab, "TIFF")), (255, 0, 0), 5)


@pytest.mark.parametrize(
    ("profile", "mode", "said"),
    [
        (b"no profile" * 20, "RGB", "damaged colour profile"),
        (rgb_profile()[:300], "RGB", "damaged colour profile"),
        (rgb_profile().replace(b"rTRC", b"none"), "RGB", "damaged colour profile"),
        (bytes(5 << 20), "RGB", "damaged colour profile .5242880 bytes"),
        (gray_profile(1.0), "RGB", "a colour profile for GRAY in a picture of RGB"),
        (rgb_profile(), "CMYK", "a colour profile for RGB in a picture of CMYK"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named_and_left_out(tmp_path, capsys, profile, mode, said):
    image = Image.new("RGB", (8, 8), "red").convert(mode)
    image.save(tmp_path / "odd.tiff", icc_profile=profile)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "plain.png", icc_profile=rgb_profile())
    for _ in range(2):  # when it is built, and when it is opened again
        store = prepared(tmp_path, tmp_path / "cache")
        assert tuple(store.take([0])[0, 0, 0]) == (255, 0, 0) and len(store.off_colour) == 1 and not store.skipped
        err = capsys.readouterr().err
        assert "1 pictures in " in err and "are taken as sRGB: odd.tiff (" in err
        assert re.search(said, err)


def test_profiles_in_many_threads():
    kinds = [(rgb_profile(), p3_to_srgb(GREEN)), (rgb_profile(gamma=1.0), None), (srgb_profile(), GREEN)]
    contents = [encoded(Image.new("RGB", (90, 90), GREEN), icc_profile=profile) for profile, _ in kinds]
    alone = [one(content) for content in contents]
    assert near(alone[0], kinds[0][1]) and alone[2] == GREEN
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, contents * 40)) == alone * 40


# --- more than eight bits ---------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(values, kind, key=None):
    """A PNG of 16 bits: (H, W) or (H, W, C), colour type 0 gray, 2 RGB, 4 gray and alpha, 6 RGBA."""
    values = np.asarray(values, ">u2")
    head = struct.pack(">2I5B", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    clear = b"" if key is None else chunk(b"tRNS", np.asarray(key, ">u2").tobytes())
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    body = chunk(b"IHDR", head) + clear + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff16(values, *, photometric, bits=16, order="<", planar=1):
    """An uncompressed TIFF: uint16 (H, W) or (H, W, C), or packed 12-bit values."""
    values = np.asarray(values)
    bands = values.shape[2] if values.ndim == 3 else 1
    pixels = values.transpose(2, 0, 1) if planar == 2 else values
    raw = pixels.astype(f"{order}u2").tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(int)
        raw = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = {
        256: values.shape[1],
        257: values.shape[0],
        259: 1,
        262: photometric,
        277: bands,
        278: values.shape[0],
        284: planar,
    }
    count = len(tags) + 3
    after = 8 + 2 + 12 * count + 4
    size = len(raw) // (bands if planar == 2 else 1)
    entries = {tag: (3, 1, struct.pack(f"{order}HH", value, 0)) for tag, value in tags.items()}
    bits_at, offsets_at, counts_at, start = after, after + 8, after + 24, after + 40
    offsets = [start + i * size for i in range(bands if planar == 2 else 1)]
    short = struct.pack(f"{order}HH", bits, 0)
    entries[258] = (3, bands, struct.pack(f"{order}I", bits_at) if bands > 2 else short)
    for tag, numbers, at in ((273, offsets, offsets_at), (279, [size] * len(offsets), counts_at)):
        entries[tag] = (4, len(numbers), struct.pack(f"{order}I", at if len(numbers) > 1 else numbers[0]))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8) + struct.pack(f"{order}H", count)
    for tag in sorted(entries):
        kind, number, value = entries[tag]
        head += struct.pack(f"{order}HHI", tag, kind, number) + value
    pad = [bits] * 4, [*offsets, 0, 0, 0, 0][:4], [size] * 4
    return (
        head
        + bytes(4)
        + struct.pack(f"{order}4H", *pad[0])
        + b"".join(struct.pack(f"{order}4I", *p) for p in pad[1:])
        + raw
    )


RAMP = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1)
TWELVE = {"range": (0, 4095)}


def test_a_twelve_bit_set_gets_a_notice_whose_remedy_gives_full_contrast(tmp_path, capsys):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png16(RAMP, 0))
    for _ in range(2):
        dark = prepared(tmp_path, tmp_path / "cache").take(range(4))
        assert dark.dtype == np.uint16 and dark.max() == 4095
        err = capsys.readouterr().err
        assert "4, with values from 0 to 4095 of 0 to 65535, so that they are almost black" in err
    low, high = map(float, err.split("give --range ")[1].split())
    bright = prepared(tmp_path, tmp_path / "cache", range=(low, high), bits="8").take(range(4))
    np.testing.assert_array_equal(bright[0, ..., 0], (RAMP / 4095 * 255).round())
    assert "range" not in capsys.readouterr().err
    for settings in ({}, {"range": (low, high)}):  # each has a store of its own
        most = prepared(tmp_path, tmp_path / "cache", **settings).take([0]).max()
        assert most == (65535 if settings else 4095)


def test_no_notice_where_one_picture_uses_the_range(tmp_path, capsys):
    (tmp_path / "dark.png").write_bytes(png16(RAMP, 0))
    (tmp_path / "bright.png").write_bytes(png16(RAMP + 1, 0))  # up to 4096: a sixteenth
    prepared(tmp_path, tmp_path / "cache")
    assert "--range" not in capsys.readouterr().err


def test_of_a_pgm_file_all_values_are_in_its_own_units(tmp_path, capsys):
    values = np.linspace(0, 4095, 256).astype(">u2").reshape(16, 16)
    (tmp_path / "set").mkdir()
    for i in range(4):
        (tmp_path / "set" / f"{i}.pgm").write_bytes(b"P5 16 16 4095\n" + values.tobytes())
    for settings, high in (({}, 4095), ({"range": (0, 4095)}, 4095), ({"range": (0, 8190)}, 8190)):
        store = prepared(tmp_path / "set", tmp_path / "cache", **settings)
        assert "--range" not in capsys.readouterr().err
        assert (store.scale.low, store.scale.high) == (0, high)
        assert store.take([0]).max() == pytest.approx(4095 / high * 65535, abs=16)  # Pillow rounds
    prepared(tmp_path / "set", tmp_path / "cache", range=(0, 2000))
    assert "go from 0 to 4095: what lies beyond --range 0 2000 is cut off" in capsys.readouterr().err


def test_a_range_without_effect_is_said(photos, tmp_path, capsys):
    store = prepared(photos, tmp_path, range=(0, 4095))
    assert "has more than 8 bits a value: --range changes nothing" in capsys.readouterr().err
    assert store.digest == prepared(photos, tmp_path).digest


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (png16(RAMP, 0), RAMP[..., None]),
        (png16(COLOURS, 2), COLOURS),
        (png16(np.stack([RAMP, np.full_like(RAMP, 65535)], -1), 4), RAMP[..., None]),
        (png16(np.concatenate([COLOURS, np.full((16, 16, 1), 65535)], -1), 6), COLOURS),
        (tiff16(RAMP, photometric=1), RAMP[..., None]),
        (tiff16(RAMP, photometric=1, order=">"), RAMP[..., None]),
        (tiff16(COLOURS, photometric=2), COLOURS),
        (tiff16(COLOURS, photometric=2, order=">"), COLOURS),
        (encoded(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"), RAMP[..., None]),
        (b"P5 16 16 4095\n" + RAMP.astype(">u2").tobytes(), RAMP[..., None]),
        (b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes(), RAMP[..., None]),
        (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), RAMP[..., None]),
        (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), RAMP[..., None]),
        (RAMP, RAMP[..., None]),
        (COLOURS.astype(np.float32), COLOURS),
    ],
)
def test_a_stated_range_reads_all_bits(content, wanted):
    for bits, top, kind in (("8", 255, np.uint8), ("auto", 65535, np.uint16)):
        square = read_picture(content, Config(image_size=16, bits=bits, **TWELVE)).square
        exact = np.broadcast_to(wanted / 4095 * top, (16, 16, 3))
        assert square.dtype == kind and np.abs(square - exact).max() < 0.51 and len(np.unique(square)) > 200


def test_values_beyond_a_stated_range_are_black_or_white_and_it_may_be_turned_round():
    values = np.array([[0, 1000], [1500, 2000]], np.uint16).repeat(8, 0).repeat(8, 1)
    ends = read_square(values, Config(image_size=16, range=(1000, 2000), bits="8"))[::8, ::8, 0]
    assert ends.tolist() == [[0, 0], [128, 255]]
    ends = read_square(values, Config(image_size=16, range=(2000, 1000), bits="8"))[::8, ::8, 0]
    assert ends.tolist() == [[255, 255], [128, 0]]


def test_without_a_range_a_file_means_what_it_says():
    wanted = (RAMP / 4095 * 255)[..., None]
    for content in (tiff16(RAMP, photometric=1, bits=12), b"P5 16 16 4095\n" + RAMP.astype(">u2").tobytes()):
        assert near(read_square(content, Config(image_size=16, bits="8")), np.broadcast_to(wanted, (16, 16, 3)), 0.6)
    white = np.full((8, 8), 65535)
    assert one(tiff16(white, photometric=1)) == (255, 255, 255)
    assert one(tiff16(white, photometric=0)) == (0, 0, 0)  # WhiteIsZero, as X-rays are


def test_a_dark_set_that_is_white_is_zero_gets_the_range_that_fits(tmp_path, capsys):
    (tmp_path / "x.tiff").write_bytes(tiff16(RAMP, photometric=0))
    prepared(tmp_path, tmp_path / "cache")
    assert "almost white: to say which values are black and white, give --range 4095 0" in capsys.readouterr().err


def test_transparent_values_of_16_bits_are_compared_in_full():
    black = {"image_size": 16, "background": "#010203"}
    values = np.array([[300, 30000], [30001, 65535]]).repeat(8, 0).repeat(8, 1)
    square = read_square(png16(values, 0, key=30000), Config(**black))[::8, ::8]
    assert square[0, 1].tolist() == [1, 2, 3] and square[1, 0].tolist() == [117] * 3
    colours = np.repeat(values[..., None], 3, -1)
    square = read_square(png16(colours, 2, key=[30000] * 3), Config(**black))[::8, ::8]
    assert square[0, 1].tolist() == [1, 2, 3] and square[1, 0].tolist() == [117] * 3


def test_colours_in_separate_planes_are_refused_or_right():
    content = tiff16(COLOURS * 16, photometric=2, planar=2)
    with pytest.raises(ValueError, match="in separate planes"):
        read_square(content, Config(image_size=16))


def test_what_has_no_defined_range_is_skipped_and_named_until_one_is_stated(tmp_path):
    for i, value in enumerate((-500, 100, 100_000, 7)):
        Image.fromarray(np.full((24, 24), value, np.int32)).save(tmp_path / f"{i}.tiff")
    Image.fromarray(np.full((24, 24), 0.5, np.float32)).save(tmp_path / "4.tiff")
    Image.fromarray(np.full((24, 24), np.nan, np.float32)).save(tmp_path / "5.tiff")
    for i in range(6, 9):
        Image.new("L", (24, 24), i).save(tmp_path / f"{i}.png")
    store = prepared(tmp_path, tmp_path / "cache")
    assert [line.split(":")[0] for line in store.skipped] == [
        "0.tiff (values from -500 to -500, beyond 0 to 65535",
        "2.tiff (values from 100000 to 100000, beyond 0 to 65535",
        "4.tiff (floating-point pixels have no defined range",
        "5.tiff (floating-point pixels have no defined range",
    ]
    store = prepared(tmp_path, tmp_path / "cache", range=(-500, 100_000))
    assert store.take_uint8(range(5))[:, 0, 0, 0].tolist() == [0, 2, 255, 1, 1]
    assert store.skipped == ("5.tiff (a pixel is infinite or not a number)",)


@pytest.mark.parametrize(
    "wrong", [(5, 5), (0, float("nan")), (0, float("inf")), (1,), (0, 1, 2), ("0", "1"), 7, (0, True)]
)
def test_a_range_is_two_different_numbers(wrong):
    with pytest.raises(InputError, match="must be two different numbers"):
        Config(range=wrong)


def test_a_range_is_kept_with_a_run(tmp_path):
    config = Config(range=(0, 4095))
    (tmp_path / "config.json").write_text(config.to_json())
    assert Config.load(tmp_path / "config.json") == config and config.range == (0.0, 4095.0)
    assert Config().differences(config) == ["range (None, was (0.0, 4095.0))"]
