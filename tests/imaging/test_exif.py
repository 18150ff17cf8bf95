import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.imaging.conftest import exif_bytes
from upscale.imaging.exif import cleaned, orientation, sized


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_read_and_reset_in_both_byte_orders(turn, order):
    block = exif_bytes(turn, order=order)
    assert orientation(block) == turn
    assert orientation(cleaned(block)) == 1


@pytest.mark.parametrize("turn", [0, 9, 65535])
def test_an_orientation_out_of_range_counts_as_upright(turn):
    assert orientation(exif_bytes(turn)) == 1


def test_the_thumbnail_goes_and_the_rest_stays():
    block = exif_bytes(6, thumbnail=b"\xff\xd8" + b"secret face" * 50)
    clean = cleaned(block)
    assert b"secret face" not in clean
    assert len(clean) < len(block)
    read = Image.Exif()
    read.load(clean)
    assert read[0x0112] == 1
    assert read[0x010F] == "A camera of some make"
    assert not read.get_ifd(1)


def test_a_block_without_a_thumbnail_changes_by_the_tag_alone():
    assert cleaned(exif_bytes(8)) == exif_bytes(1)


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\0\0", b"MM\0*\0"])
def test_a_broken_block_is_a_value_error(block):
    assert orientation(block) == 1
    with pytest.raises(ValueError, match=r"\w"):
        cleaned(block)


@given(st.integers(0, 400), st.binary(max_size=8), st.booleans())
def test_damage_never_gives_more_than_a_value_error(at, patch, cut):
    block = bytearray(exif_bytes(6, thumbnail=b"\xff\xd8" + bytes(300)))
    block[at : at + len(patch)] = patch
    damaged = bytes(block[:at] if cut else block)
    assert 1 <= orientation(damaged) <= 8
    with contextlib.suppress(ValueError):
        assert cleaned(damaged).startswith(b"Exif\0\0")


def test_sizes_are_set_in_both_places_even_past_sixteen_bits():
    exif = Image.Exif()
    exif[0x0100], exif[0x0101] = 40, 30
    exif.get_ifd(0x8769).update({0xA002: 40, 0xA003: 30, 0x9003: "2020:01:01 00:00:00"})
    block = sized(cleaned(exif.tobytes()), 70000, 120)
    read = Image.Exif()
    read.load(block)
    assert (read[0x0100], read[0x0101]) == (70000, 120)
    inner = read.get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == (70000, 120)
    assert inner[0x9003] == "2020:01:01 00:00:00"


def test_a_block_that_states_no_size_gets_none():
    assert sized(exif_bytes(1), 8, 9) == exif_bytes(1)
