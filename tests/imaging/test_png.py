import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.imaging.conftest import exif_bytes, noise
from upscale.imaging import png
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec
from upscale.imaging.png import PngSink

CHANNELS = {0: 1, 4: 2, 2: 3, 6: 4}


PLAIN = Metadata()


def _write(path, pixels, cuts=(), *, threads=2, metadata=PLAIN):
    height, width, channels = pixels.shape
    depth = pixels.dtype.itemsize * 8
    spec = OutputSpec("png", width, height, channels, depth, threads=threads)
    sink = PngSink(path, spec, metadata)
    edges = [0, *sorted(min(cut, height) for cut in cuts), height]
    for top, end in pairwise(edges):
        sink.write(pixels[top:end])
    sink.close()


def _read(data):
    """An independent decoder, of filter Up alone; returns the pixels and the other chunks."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks.append((kind, body))
        at += 12 + length
    assert (chunks[0][0], chunks[-1]) == (b"IHDR", (b"IEND", b""))
    width, height, depth, colour_type, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert rest == [0, 0, 0]
    raw = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    channels = CHANNELS[colour_type]
    rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 2).all()
    plain = np.cumsum(rows[:, 1:], axis=0, dtype=np.uint64).astype(np.uint8)
    pixels = np.ascontiguousarray(plain).view(">u2" if depth == 16 else np.uint8)
    return pixels.reshape(height, width, channels), dict(chunks[1:])


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 4),
    st.sampled_from([8, 16]),
    st.lists(st.integers(0, 40), max_size=6),
    st.sampled_from([1, 100, 700, 1 << 20]),
    st.integers(1, 3),
)
def test_any_cut_of_any_picture_comes_back_to_the_bit(
    tmp_path, height, width, channels, depth, cuts, slice_bytes, threads
):
    pixels = noise(height, width, channels, depth)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "SLICE_BYTES", slice_bytes)
        _write(tmp_path / "a.png", pixels, cuts, threads=threads)
    read, _ = _read((tmp_path / "a.png").read_bytes())
    assert (read == pixels).all()
    with Image.open(tmp_path / "a.png") as image:
        if depth == 8:
            assert (np.asarray(image).reshape(pixels.shape) == pixels).all()
        else:
            image.load()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_libvips_reads_many_slices_to_the_bit(tmp_path, monkeypatch, channels, depth):
    monkeypatch.setattr(png, "SLICE_BYTES", 5000)
    pixels = noise(150, 67, channels, depth)
    _write(tmp_path / "a.png", pixels, range(0, 150, 9))
    image = pyvips.Image.pngload(str(tmp_path / "a.png"), fail_on="warning")
    assert (image.numpy().reshape(pixels.shape) == pixels).all()
    assert (tmp_path / "a.png").read_bytes().count(b"IDAT") >= 3


def test_rows_may_be_a_strided_view_and_may_be_reused(tmp_path):
    pixels = noise(40, 30, 4)
    buffer = np.empty((8, 30, 3), np.uint8)
    sink = PngSink(tmp_path / "a.png", OutputSpec("png", 30, 40, 3, 8), Metadata())
    for top in range(0, 40, 8):
        buffer[:] = pixels[top : top + 8, ::-1, :3]
        sink.write(buffer[:4])
        sink.write(buffer[4:])
        buffer[:] = 0
    sink.close()
    assert (_read((tmp_path / "a.png").read_bytes())[0] == pixels[:, ::-1, :3]).all()


def test_profile_and_exif_are_kept(tmp_path, srgb):
    _write(tmp_path / "a.png", noise(3, 4, 3), metadata=Metadata(icc=srgb, exif=exif_bytes(1)))
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["icc_profile"] == srgb
        assert image.info["exif"] == exif_bytes(1)
        assert image.getexif()[0x010F] == "A camera of some make"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_picture(tmp_path):
    import psutil

    band = noise(64, 8192, 3)
    sink = PngSink(tmp_path / "a.png", OutputSpec("png", 8192, 6400, 3, 8), Metadata())
    base, peak = psutil.Process().memory_info().rss, 0
    for _ in range(100):
        sink.write(band)
        peak = max(peak, psutil.Process().memory_info().rss)
    sink.close()
    assert peak - base < 60 << 20  # the picture is 157 MB
