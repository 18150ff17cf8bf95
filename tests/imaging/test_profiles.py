import io
import struct

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


def test_cmyk_goes_through_a_profile_of_its_own():
    convert, note = cmyk_to_srgb(_cmyk_profile())
    assert "own colour profile" in note
    pixels = np.asarray(convert(Image.new("CMYK", (2, 2), (0, 255, 255, 0))))
    # The profile sees every ink as grey; the plain formula would give red.
    assert int(pixels[0, 0].max()) - int(pixels[0, 0].min()) < 8
    assert (np.asarray(convert(Image.new("CMYK", (2, 2)))) > 250).all()


def test_a_cmyk_profile_that_only_claims_to_be_one_does_not_fail(srgb):
    claim = srgb[:16] + b"CMYK" + srgb[20:]
    convert, note = cmyk_to_srgb(claim)
    assert "CMYK" in note
    assert convert(Image.open(io.BytesIO(_jpeg()))).mode == "RGB"


def _cmyk_profile():
    """A smallest printer profile: lightness falls with the inks, whatever their colour."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(16, 4)
    light = 255 - np.minimum(255, inks @ [60, 60, 60, 255])
    grid = np.stack([light, np.full(16, 128), np.full(16, 128)], -1).astype(np.uint8)
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + grid.tobytes() + ramp * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"A2B0", lut), (b"desc", text), (b"wtpt", white), (b"cprt", b"text" + bytes(8))]
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, *KINDS)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


KINDS = (b"prtr", b"CMYK", b"Lab ")


def _jpeg():
    target = io.BytesIO()
    Image.new("CMYK", (2, 2)).save(target, "JPEG")
    return target.getvalue()
