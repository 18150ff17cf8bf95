import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.conftest import noise
from upscale.imaging.alpha import bleed


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 99))
def test_visible_pixels_keep_their_bits_and_the_rest_stays_in_range(height, width, channels, seed):
    colour = noise(height, width, channels, seed=seed)
    alpha = noise(height, width, 1, seed=seed + 1)[..., 0] // 64 * 64
    before = colour.copy()
    bleed(colour, alpha)
    shown = alpha > 0
    assert (colour[shown] == before[shown]).all()
    if shown.any():
        low, high = before[shown].min(axis=0), before[shown].max(axis=0)
        assert (colour >= low).all()
        assert (colour <= high).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_one_visible_colour_goes_everywhere(depth):
    colour = noise(33, 70, 3, depth)
    alpha = np.zeros((33, 70), colour.dtype)
    alpha[20, 3] = 1
    value = colour[20, 3].copy()
    bleed(colour, alpha)
    assert (colour == value).all()


def test_hidden_pixels_take_the_colour_of_the_near_side():
    colour = np.zeros((64, 64, 3), np.uint8)
    alpha = np.zeros((64, 64), np.uint8)
    alpha[:, :8] = alpha[:, -8:] = 255
    colour[:, :8], colour[:, -8:] = (200, 0, 0), (0, 0, 200)
    bleed(colour, alpha)
    assert (colour[:, 8:10, 0] > 180).all()
    assert (colour[:, -10:-8, 2] > 180).all()


def test_all_opaque_and_all_hidden_pictures_are_left_alone():
    for value in (255, 0):
        colour = noise(9, 9, 3)
        before = colour.copy()
        bleed(colour, np.full((9, 9), value, np.uint8))
        assert (colour == before).all()
