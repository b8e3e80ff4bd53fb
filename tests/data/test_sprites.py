import numpy as np

from dcgan_jax.data import sprites


def test_a_sprite_is_a_function_of_seed_and_index():
    first, label = sprites.draw(0, 3)
    np.testing.assert_array_equal(first, sprites.draw(0, 3)[0])
    assert first.shape == (64, 64, 3) and first.dtype == np.uint8
    assert sprites.PLANS[label] == "bear"
    assert not np.array_equal(first, sprites.draw(1, 3)[0])


def test_creatures_fill_a_light_frame():
    for i in range(40):
        picture, _ = sprites.draw(2, i)
        border = np.concatenate([picture[0], picture[:3, 0], picture[:3, -1]])
        assert np.median(border) >= 230
        drawn = np.abs(picture.astype(int) - picture[0, 0]).sum(axis=-1) > 60
        assert 0.2 < drawn.mean() < 0.9


def test_all_plans_take_turns_and_no_two_pictures_are_alike():
    assert len(sprites.PLANS) >= 8
    pictures, labels = zip(*(sprites.draw(0, i) for i in range(2000)))
    assert np.bincount(labels).tolist() == [200] * 10
    assert len({picture.tobytes() for picture in pictures}) == 2000


def test_creatures_can_be_had_without_a_background():
    for i in (0, 7, 123):
        with_one, without = sprites.draw(0, i)[0], sprites.draw(0, i, alpha=True)[0]
        assert without.shape == (64, 64, 4) and (without[[0, 0, -1], [0, -1, 0]] == 0).all()
        inside = without[..., 3] == 255
        np.testing.assert_array_equal(without[inside][:, :3], with_one[inside])
        edge = (without[..., 3] > 0) & ~inside
        assert 0.2 < inside.mean() < 0.8 and 0 < edge.mean() < 0.2  # smooth edges
