import io

import numpy as np
from PIL import Image

from upscale.imaging.profiles import cmyk_to_srgb, matching


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


def test_cmyk_without_a_usable_profile_is_converted_plainly(srgb):
    image = Image.new("CMYK", (2, 2), (0, 0, 0, 0))
    for profile, said in ((None, "no colour profile"), (srgb, "cannot be used")):
        convert, note = cmyk_to_srgb(profile)
        assert said in note
        assert (np.asarray(convert(image)) == 255).all()


def test_a_cmyk_profile_that_only_claims_to_be_one_does_not_fail(srgb):
    claim = srgb[:16] + b"CMYK" + srgb[20:]
    convert, note = cmyk_to_srgb(claim)
    assert "CMYK" in note
    assert convert(Image.open(io.BytesIO(_jpeg()))).mode == "RGB"


def _jpeg():
    target = io.BytesIO()
    Image.new("CMYK", (2, 2)).save(target, "JPEG")
    return target.getvalue()
