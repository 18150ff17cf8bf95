import pytest

from upscale.errors import InvalidParameter, TooLarge
from upscale.imaging.limits import FORMATS, check_input, check_output, normalise_format
from upscale.imaging.probe import Probe


def _probe(width, height):
    return Probe("png", width, height, 3, False, 8, 1, 1, False, 100)


def _check(format, width, height, *, pixels=1 << 28, side=65535, whole=1 << 26):
    check_output(format, width, height, max_pixels=pixels, max_side=side, max_whole_pixels=whole)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("jpg", "jpeg"),
        ("JPEG", "jpeg"),
        (" .PNG", "png"),
        ("image/webp", "webp"),
        ("jpe", "jpeg"),
        ("tif", "tiff"),
    ],
)
def test_spellings_of_a_format_are_one(name, key):
    assert normalise_format(name) == key


@pytest.mark.parametrize("name", ["bmp", "heic", "", "exe", "pngx"])
def test_other_formats_are_refused_with_the_list(name):
    with pytest.raises(InvalidParameter, match="png, jpeg, webp") as caught:
        normalise_format(name)
    assert caught.value.field == "output_format"


def test_an_input_is_judged_by_its_pixels():
    check_input(_probe(1000, 1000), 1_000_000)
    with pytest.raises(TooLarge, match=r"1001 x 1000.*1,001,000 pixels.*1,000,000") as caught:
        check_input(_probe(1001, 1000), 1_000_000)
    assert (caught.value.got, caught.value.limit) == (1_001_000, 1_000_000)
    assert caught.value.status == 413


def test_a_png_of_16384_squared_passes_and_one_row_more_does_not():
    _check("png", 16384, 16384)
    with pytest.raises(TooLarge, match="smaller scale_factor") as caught:
        _check("png", 16384, 16385)
    assert caught.value.field == "scale_factor"


def test_the_longest_side_is_limited():
    with pytest.raises(TooLarge, match="70,000 pixels; the limit is 65,535"):
        _check("png", 70000, 10)


@pytest.mark.parametrize(("format", "side"), [("jpeg", 65500), ("webp", 16383), ("avif", 16384)])
def test_the_sides_of_a_format_are_limited(format, side):
    _check(format, side, 2, side=1 << 20)
    with pytest.raises(TooLarge, match=r"'png'.*bands") as caught:
        _check(format, 2, side + 1, side=1 << 20)
    assert caught.value.limit == side
    assert caught.value.field == "output_format"


def test_formats_encoded_whole_have_a_limit_of_their_own_with_a_way_out():
    with pytest.raises(TooLarge, match="output_format 'png'"):
        _check("webp", 8193, 8192)
    _check("webp", 8192, 8192)
    _check("jpeg", 8193, 8192)
    _check("png", 8193, 8192)


def test_the_table_names_what_each_format_holds():
    def those(fact):
        return {name for name, facts in FORMATS.items() if fact(facts)}

    assert those(lambda f: not f.alpha) == {"jpeg"}
    assert those(lambda f: f.depth16) == {"png", "tiff", "avif"}
    assert those(lambda f: not f.whole_bytes) == {"png", "jpeg", "tiff"}
    assert FORMATS["jpeg"].mime == "image/jpeg"
    assert FORMATS["jpeg"].extension == ".jpg"
