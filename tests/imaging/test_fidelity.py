"""White stays white, opaque opaque, and letters letters: across depths, spaces and formats."""

import io
import struct

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from tests.imaging.conftest import make_png, noise
from upscale.errors import InvalidParameter, UnreadableImage
from upscale.imaging import exif as exif_block
from upscale.imaging.decode import decode
from upscale.imaging.limits import normalise_colour
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec
from upscale.imaging.probing import probe
from upscale.imaging.sinks import open_sink

WORDS = "© 2024 José"


def _decoded(tmp_path, data, **options):
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    return decode(path, probe(path), **options)


def _avif(pixels, bits):
    kind = "rgb16"
    image = pyvips.Image.new_from_array(pixels).copy(interpretation=kind)
    return image.heifsave_buffer(compression="av1", bitdepth=bits, Q=100, effort=2, lossless=True)


def _exif_with(words: bytes) -> bytes:
    """Copyright in UTF-8, and a maker note whose place is noted."""
    note = b"MAKER" + bytes(range(50))
    inner_at = 8 + 2 + 3 * 12 + 4 + len(words) + len(words) % 2
    body = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 3)
    body += struct.pack("<HHIHH", 0x0112, 3, 1, 1, 0)
    body += struct.pack("<HHII", 0x8298, 2, len(words), 8 + 2 + 36 + 4)
    body += struct.pack("<HHII", 0x8769, 4, 1, inner_at) + bytes(4)
    body += words + bytes(len(words) % 2)
    body += struct.pack("<HHHII", 1, 0x927C, 7, len(note), inner_at + 18) + bytes(4) + note
    return b"Exif\0\0" + body


@pytest.mark.parametrize("bits", [10, 12])
def test_a_deep_avif_reaches_white_and_opaque(tmp_path, bits):
    pixels = np.full((16, 16, 4), 65535, np.uint16)
    picture = _decoded(tmp_path, _avif(pixels, bits))
    assert picture.colour.dtype == np.uint16
    assert picture.colour.min() > 65535 - (1 << (16 - bits)) * 2
    assert picture.alpha is None


@pytest.mark.parametrize("depth", [8, 16])
def test_the_opacity_of_inks_is_kept(tmp_path, depth):
    top = (1 << depth) - 1
    pixels = np.zeros((9, 9, 5), np.uint16 if depth == 16 else np.uint8)
    pixels[..., 4] = top // 2
    target = io.BytesIO()
    tifffile.imwrite(target, pixels, photometric="separated", extrasamples=["unassalpha"])
    picture = _decoded(tmp_path, target.getvalue())
    assert picture.alpha is not None
    assert (picture.alpha == top // 2).all()
    assert picture.colour.min() > top * 0.97


@pytest.mark.parametrize("depth", [8, 16])
def test_lab_is_seen_by_d50_whatever_its_depth(tmp_path, depth):
    lab = Image.new("LAB", (9, 9), (128, 158, 88))  # L 50.2, a 30, b -40
    profile = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    want = ImageCms.profileToProfile(lab, profile, srgb, outputMode="RGB").getpixel((4, 4))
    target = io.BytesIO()
    if depth == 8:
        lab.save(target, "TIFF")
    else:
        image = pyvips.Image.new_from_array(np.tile([50.2, 30.0, -40.0], (9, 9, 1)))
        image = image.copy(interpretation="lab").colourspace("labs")
        target.write(image.tiffsave_buffer())
    picture = _decoded(tmp_path, target.getvalue())
    got = picture.colour[4, 4] / (257 if picture.colour.dtype == np.uint16 else 1)
    assert np.abs(got - want).max() <= 2


def test_ycbcr_without_jpeg_is_converted(tmp_path):
    target = io.BytesIO()
    Image.new("RGB", (16, 16), (228, 89, 60)).convert("YCbCr").save(target, "TIFF")
    got = _decoded(tmp_path, target.getvalue()).colour[8, 8].astype(int)
    assert np.abs(got - (228, 89, 60)).max() <= 3


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ([(50706, "B", 4, (1, 4, 0, 0), True)], "raw file"),
        ([(262, "H", 1, 32803, True)], "raw file"),
        ([(262, "H", 1, 32845, True)], "coded in a way"),
    ],
)
def test_what_only_begins_like_a_tiff_is_refused_by_name(tmp_path, tags, said):
    target = io.BytesIO()
    tifffile.imwrite(target, noise(8, 8, 1)[..., 0], extratags=[t for t in tags if t[0] != 262])
    data = bytearray(target.getvalue())
    for tag, *_, value, _ in tags:
        if tag == 262:
            at = data.index(struct.pack("<HHI", 262, 3, 1))
            data[at + 8 : at + 12] = struct.pack("<I", value)
    with pytest.raises(UnreadableImage, match=said):
        _decoded(tmp_path, bytes(data))


def test_what_is_no_number_is_refused(tmp_path):
    pixels = np.zeros((9, 9), np.float32)
    pixels[4, 4] = np.nan
    target = io.BytesIO()
    tifffile.imwrite(target, pixels)
    with pytest.raises(UnreadableImage, match="no numbers"):
        _decoded(tmp_path, target.getvalue())


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif", "tiff"])
def test_letters_beyond_ascii_and_maker_notes_stay_as_they_are(tmp_path, format):
    exif = _exif_with(WORDS.encode() + b"\0")
    path = tmp_path / "result"
    sink = open_sink(path, OutputSpec(format, 16, 16, 3, 8), Metadata(exif=exif))
    sink.write(noise(16, 16, 3))
    sink.close()
    data = path.read_bytes()
    assert WORDS.encode() in data
    assert b"MAKER" + bytes(range(50)) in data
    again = decode(path, probe(path)).metadata.exif
    assert again is not None
    assert WORDS.encode() in again


@pytest.mark.parametrize("exif", [None, _exif_with(b"Me\0")])
def test_a_deep_avif_carries_no_exif_but_the_picture_s(tmp_path, exif):
    path = tmp_path / "result"
    metadata = Metadata(exif=exif, dpi=(300.0, 300.0))
    sink = open_sink(path, OutputSpec("avif", 16, 16, 3, 16), metadata)
    sink.write(noise(16, 16, 3, 16))
    sink.close()
    with Image.open(path) as image:
        found = image.getexif()
        assert bool(found) == (exif is not None)
        if exif:
            assert found[0x011A] == 300


def test_the_resolution_of_exif_holds_where_the_container_states_none(tmp_path):
    exif = Image.Exif()
    exif[0x011A], exif[0x011B], exif[0x0128] = 300.0, 240.0, 2
    target = io.BytesIO()
    Image.new("RGB", (9, 9)).save(target, "JPEG", exif=exif)
    assert _decoded(tmp_path, target.getvalue()).metadata.dpi == (300.0, 240.0)


def test_a_thumbnail_before_its_directory_goes_too():
    pixels = b"\xff\xd8" + b"secret face" * 9
    first = 8 + len(pixels) + len(pixels) % 2
    body = b"II*\0" + struct.pack("<I", first) + pixels + bytes(len(pixels) % 2)
    body += struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0)
    body += struct.pack("<I", first + 18)
    body += struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 8, 0x0202, 4, 1, len(pixels)) + bytes(4)
    assert b"secret face" not in exif_block.cleaned(b"Exif\0\0" + body)


def test_taking_the_orientation_out_moves_nothing_else():
    exif = _exif_with(WORDS.encode() + b"\0")
    without = exif_block.without_orientation(exif)
    assert len(without) == len(exif)
    assert without.index(b"MAKER") == exif.index(b"MAKER")
    read = Image.Exif()
    read.load(without)
    assert 0x0112 not in read
    assert read.get_ifd(0x8769)[0x927C].startswith(b"MAKER")


def test_transparency_behind_the_pixels_counts_for_nothing(tmp_path):
    plain = make_png(noise(9, 9, 3), 2)
    odd = make_png(noise(9, 9, 3), 2, (b"tRNS", bytes(6)))
    chunk = odd[33 : 33 + 18]
    picture = _decoded(tmp_path, plain[:-12] + chunk + plain[-12:])
    assert picture.alpha is None
    assert "tRNS" in picture.notes[0]


def test_a_bitmap_whose_fourth_byte_is_empty_is_opaque(tmp_path):
    pixels = noise(9, 9, 4)
    pixels[..., 3] = 0
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "BMP")
    assert _decoded(tmp_path, target.getvalue()).alpha is None


@pytest.mark.parametrize("colour", ["rgb(300,0,0)", "#ff00ff80", "hsv(0,100%,200%)", "nocolour"])
def test_a_colour_that_is_none_or_not_opaque_is_refused(colour):
    with pytest.raises(InvalidParameter):
        normalise_colour(colour, "background_color")


def test_what_has_no_place_is_said(tmp_path):
    metadata = Metadata(exif=_exif_with(b"Me\0"), iptc=b"x", dpi=(300.0, 300.0))
    for format, words in (("gif", "EXIF, IPTC, dots an inch"), ("png", "IPTC"), ("tiff", "")):
        sink = open_sink(tmp_path / "a", OutputSpec(format, 9, 9, 1, 8), metadata)
        sink.abort()
        assert [note for note in sink.notes if "no place" in note] == (
            [f"{format.upper()} has no place for {words}: left out."] if words else []
        )
