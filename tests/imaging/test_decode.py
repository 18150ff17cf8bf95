import io
from dataclasses import replace

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageOps

from tests.imaging.conftest import exif_bytes, make_png, noise
from upscale.errors import UnreadableImage
from upscale.imaging.decode import as_stored, decode
from upscale.imaging.probing import probe


def _decoded(tmp_path, data):
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    return decode(path, probe(path))


def _encoded(image, format, **options):
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_pixels_come_out_to_the_bit(tmp_path, depth, colour_type, samples):
    pixels = noise(21, 33, samples, depth)
    if samples in (2, 4):
        pixels[..., -1] = np.maximum(pixels[..., -1], 1)
    picture = _decoded(tmp_path, make_png(pixels, colour_type))
    colours = samples - (samples in (2, 4))
    assert picture.colour.dtype == pixels.dtype
    assert picture.colour.flags.c_contiguous
    assert picture.colour.flags.writeable
    assert (picture.colour == pixels[..., :colours]).all()
    if samples in (2, 4):
        assert (picture.alpha == pixels[..., -1]).all()
    else:
        assert picture.alpha is None


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_narrow_grey_is_spread_over_the_whole_range(tmp_path, bits):
    image = pyvips.Image.new_from_array(np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8))
    data = image.copy(interpretation="b-w").pngsave_buffer(bitdepth=bits)
    picture = _decoded(tmp_path, data)
    assert picture.colour.shape == (8, 8, 1)
    assert (picture.colour.min(), picture.colour.max()) == (0, 255)
    assert (picture.colour % (255 // (2**bits - 1)) == 0).all()
    assert (picture.colour[..., 0] == np.asarray(Image.open(io.BytesIO(data)).convert("L"))).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_interlaced_png_equals_the_plain_one(tmp_path, depth):
    pixels = noise(37, 29, 3, depth)
    image = pyvips.Image.new_from_array(pixels)
    kind = "rgb16" if depth == 16 else "srgb"
    data = image.copy(interpretation=kind).pngsave_buffer(interlace=True)
    assert (_decoded(tmp_path, data).colour == pixels).all()


def test_palettes_become_rgb_and_transparent_ones_get_alpha(tmp_path):
    image = Image.fromarray(noise(9, 11, 3)).quantize(7)
    plain = _decoded(tmp_path, _encoded(image, "PNG"))
    assert plain.alpha is None
    assert (plain.colour == np.asarray(image.convert("RGB"))).all()
    clear = _decoded(tmp_path, _encoded(image, "PNG", transparency=2))
    assert clear.alpha is not None
    assert (clear.alpha == np.where(np.asarray(image) == 2, 0, 255)).all()


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_of_grey_becomes_alpha(tmp_path, depth):
    pixels = noise(9, 11, 1, depth) // 3 * 3
    key = int(pixels[4, 4, 0])
    picture = _decoded(tmp_path, make_png(pixels, 0, (b"tRNS", key.to_bytes(2, "big"))))
    top = 65535 if depth == 16 else 255
    assert picture.colour.shape == (9, 11, 1)
    assert (picture.alpha == np.where(pixels[..., 0] == key, 0, top)).all()


def test_opaque_alpha_is_dropped(tmp_path):
    pixels = noise(9, 11, 4)
    pixels[..., 3] = 255
    picture = _decoded(tmp_path, make_png(pixels, 6))
    assert picture.alpha is None
    assert (picture.colour == pixels[..., :3]).all()


def test_colour_is_bled_under_what_is_invisible(tmp_path):
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[:, :8] = (200, 100, 50, 255)
    picture = _decoded(tmp_path, make_png(pixels, 6))
    assert (picture.colour == (200, 100, 50)).all()
    assert picture.alpha is not None
    assert (picture.alpha[:, 8:] == 0).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_and_the_tag_reset(tmp_path, turn):
    pixels = noise(5, 7, 4)
    pixels[..., 3] |= 1
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = turn
    picture = _decoded(tmp_path, _encoded(image, "PNG", exif=exif_bytes(turn)))
    want = np.asarray(ImageOps.exif_transpose(image))
    assert (picture.colour == want[..., :3]).all()
    assert (picture.alpha == want[..., 3]).all()
    assert picture.colour.flags.c_contiguous
    assert picture.metadata.exif == exif_bytes(1)


def test_the_stored_view_of_a_turned_picture_is_a_view():
    shown = noise(3, 4, 1)
    for turn in range(1, 9):
        assert np.shares_memory(as_stored(shown, turn), shown)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(tmp_path, mode, progressive):
    image = Image.fromarray(noise(33, 41, 3)).convert(mode)
    data = _encoded(image, "JPEG", quality=80, progressive=progressive)
    want = np.asarray(Image.open(io.BytesIO(data))).reshape(33, 41, -1)
    assert (_decoded(tmp_path, data).colour == want).all()


def test_webp_equals_pillow_with_alpha(tmp_path):
    image = Image.fromarray(noise(33, 41, 4) | 1)
    picture = _decoded(tmp_path, _encoded(image, "WEBP", lossless=True))
    assert (picture.colour == np.asarray(image)[..., :3]).all()
    assert (picture.alpha == np.asarray(image)[..., 3]).all()


def test_cmyk_becomes_srgb_with_a_note_and_without_its_profile(tmp_path, srgb):
    image = Image.new("CMYK", (9, 7), (0, 255, 255, 0))
    picture = _decoded(tmp_path, _encoded(image, "JPEG", quality=95, icc_profile=srgb))
    assert picture.metadata.icc is None
    assert len(picture.notes) == 1
    assert "CMYK was converted to sRGB" in picture.notes[0]
    red, green, blue = picture.colour[3, 4]
    assert red > 200
    assert max(green, blue) < 60


def test_profiles_are_kept_only_where_they_match(tmp_path, srgb, grey_profile):
    colour, grey = Image.new("RGB", (5, 5)), Image.new("L", (5, 5))
    assert _decoded(tmp_path, _encoded(colour, "PNG", icc_profile=srgb)).metadata.icc == srgb
    assert _decoded(tmp_path, _encoded(colour, "WEBP", icc_profile=srgb)).metadata.icc == srgb
    assert (
        _decoded(tmp_path, _encoded(grey, "JPEG", icc_profile=grey_profile)).metadata.icc
        == grey_profile
    )
    wrong = _decoded(tmp_path, _encoded(grey, "JPEG", icc_profile=srgb))
    assert wrong.metadata.icc is None
    assert "RGB" in wrong.notes[0]


def test_broken_exif_is_a_note(tmp_path):
    picture = _decoded(tmp_path, _encoded(Image.new("L", (5, 5)), "JPEG", exif=b"Exif\0\0junk"))
    assert picture.metadata.exif is None
    assert "EXIF block is damaged" in picture.notes[0]


def test_only_the_first_of_several_pictures_is_used_and_noted(tmp_path):
    frames = [Image.fromarray(noise(4, 5, 3, seed=n)) for n in range(3)]
    data = _encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    picture = _decoded(tmp_path, data)
    assert (picture.colour == np.asarray(frames[0])).all()
    assert "only the first" in picture.notes[0]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.99, 0.7, 0.3])
def test_truncated_files_are_refused(tmp_path, format, kept):
    data = _encoded(Image.fromarray(noise(64, 64, 3)), format)
    with pytest.raises(UnreadableImage, match="broken, cut off"):
        _decoded(tmp_path, data[: int(len(data) * kept)])


def test_damaged_pixel_data_of_a_png_is_refused(tmp_path):
    data = bytearray(make_png(noise(64, 64, 3), 2))
    data[len(data) // 2] ^= 255
    with pytest.raises(UnreadableImage, match="pixel data cannot be decoded"):
        _decoded(tmp_path, bytes(data))


def test_a_file_that_changed_after_the_probe_is_refused(rgb_jpeg):
    with pytest.raises(UnreadableImage, match="changed"):
        decode(rgb_jpeg, replace(probe(rgb_jpeg), width=99))


def test_a_path_that_holds_another_file_than_before_is_read_anew(tmp_path):
    for seed in (1, 2):
        pixels = noise(8, 8, 3, seed=seed)
        assert (_decoded(tmp_path, make_png(pixels, 2)).colour == pixels).all()
