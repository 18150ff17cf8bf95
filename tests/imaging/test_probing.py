import contextlib
import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.imaging.conftest import exif_bytes, make_png, noise, png_chunk
from upscale.errors import UnreadableImage
from upscale.imaging import probing
from upscale.imaging.probing import probe, read_header

GOOD_PNG = make_png(noise(4, 5, 3), 2, (b"eXIf", exif_bytes(6)[6:]))


def _saved(tmp_path, data, name="file.bin"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def _encoded(image, format, **options):
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("colour_type", "samples", "channels", "alpha"),
    [(0, 1, 1, False), (2, 3, 3, False), (4, 2, 1, True), (6, 4, 3, True)],
)
def test_png_depths_and_colour_types(tmp_path, depth, colour_type, samples, channels, alpha):
    path = _saved(tmp_path, make_png(noise(4, 5, samples, depth), colour_type))
    found = probe(path)
    assert (found.format, found.width, found.height) == ("png", 5, 4)
    assert (found.channels, found.alpha, found.depth) == (channels, alpha, depth)
    assert found.bytes == path.stat().st_size
    assert not found.icc


def test_a_palette_counts_as_rgb_and_transparency_as_alpha(tmp_path):
    image = Image.fromarray(noise(4, 5, 3)).quantize(4)
    plain = probe(_saved(tmp_path, _encoded(image, "PNG")))
    assert (plain.channels, plain.alpha, plain.depth) == (3, False, 8)
    clear = probe(_saved(tmp_path, _encoded(image, "PNG", transparency=0)))
    assert (clear.channels, clear.alpha) == (3, True)


def test_one_bit_grey_counts_as_grey_of_eight(tmp_path):
    found = probe(_saved(tmp_path, _encoded(Image.new("1", (9, 3)), "PNG")))
    assert (found.channels, found.alpha, found.depth) == (1, False, 8)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes(tmp_path, mode):
    found = probe(_saved(tmp_path, _encoded(Image.new(mode, (9, 3)), "JPEG")))
    assert (found.format, found.channels, found.alpha) == ("jpeg", 1 if mode == "L" else 3, False)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_modes(tmp_path, mode):
    image = Image.new(mode, (9, 3), (10, 20, 30, 40)[: len(mode)])
    found = probe(_saved(tmp_path, _encoded(image, "WEBP", lossless=True)))
    assert (found.format, found.channels, found.alpha) == ("webp", 3, mode == "RGBA")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_swaps_the_sides_from_five_up(tmp_path, format, turn):
    data = _encoded(Image.new("RGB", (9, 3)), format, exif=exif_bytes(turn))
    found = probe(_saved(tmp_path, data))
    assert found.orientation == turn
    assert (found.width, found.height) == ((3, 9) if turn >= 5 else (9, 3))


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path):
    data = make_png(noise(4, 5, 3), 2)
    late = data[:-12] + png_chunk(b"eXIf", exif_bytes(6)[6:]) + data[-12:]
    assert probe(_saved(tmp_path, late)).orientation == 6


def test_orientation_in_xmp_or_in_imagemagicks_text_is_found(tmp_path):
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="8"/>'
    assert probe(_saved(tmp_path, make_png(noise(4, 5, 3), 2, (b"iTXt", xmp)))).orientation == 8
    digits = exif_bytes(5).hex().encode()
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      99\n" + digits + b"\n")
    assert probe(_saved(tmp_path, make_png(noise(4, 5, 3), 2, (b"zTXt", text)))).orientation == 5


def test_frames_are_counted(tmp_path):
    frames = [Image.fromarray(noise(4, 5, 3, seed=n)) for n in range(3)]
    for format in ("PNG", "WEBP", "MPO"):
        data = _encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert probe(_saved(tmp_path, data)).frames == 3, format


def test_an_mpo_is_a_jpeg(tmp_path):
    image = Image.fromarray(noise(4, 5, 3))
    data = _encoded(image, "MPO", save_all=True, append_images=[image])
    assert probe(_saved(tmp_path, data)).format == "jpeg"


def test_the_name_of_a_file_does_not_matter(tmp_path):
    assert probe(_saved(tmp_path, GOOD_PNG, "photo.jpg")).format == "png"
    gif = _encoded(Image.new("L", (3, 3)), "GIF")
    assert probe(_saved(tmp_path, gif, "photo.png")).format == "gif"
    with pytest.raises(UnreadableImage, match="icon"):
        probe(_saved(tmp_path, _encoded(Image.new("L", (16, 16)), "ICO"), "photo.png"))


def test_an_enormous_header_gives_a_probe_at_once(tmp_path):
    header = struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 2, 0, 0, 0)
    data = GOOD_PNG[:8] + png_chunk(b"IHDR", header) + GOOD_PNG[33:]
    assert probe(_saved(tmp_path, data)).pixels == 1 << 40


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"just words", "text"),
        (GOOD_PNG[:20], "header chunk"),
        (GOOD_PNG[:33], "no pixel data"),
        (GOOD_PNG[:16] + b"\0\0\0\0" + GOOD_PNG[20:], "checksum"),
        (GOOD_PNG[:8] + png_chunk(b"IHDR", bytes(13)) + GOOD_PNG[33:], "0 x 0"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG but is broken"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "WebP but is broken"),
    ],
)
def test_broken_files_are_refused_with_what_is_wrong(tmp_path, data, said):
    with pytest.raises(UnreadableImage, match=said):
        probe(_saved(tmp_path, data))


def test_damaged_and_oversized_metadata_are_notes(tmp_path):
    bomb = b"ICC profile\0\0" + zlib.compress(bytes(40 << 20))
    data = make_png(noise(4, 5, 3), 2, (b"iCCP", bomb), (b"gAMA", struct.pack(">I", 7)))
    header = read_header(_saved(tmp_path, data))
    assert not header.probe.icc
    assert "iCCP" in header.notes[0]
    assert "gAMA" in header.notes[1]
    wrong = bytearray(GOOD_PNG)
    wrong[GOOD_PNG.index(b"eXIf") + 5] ^= 255
    header = read_header(_saved(tmp_path, bytes(wrong)))
    assert header.probe.orientation == 1
    assert "checksum" in header.notes[0]


def test_a_probe_survives_json(tmp_path):
    found = probe(_saved(tmp_path, GOOD_PNG))
    assert type(found).from_json(found.to_json()) == found
    assert replace(found, width=1) != found


SEEDS = [
    GOOD_PNG,
    _encoded(Image.fromarray(noise(6, 7, 3)), "JPEG", exif=exif_bytes(3)),
    _encoded(Image.fromarray(noise(6, 7, 4)), "WEBP", lossless=True, exif=exif_bytes(3)),
]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([*SEEDS, b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"]),
    st.integers(0, 400),
    st.binary(max_size=40),
    st.booleans(),
)
@example(SEEDS[0], 0, b"", False)
def test_random_bytes_give_a_probe_or_a_refusal(tmp_path, seed, at, patch, cut):
    data = seed[:at] + patch + (b"" if cut else seed[at + len(patch) :])
    with contextlib.suppress(UnreadableImage):
        assert probe(_saved(tmp_path, data)).pixels > 0


def test_probing_decodes_nothing(tmp_path):
    data = make_png(np.zeros((4, 5, 3), np.uint8), 2)
    start = data.index(b"IDAT")
    probe(_saved(tmp_path, data[:start] + b"IDAT\xff\xff\xff" + data[start + 7 :]))


def test_a_fault_of_ours_is_no_broken_image(tmp_path, monkeypatch):
    def missing(file):
        raise ImportError("no such module")

    monkeypatch.setattr(probing, "read_png_header", missing)
    with pytest.raises(ImportError):
        probe(_saved(tmp_path, GOOD_PNG))
