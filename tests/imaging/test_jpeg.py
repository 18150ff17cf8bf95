import io
import struct
from itertools import pairwise

import numpy as np
import pytest
import pyvips
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.imaging.conftest import exif_bytes, noise
from upscale.errors import ServerFault
from upscale.imaging import jpeg
from upscale.imaging.background import flattened, plain_colour
from upscale.imaging.jpeg import JpegSink
from upscale.imaging.metadata import Metadata, Text
from upscale.imaging.picture import OutputSpec

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'


def _write(path, pixels, cuts=(), *, metadata=None, **options):
    height, width, channels = pixels.shape
    spec = OutputSpec("jpeg", width, height, channels, 8, **options)
    sink = JpegSink(path, spec, metadata or Metadata())
    edges = [0, *sorted(min(cut, height) for cut in cuts), height]
    for top, end in pairwise(edges):
        sink.write(pixels[top:end])
    sink.close()
    return sink.notes


def _at_once(pixels, quality):
    """The whole picture by the same encoder in one call."""
    if pixels.shape[2] == 1:
        return simplejpeg.encode_jpeg(pixels, quality, "GRAY", "Gray", fastdct=False)
    sampling = "444" if quality >= 90 else "420"
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", sampling, fastdct=False)


def _by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


def _by_vips(data):
    image = pyvips.Image.jpegload_buffer(data, fail_on="warning")
    return image.numpy().reshape(image.height, image.width, -1)


def _by_simplejpeg(data):
    grey = simplejpeg.decode_jpeg_header(data)[2] == "Gray"
    return simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=True)


DECODERS = [_by_pillow, _by_vips, _by_simplejpeg]


def _segments(data):
    """The segments before the first scan, as marker and body."""
    at, found = 2, []
    while not found or found[-1][0] != 0xDA:
        marker, size = struct.unpack_from(">xBH", data, at)
        found.append((marker, data[at + 4 : at + 2 + size]))
        at += 2 + size
    return found


def _bodies(path, marker):
    return [body for found, body in _segments(path.read_bytes()) if found == marker]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 150),
    st.integers(1, 70),
    st.sampled_from([1, 3]),
    st.sampled_from([100, 90, 89, 30]),
    st.lists(st.integers(0, 150), max_size=6),
    st.sampled_from([1, 4000, 20000, 1 << 20]),
    st.integers(1, 3),
)
def test_bands_decode_to_what_the_whole_picture_gives(
    tmp_path, height, width, channels, quality, cuts, band_bytes, threads
):
    pixels = noise(height, width, channels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "BAND_BYTES", band_bytes)
        _write(tmp_path / "a.jpg", pixels, cuts, quality=quality, threads=threads)
    data, whole = (tmp_path / "a.jpg").read_bytes(), _at_once(pixels, quality)
    for decode in DECODERS:
        assert (decode(data) == decode(whole)).all()


@pytest.mark.parametrize("quality", [95, 80])
@pytest.mark.parametrize("height", [*range(1, 34), 160, 161, 175, 176, 177])
def test_the_last_band_is_padded_as_in_the_whole_picture(tmp_path, monkeypatch, height, quality):
    monkeypatch.setattr(jpeg, "BAND_BYTES", 1)  # one row of blocks a band
    pixels = noise(height, 37, 3)
    _write(tmp_path / "a.jpg", pixels, quality=quality)
    data = (tmp_path / "a.jpg").read_bytes()
    for decode in DECODERS:
        assert (decode(data) == decode(_at_once(pixels, quality))).all()


@pytest.mark.parametrize("width", [65500, 65493, 16384])
@pytest.mark.parametrize(("channels", "quality"), [(1, 95), (3, 95), (3, 80)])
def test_wide_pictures_keep_their_restart_interval(tmp_path, monkeypatch, width, channels, quality):
    monkeypatch.setattr(jpeg, "BAND_BYTES", 1 << 30)  # only the 16 bits bound a band
    unit = 16 if channels == 3 and quality < 90 else 8
    rows = 65535 // -(-width // unit) * unit  # of the largest band
    pixels = np.tile(noise(1, width, channels), (rows + 9, 1, 1))
    pixels[rows:] ^= 255
    _write(tmp_path / "a.jpg", pixels, quality=quality)
    data = (tmp_path / "a.jpg").read_bytes()
    (interval,) = struct.unpack(">H", _bodies(tmp_path / "a.jpg", 0xDD)[0])
    assert interval == -(-width // unit) * (rows // unit)
    assert data.count(b"\xff\xd0") == 1
    assert (_by_simplejpeg(data) == _by_simplejpeg(_at_once(pixels, quality))).all()
    assert (_by_pillow(data)[-20:] == _by_pillow(_at_once(pixels, quality))[-20:]).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [95, 80])
def test_a_tall_picture_passes_the_eighth_restart_marker(tmp_path, channels, quality):
    pixels = np.repeat(noise(4094, 3, channels), 16, axis=0)[:65500]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "BAND_BYTES", 3000)
        _write(tmp_path / "a.jpg", pixels, quality=quality)
    data = (tmp_path / "a.jpg").read_bytes()
    assert data.count(b"\xff\xd0") > 1
    for decode in DECODERS:
        assert (decode(data) == decode(_at_once(pixels, quality))).all()


@pytest.mark.parametrize(
    ("background", "channels", "mode"),
    [("#ffffff", 2, "L"), ("#ffffff", 4, "RGB"), ("#204060", 4, "RGB"), ("#204060", 2, "RGB")],
)
def test_transparency_is_put_on_the_background_with_a_note(tmp_path, background, channels, mode):
    pixels = noise(50, 40, channels)
    notes = _write(tmp_path / "a.jpg", pixels, background=background)
    assert len(notes) == 1
    assert background in notes[0]
    flat = flattened(pixels, plain_colour(background, channels, 8))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == mode
    got = _by_pillow((tmp_path / "a.jpg").read_bytes())
    assert (got == _by_pillow(_at_once(flat, 95))).all()


@pytest.mark.parametrize(("quality", "factors"), [(None, 1), (90, 1), (89, 2), (1, 2)])
def test_colour_is_full_from_ninety_up(tmp_path, quality, factors):
    _write(tmp_path / "a.jpg", noise(20, 20, 3), quality=quality)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.layer[0][1:3] == (factors, factors)


def test_quality_decides_the_size(tmp_path):
    sizes = []
    for quality in (10, None, 100):
        _write(tmp_path / "a.jpg", noise(64, 64, 3), quality=quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes == sorted(set(sizes))


def test_rows_may_be_a_strided_view_and_may_be_reused(tmp_path):
    pixels = noise(40, 30, 4)
    buffer = np.empty((8, 30, 3), np.uint8)
    sink = JpegSink(tmp_path / "a.jpg", OutputSpec("jpeg", 30, 40, 3, 8), Metadata())
    for top in range(0, 40, 8):
        buffer[:] = pixels[top : top + 8, ::-1, :3]
        sink.write(buffer[:4, ::-1][:, ::-1])
        sink.write(buffer[4:])
        buffer[:] = 0
    sink.close()
    whole = _at_once(np.ascontiguousarray(pixels[:, ::-1, :3]), 95)
    assert (_by_pillow((tmp_path / "a.jpg").read_bytes()) == _by_pillow(whole)).all()


def test_metadata_comes_back_by_other_readers(tmp_path, srgb):
    metadata = Metadata(
        icc=srgb,
        exif=exif_bytes(1),
        xmp=XMP,
        iptc=b"\x1c\x02\x05\x00\x03Cat",
        dpi=(300.0, 299.9994),
        text=(Text("Comment", "Grüße"), Text("Comment", "second")),
    )
    assert _write(tmp_path / "a.jpg", noise(20, 20, 3), metadata=metadata) == []
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == srgb
        assert image.info["dpi"] == (300, 300)
        assert image.info["xmp"] == XMP
        assert image.getexif()[0x010F] == "A camera of some make"
        assert image.info["photoshop"][0x0404] == metadata.iptc
        assert image.app["COM"] == b"second"
    seen = pyvips.Image.jpegload(str(tmp_path / "a.jpg"), fail_on="warning")
    assert seen.get("icc-profile-data") == srgb
    assert seen.get("xmp-data") == XMP
    assert seen.get("exif-ifd0-Make").startswith("A camera of some make")
    assert round(seen.xres * 25.4) == 300
    assert metadata.iptc in seen.get("iptc-data")


@pytest.mark.parametrize("size", [200, 65519, 65520, 200_000, 255 * 65519])
def test_profiles_of_any_size_are_cut_into_parts(tmp_path, size):
    icc = noise(1, size, 1).tobytes()
    assert _write(tmp_path / "a.jpg", noise(9, 9, 3), metadata=Metadata(icc=icc)) == []
    parts = _bodies(tmp_path / "a.jpg", 0xE2)
    assert [part[12] for part in parts] == list(range(1, len(parts) + 1))
    assert {part[13] for part in parts} == {len(parts)}
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.info["icc_profile"] == icc


def test_a_grey_profile_is_dropped_only_where_the_picture_becomes_colour(tmp_path, grey_profile):
    metadata = Metadata(icc=grey_profile)
    assert _write(tmp_path / "a.jpg", noise(9, 9, 1), metadata=metadata) == []
    notes = _write(tmp_path / "a.jpg", noise(9, 9, 2), metadata=metadata, background="#ff0000")
    assert "profile was dropped" in notes[1]
    assert _bodies(tmp_path / "a.jpg", 0xE2) == []


@pytest.mark.parametrize(
    ("field", "limit", "name"),
    [("exif", 65533, "EXIF"), ("xmp", 65502, "XMP"), ("iptc", 65506, "IPTC")],
)
def test_metadata_too_long_for_a_segment_is_dropped_with_a_note(tmp_path, field, limit, name):
    start = exif_bytes(1) if field == "exif" else b""
    for size, kept in ((limit, True), (limit + 1, False)):
        block = start + bytes(size - len(start))
        metadata = Metadata(**{field: block})
        notes = _write(tmp_path / "a.jpg", noise(9, 9, 3), metadata=metadata)
        assert [name in note and "too long" in note for note in notes] == [True] * (not kept)
        assert (block in (tmp_path / "a.jpg").read_bytes()) is kept
        with Image.open(tmp_path / "a.jpg") as image:
            image.load()


def test_a_profile_or_comment_beyond_the_format_is_dropped_with_a_note(tmp_path):
    metadata = Metadata(icc=bytes(255 * 65519 + 1), text=(Text("Comment", "a" * 65534),))
    notes = _write(tmp_path / "a.jpg", noise(9, 9, 3), metadata=metadata)
    assert ["colour profile" in notes[0], "comment" in notes[1]] == [True, True]
    assert (tmp_path / "a.jpg").stat().st_size < 2000


def test_other_texts_are_dropped_with_one_note(tmp_path):
    texts = (Text("Title", "a"), Text("Author", "b"), Text("Title", "c"), Text("Comment", "d"))
    metadata = Metadata(text=texts, cicp=bytes(4))
    notes = _write(tmp_path / "a.jpg", noise(9, 9, 3), metadata=metadata)
    assert len(notes) == 2
    assert "Title, Author." in notes[0]
    assert "CICP" in notes[1]


@pytest.mark.parametrize(
    ("dpi", "stated"),
    [
        (None, (0, 1, 1)),
        ((72.0, 72.0), (1, 72, 72)),
        ((96.012, 143.6), (1, 96, 144)),
        ((0.4, 0.4), (0, 1, 1)),
        ((1e6, 300.0), (0, 1, 1)),
        ((float("nan"), 300.0), (0, 1, 1)),
    ],
)
def test_resolution_is_whole_pixels_an_inch_or_not_stated(tmp_path, dpi, stated):
    _write(tmp_path / "a.jpg", noise(9, 9, 3), metadata=Metadata(dpi=dpi))
    (jfif,) = _bodies(tmp_path / "a.jpg", 0xE0)
    assert struct.unpack(">5s2xBHH2x", jfif) == (b"JFIF\0", *stated)


def test_a_failing_encoder_is_a_fault_of_ours(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise ValueError("no")

    monkeypatch.setattr(simplejpeg, "encode_jpeg", fail)
    with pytest.raises(ServerFault, match="encoder failed"):
        _write(tmp_path / "a.jpg", noise(9, 9, 3))
