"""What is ``auto`` until the images settle it."""

import contextlib
import dataclasses
import io
import json
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image

from dcgan_jax import Config, create_state, fit, open_store, recipe, settle
from dcgan_jax.system.errors import InputError


def folder_of(root, shapes, ending="png"):
    """A folder of pictures of these shapes (height, width)."""
    root.mkdir()
    for i, (height, width) in enumerate(shapes):
        Image.new("RGB", (width, height), (i, 40, 90)).save(root / f"{i:03d}.{ending}")
    return root


def said(capsys, data, **changes):
    """The line on the size, and the size."""
    config = Config(data=str(data), image_size="auto", **changes)
    settled = settle(config)
    assert settled == dataclasses.replace(config, image_size=settled.image_size) and settled.image_size != "auto"
    return capsys.readouterr().err.splitlines()[-1], settled.image_size


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_the_size_is_nearest_to_the_commonest_shape(tmp_path, capsys, ending):
    photos = folder_of(tmp_path / "photos", [(30, 34)] * 4 + [(200, 300)] * 2 + [(90, 16)], ending)
    (photos / "broken.png").write_bytes(b"\x89PNG")
    line = "image_size auto: 28x32, as 30x34 (height x width) is the shape of 4 of 7 pictures"
    assert said(capsys, photos) == (line, "28x32")


def test_pictures_of_many_shapes_have_their_median(tmp_path, capsys):
    photos = folder_of(tmp_path / "photos", [(100 + i, 150 - i) for i in range(5)])
    line, size = said(capsys, photos)
    assert (
        "as 102x148 (height x width) is the median of 5 pictures of several shapes; a step takes about 3 times" in line
    )
    assert size == "96x128"


def test_a_picture_has_the_shape_in_which_it_is_shown(tmp_path, capsys):
    turned = Image.Exif()
    turned[274] = 6
    for name in ("a.jpg", "b.png", "c.webp"):
        Image.new("RGB", (60, 40)).save(tmp_path / name, exif=turned)
    assert "60x40 (height x width) is the shape of 3 of 3" in said(capsys, tmp_path)[0]


def test_archives_and_arrays_say_their_shape(tmp_path, capsys):
    photo = io.BytesIO()
    Image.new("RGB", (34, 30)).save(photo, "PNG")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", photo.getvalue())
    assert said(capsys, tmp_path / "photos.zip")[1] == "28x32"
    assert "64x64 (height x width) is the shape of 1,000 of 1,000" in said(capsys, "sprites")[0]


def test_without_a_size_one_is_asked_for(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="no picture in .* says how large it is: give an --image-size such as 64"):
        settle(Config(data=str(tmp_path), image_size="auto"))


def test_a_state_wants_settled_values():
    with pytest.raises(InputError, match=r"image_size auto is settled by the images: take settle\(config\)"):
        create_state(Config(image_size="auto"))


@pytest.mark.parametrize(
    ("size", "width"), [(16, 64), (64, 64), ("96x64", 56), (96, 40), (128, 32), ("128x64", 48), (256, 16)]
)
def test_large_images_have_fewer_channels_where_there_are_many_maps(size, width):
    config = recipe("robust", image_size=size, width="auto")
    shapes = jax.eval_shape(lambda: create_state(config, images=1000))
    kernels = jax.tree.leaves_with_path(shapes.discriminator.params["DiscriminatorBlock_0"])
    assert [leaf.shape for path, leaf in kernels if path[-1].key == "kernel"] == [(4, 4, 3, width)]
    assert shapes.generator.module.width == width


def test_the_width_is_settled_once(photos, tmp_path, capsys):
    small = {"data": str(photos), "image_size": 16, "steps": 1, "batch_size": 4, "evaluate_every": 0, "latent_dim": 4}
    config = recipe("robust", **small, width=4)
    fit(config, tmp_path)  # by an earlier version, which had 64 at any size
    fit(dataclasses.replace(config, width="auto", steps=2), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["width"] == 4
    capsys.readouterr()
    assert settle(dataclasses.replace(config, image_size=128, width="auto")).width == 32
    assert capsys.readouterr().err == "width auto: 32 for images of 128 (64 up to 64x64)\n"
    with pytest.raises(InputError, match="width 'wide' must be a number of channels, such as 64, or auto"):
        dataclasses.replace(config, width="wide")


def test_a_store_settles_by_itself(photos, tmp_path):
    with contextlib.closing(open_store(Config(data=str(photos), image_size="auto"), cache=tmp_path)) as store:
        assert store.shape == (12, 16, 20, 3)


def colours(capsys, data, **changes):
    """The line on the channels, and how many there are."""
    config = settle(Config(data=str(data), image_size=16, channels="auto", **changes))
    return capsys.readouterr().err.splitlines()[-1], config.channels


@pytest.mark.parametrize(
    ("mode", "colour", "channels", "why"),
    [
        ("L", 77, 1, "as no pixel of 5 pictures has a colour or is transparent"),
        ("RGB", (7, 7, 7), 1, "as no pixel of 5 pictures has a colour or is transparent"),
        ("LA", (77, 200), 2, "as there are transparent pixels, and no pixel of 5 pictures has a colour"),
        ("RGBA", (7, 7, 8, 255), 3, "as there are colours, and no pixel of 5 pictures is transparent"),
        ("RGBA", (7, 7, 8, 0), 2, "as there are transparent pixels, and no pixel of 5 pictures has a colour"),
        ("RGBA", (7, 7, 8, 254), 4, "as there are colours and transparent pixels"),
    ],
)
def test_one_picture_decides_how_few_channels_lose_nothing(tmp_path, capsys, mode, colour, channels, why):
    for i in range(4):
        Image.new("L", (20, 20), 10 * i).save(tmp_path / f"{i}.png")
    Image.new(mode, (20, 20), colour).save(tmp_path / "5.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert colours(capsys, tmp_path) == (f"channels auto: {channels}, {why}", channels)


def test_colour_and_transparency_may_come_from_different_files_of_any_format(tmp_path, capsys):
    for i in range(3):
        Image.new("RGB", (20, 20), (200, 10 * i, 0)).save(tmp_path / f"{i}.jpg")
    assert colours(capsys, tmp_path)[1] == 3
    Image.new("LA", (20, 20), (7, 0)).save(tmp_path / "z.webp", lossless=True)
    assert colours(capsys, tmp_path)[1] == 4
    with pytest.raises(InputError, match="bits 16 cannot be had with channels 4.*leave it out, or give --channels 3"):
        colours(capsys, tmp_path, bits="16")
    with pytest.raises(InputError, match="background 'red' is seen nowhere with channels 4"):
        colours(capsys, tmp_path, background="red")


def test_padding_is_no_transparency(tmp_path, capsys):
    Image.new("RGB", (40, 20), "red").save(tmp_path / "wide.png")
    assert colours(capsys, tmp_path, resize="pad")[1] == 3


def test_arrays_have_what_they_are(capsys, tmp_path):
    line = "channels auto: 3, as there are colours, and such arrays have no alpha"
    assert colours(capsys, "sprites") == (line, 3)
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert colours(capsys, tmp_path) == (f"channels auto: 3, as no picture in {tmp_path} could be decoded", 3)


def test_what_cannot_be_decoded_is_refused_with_its_own_remedy(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((20, 20), i / 2, np.float32)).save(tmp_path / f"{i}.tif")
    with pytest.raises(InputError, match="3 of 3 files in .* no defined range: state it with --range LOW HIGH"):
        open_store(Config(data=str(tmp_path), image_size=16, channels="auto"))


def test_a_run_stores_its_channels(tiny, tmp_path, capsys):
    (folder := tmp_path / "icons").mkdir()
    for i in range(12):
        Image.new("RGBA", (20, 20), (7, 100, 10 * i, 20 * i)).save(folder / f"{i}.png")
    auto = dataclasses.replace(tiny, data=str(folder), channels="auto", steps=2, evaluate_every=0)
    state = fit(auto, tmp_path / "run")
    assert state.image_shape == (16, 16, 4) and "channels auto: 4" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["channels"] == 4
    with pytest.raises(InputError, match=r"channels auto is settled by the images: take settle\(config\)"):
        create_state(auto)
