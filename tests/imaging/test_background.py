import numpy as np
import pytest

from tests.imaging.conftest import noise
from upscale.errors import ServerFault
from upscale.imaging.background import flattened, plain_colour


def test_every_value_and_alpha_of_eight_bits_is_rounded_to_the_nearest():
    value, alpha = np.mgrid[:256, :256].astype(np.uint8)
    for under in (0, 1, 128, 255):
        colour = plain_colour(f"#{under:02x}{under:02x}{under:02x}", 2, 8)
        got = flattened(np.stack([value, alpha], -1), colour)
        exact = (value.astype(float) * alpha + under * (255.0 - alpha)) / 255
        assert got.shape == (256, 256, 1)
        assert (got[..., 0] == np.round(exact)).all()


def test_sixteen_bits_are_rounded_to_the_nearest_at_the_ends_too():
    rows = noise(50, 60, 4, 16)
    rows[:2], rows[2:4, :, 3] = 65535, 0
    colour = plain_colour("#01ff80", 4, 16)
    assert colour.tolist() == [257, 65535, 128 * 257]
    alpha = rows[..., 3:].astype(object)
    exact = rows[..., :3].astype(object) * alpha + colour.astype(object) * (65535 - alpha)
    assert (flattened(rows, colour) == (exact * 2 + 65535) // 131070).all()


def test_opaque_pixels_stay_and_clear_ones_become_the_colour():
    rows = noise(4, 6, 4)
    rows[:, :3, 3], rows[:, 3:, 3] = 255, 0
    got = flattened(rows, plain_colour("#102030", 4, 8))
    assert (got[:, :3] == rows[:, :3, :3]).all()
    assert (got[:, 3:] == [16, 32, 48]).all()


@pytest.mark.parametrize(
    ("background", "channels", "size"), [("#777777", 2, 1), ("#777778", 2, 3), ("#777777", 4, 3)]
)
def test_grey_on_a_colour_becomes_colour(background, channels, size):
    rows = noise(3, 3, channels)
    assert flattened(rows, plain_colour(background, channels, 8)).shape == (3, 3, size)


@pytest.mark.parametrize("background", ["white", "#fff", "#12345g", "#1234567", "#123456\n"])
def test_what_is_no_colour_is_a_fault(background):
    with pytest.raises(ServerFault, match="no colour"):
        plain_colour(background, 4, 8)
