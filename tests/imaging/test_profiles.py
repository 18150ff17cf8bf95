import numpy as np
import pytest

from tests.imaging.conftest import icc_profile, noise
from upscale.imaging import vips
from upscale.imaging.encoding import Encoding, fault_of, is_srgb
from upscale.imaging.profiles import decoded, matching, one_channel, three_channels, to_srgb

SRGB = Encoding(45455, (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))


def _image(pixels):
    kinds = {(1, 1): "b-w", (3, 1): "srgb", (4, 1): "srgb", (1, 2): "grey16", (3, 2): "rgb16"}
    kind = kinds[pixels.shape[2], pixels.dtype.itemsize]
    return vips.from_array(pixels).copy(interpretation=kind)


def test_a_profile_is_kept_for_the_pixels_that_it_describes(srgb, grey_profile):
    assert matching(srgb, 3) == (srgb, "")
    assert matching(grey_profile, 1) == (grey_profile, "")
    assert matching(None, 3) == (None, "")


def test_a_profile_for_other_pixels_is_dropped_with_a_note(srgb, grey_profile):
    for profile, channels, said in ((srgb, 1, "RGB"), (grey_profile, 3, "grey")):
        kept, note = matching(profile, channels)
        assert kept is None
        assert f"for {said} pixels" in note


def test_a_damaged_profile_is_dropped_with_a_note(srgb):
    for profile in (b"", b"nonsense", srgb[:-10], srgb[:36] + b"xxxx" + srgb[40:]):
        kept, note = matching(profile, 3)
        assert kept is None
        assert "damaged" in note


def test_a_profile_that_describes_no_pixels_is_dropped_with_a_note(srgb):
    empty = icc_profile((b"mntr", b"RGB ", b"XYZ "))  # no curves, no primaries
    link = srgb[:12] + b"link" + srgb[16:]
    for profile in (empty, link):
        kept, note = matching(profile, 3)
        assert kept is None
        assert "cannot be used" in note


@pytest.mark.parametrize("depth", [8, 16])
def test_colours_go_through_a_profile_at_their_depth(wide_profile, srgb, depth):
    pixels = noise(4, 9, 3, depth)
    same = to_srgb(_image(pixels), srgb).numpy()
    assert np.abs(same.astype(int) - pixels).max() <= (2 if depth == 8 else 400)
    other = to_srgb(_image(pixels), wide_profile).numpy()
    assert other.dtype == pixels.dtype
    assert np.abs(other.astype(int) - pixels).max() > (255 if depth == 8 else 65535) // 20


def test_alpha_passes_a_profile_untouched(wide_profile):
    pixels = noise(4, 9, 4)
    assert (to_srgb(_image(pixels), wide_profile).numpy()[..., 3] == pixels[..., 3]).all()


def test_grey_through_a_profile_stays_grey(grey_profile):
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 256, 1)
    out = to_srgb(_image(ramp), grey_profile).numpy().reshape(256).astype(int)
    light = (np.arange(256) / 255) ** 1.8
    want = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(out - want)[3:].max() <= 2


def test_grey_can_be_widened_and_narrowed_again():
    pixels = noise(3, 5, 1)
    wide = three_channels(_image(pixels), alpha=False)
    assert wide.bands == 3
    assert (one_channel(wide, alpha=False).numpy().reshape(3, 5, 1) == pixels).all()


def test_cmyk_without_a_profile_is_white_where_there_is_no_ink():
    paper = vips.from_array(np.zeros((2, 2, 4), np.uint8)).copy(interpretation="cmyk")
    assert to_srgb(paper, None).numpy().min() >= 250


def test_cmyk_goes_through_a_profile_of_its_own(cmyk_profile):
    inks = np.zeros((2, 2, 4), np.uint8)
    inks[..., 1:3] = 255
    image = vips.from_array(inks).copy(interpretation="cmyk")
    pixels = to_srgb(image, cmyk_profile).numpy()
    # This profile sees every ink as grey; the plain formula would give red.
    assert int(pixels[0, 0].max()) - int(pixels[0, 0].min()) < 8


@pytest.mark.parametrize("depth", [8, 16])
def test_srgb_said_by_gama_and_chrm_changes_nothing_but_rounding(depth):
    pixels = noise(6, 7, 3, depth)
    # A gamma of 1 / 2.2 is not sRGB's curve; with no gamma the curve is taken as sRGB's own.
    out = decoded(_image(pixels), SRGB._replace(gamma=None), alpha=False).numpy()
    assert np.abs(out.astype(int) - pixels).max() <= (1 if depth == 8 else 30)
    assert is_srgb(SRGB)
    assert not is_srgb(SRGB._replace(gamma=100_000))


def test_linear_light_becomes_srgb():
    pixels = np.array([[[0], [13], [55], [128], [255]]], np.uint8)
    out = decoded(_image(pixels), Encoding(100_000, None), alpha=False).numpy().reshape(-1)
    # IEC 61966-2-1 by hand: 255 * code(v / 255)
    assert np.abs(out.astype(int) - [0, 63, 128, 188, 255]).max() <= 1


def test_swapped_primaries_swap_the_channels():
    x, y = SRGB.primaries[2:4], SRGB.primaries[4:6]
    swapped = Encoding(None, (*SRGB.primaries[:2], *y, *x, *SRGB.primaries[6:]))
    pixels = noise(6, 7, 3)
    out = decoded(_image(pixels), swapped, alpha=False).numpy()
    assert np.abs(out.astype(int) - pixels[..., [1, 0, 2]]).max() <= 1


def test_values_that_make_no_sense_are_named():
    assert fault_of(SRGB) == ""
    assert "gamma" in fault_of(Encoding(0, None))
    assert "primaries" in fault_of(Encoding(None, (0,) * 8))
    assert "primaries" in fault_of(Encoding(None, (31270, 32900) * 4))
