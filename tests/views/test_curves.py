"""progress.png: that its panels are used."""

import numpy as np
from PIL import Image

from dcgan_jax.views.curves import save_progress


def test_the_curve_of_kid_fills_its_panel_though_real_images_have_a_kid_below_zero(tmp_path):
    steps = [float(step) for step in range(100, 1100, 100)]
    curves = {"step": steps, "loss_D": [1.0] * 10, "loss_G": [2.0] * 10, "kid": [10 * 0.6**i for i in range(10)]}
    save_progress(
        tmp_path / "a.png",
        {**curves, "kid_floor": [-0.002] * 10},
        np.full((30, 70, 3), 255, np.uint8),
        step=1000,
        best=900,
    )
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    green = (abs(picture - (44, 160, 44)).sum(-1) < 60).nonzero()
    dark = (picture.sum(-1) < 60)[:, green[1].min() - 100 : green[1].min()]
    frame = np.flatnonzero(dark[:, dark.sum(0).argmax()])  # the left edges of the panels
    starts, ends = (frame[np.diff(frame, prepend=-9) > 1], frame[np.diff(frame, append=10**6) > 1])
    (height,) = [end - start for start, end in zip(starts, ends) if start < np.median(green[0]) < end]
    assert np.ptp(green[0]) > 0.75 * height
