import numpy as np
from PIL import Image

from dcgan_jax.views.classes import Row, save_classes


def row(name, *, samples=12, excess=0.01, share=0.5, channels=1):
    gray = np.full((12, 32, 32, channels), 100, np.uint8)
    return Row(name, gray[:4], gray[:samples], (share, share, share), 0.5, (excess, excess, excess))


def pixels(path, rows):
    save_classes(path, rows, step=7, features="CIFAR")
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_row_for_each_class(tmp_path):
    path = tmp_path / "classes.png"
    two, ten = (pixels(path, [row(str(i)) for i in range(n)]) for n in (2, 10))
    assert two.shape == (180, ten.shape[1], 3) and ten.shape[0] == 580
    assert path.stat().st_size < 100_000


def test_a_class_without_samples_leaves_their_place_white_and_has_no_bar(tmp_path):
    def count(picture, colour):
        return (np.abs(picture - colour).max(-1) < 12).sum()

    path, gray, blue = tmp_path / "classes.png", (100, 100, 100), (31, 119, 180)
    full = pixels(path, [row("a"), row("b")])
    less = pixels(path, [row("a"), row("b", samples=0, excess=np.nan)])
    assert 0.58 < count(less, gray) / count(full, gray) < 0.68  # 20 of 32 images
    assert 0.5 < count(less, blue) / count(full, blue) < 0.9  # three of four bars
    colour = pixels(path, [row("a", channels=3), row("b", channels=3)])
    assert np.array_equal(colour, full)
