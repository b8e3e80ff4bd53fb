import numpy as np
from PIL import Image

from dcgan_jax.views.grid import grid, save_png


def test_grid_and_png_keep_every_pixel(tmp_path):
    for channels in (1, 3):
        images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, channels), np.uint8)
        sheet = grid(images, columns=3, padding=1)
        assert sheet.shape == (11, 16, channels)
        np.testing.assert_array_equal(sheet[6:10, 6:10], images[4])
        np.testing.assert_array_equal(sheet[1:5, 11:15], images[2])  # the end of the first row
        assert (sheet[6:, 11:] == 255).all()  # the place that is left over
        save_png(tmp_path / "sheet.png", sheet)
        with Image.open(tmp_path / "sheet.png") as saved:
            np.testing.assert_array_equal(np.asarray(saved).reshape(sheet.shape), sheet)
