import struct
import zlib
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from tests.imaging.conftest import exif_bytes, noise
from upscale.errors import ServerFault
from upscale.imaging import tiff
from upscale.imaging.exif import PREFIX
from upscale.imaging.metadata import Metadata, Text
from upscale.imaging.picture import OutputSpec
from upscale.imaging.tiff import TiffSink

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
IPTC = b"\x1c\x02\x05\x00\x03Cat"


def _write(path, pixels, cuts=(), *, metadata=None, **options):
    height, width, channels = pixels.shape
    depth = pixels.dtype.itemsize * 8
    spec = OutputSpec("tiff", width, height, channels, depth, **options)
    sink = TiffSink(path, spec, metadata or Metadata())
    edges = [0, *sorted(min(cut, height) for cut in cuts), height]
    for top, end in pairwise(edges):
        sink.write(pixels[top:end])
    sink.close()
    return sink.notes


def _by_tifffile(path):
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        return page.asarray().reshape(page.imagelength, page.imagewidth, -1)


def _by_vips(path):
    image = pyvips.Image.tiffload(str(path), fail_on="warning", revalidate=True)
    return image.numpy().reshape(image.height, image.width, -1)


def _by_pillow(path):
    """Pixels as Pillow holds them: 8 bits a channel where there are several."""
    with Image.open(path) as image:
        return np.asarray(image).reshape(image.height, image.width, -1)


def _check(path, pixels):
    """All readers give the pixels; Pillow knows no grey of 16 bits with alpha."""
    assert (_by_tifffile(path) == pixels).all()
    assert (_by_vips(path) == pixels).all()
    if pixels.dtype == np.uint8 or pixels.shape[2] == 1:
        assert (_by_pillow(path) == pixels).all()
    elif pixels.shape[2] > 2:
        assert (_by_pillow(path) == pixels >> 8).all()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 4),
    st.sampled_from([8, 16]),
    st.lists(st.integers(0, 70), max_size=6),
    st.sampled_from([0, 0, 16, 32, 48]),
    st.sampled_from([1, 700, 5000, 1 << 20]),
    st.integers(1, 3),
    st.sampled_from([0, 1 << 32]),
)
def test_any_cut_of_any_picture_comes_back_to_the_bit(
    tmp_path, height, width, channels, depth, cuts, tile, piece_bytes, threads, classic_bytes
):
    pixels = noise(height, width, channels, depth)
    path = tmp_path / "a.tif"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiff, "PIECE_BYTES", piece_bytes)
        patch.setattr(tiff, "CLASSIC_BYTES", classic_bytes)
        _write(path, pixels, cuts, tile=tile, threads=threads)
    assert path.read_bytes()[:4] == (b"II*\0" if classic_bytes else b"II+\0")
    _check(path, pixels)


@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_many_pieces_come_back_to_the_bit(tmp_path, monkeypatch, channels, depth, tile):
    monkeypatch.setattr(tiff, "PIECE_BYTES", 9000)
    pixels = noise(333, 257, channels, depth)
    _write(tmp_path / "a.tif", pixels, range(0, 333, 9), tile=tile)
    _check(tmp_path / "a.tif", pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert len(page.dataoffsets) >= 10
        assert page.is_tiled is bool(tile)
        assert (page.photometric, page.compression, page.predictor) == (
            1 if channels <= 2 else 2,
            8,
            2,
        )
        assert page.extrasamples == ((2,) if channels in (2, 4) else ())
        assert page.tags["Orientation"].value == 1
        assert page.tags["SampleFormat"].value in (1, (1,) * channels)


def test_tiles_at_the_edge_repeat_the_last_pixels(tmp_path):
    pixels = noise(20, 37, 3)
    _write(tmp_path / "a.tif", pixels, tile=16)
    filled = np.pad(pixels, ((0, 12), (0, 11), (0, 0)), "edge")
    for index in range(6):
        top, left = index // 3 * 16, index % 3 * 16
        tile = _stored_tile(tmp_path / "a.tif", index)
        assert (tile == filled[top : top + 16, left : left + 16]).all()


def _stored_tile(path, index):
    """A tile of uint8 RGB as stored, the padding included."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, size = page.dataoffsets[index], page.databytecounts[index]
    deltas = zlib.decompress(path.read_bytes()[start : start + size])
    rows = np.frombuffer(deltas, np.uint8).reshape(16, 16, 3)
    return np.cumsum(rows, axis=1, dtype=np.uint64).astype(np.uint8)


@pytest.mark.parametrize("tile", [0, 128])
def test_pieces_hold_about_a_megabyte(tmp_path, tile):
    pixels = np.zeros((1000, 3000, 3), np.uint8)
    _write(tmp_path / "a.tif", pixels, tile=tile)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        if tile:
            assert page.tile == (128, 128)
            assert len(page.dataoffsets) == 8 * 24
        else:
            assert 900_000 < page.rowsperstrip * 9000 <= 1 << 20
    _check(tmp_path / "a.tif", pixels)


def test_a_row_longer_than_a_piece_is_a_strip(tmp_path):
    pixels = noise(3, 300_000, 4)
    _write(tmp_path / "a.tif", pixels)
    assert (_by_vips(tmp_path / "a.tif") == pixels).all()


def test_rows_may_be_a_strided_view_and_may_be_reused(tmp_path):
    pixels = noise(40, 30, 4)
    buffer = np.empty((8, 30, 3), np.uint8)
    sink = TiffSink(tmp_path / "a.tif", OutputSpec("tiff", 30, 40, 3, 8), Metadata())
    for top in range(0, 40, 8):
        buffer[:] = pixels[top : top + 8, ::-1, :3]
        sink.write(buffer[:4])
        sink.write(buffer[4:])
        buffer[:] = 0
    sink.close()
    _check(tmp_path / "a.tif", pixels[:, ::-1, :3])


_ratio = TiffImagePlugin.IFDRational


def _exif_of(*, order="<"):
    """A whole EXIF block by Pillow: a camera's tags, with Exif, Interoperability and GPS IFDs."""
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II" if order == "<" else b"MM")
    exif = Image.Exif()
    exif.endian = order
    exif._info = ifd
    exif[0x010F], exif[0x0110], exif[0x0131] = "Maker", "Model X", "Some software"
    exif[0x0132], exif[0x013B], exif[0x8298] = "2024:01:02 03:04:05", "An artist", "(c) them"
    exif[0x0112], exif[0x011A], exif[0x0128] = 1, _ratio(72, 1), 2
    inner = exif.get_ifd(0x8769)
    inner[0x829A], inner[0x8827], inner[0x9000] = _ratio(1, 250), 400, b"0232"
    inner[0x9003], inner[0x927C], inner[0xA002] = "2023:12:31 23:59:59", b"maker\0\1\2" * 9, 70000
    inner[0x9204] = _ratio(-2, 3)
    inner[0xA005] = {1: "R98", 2: b"0100"}
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2], gps[6] = "N", (_ratio(51, 1), _ratio(30, 1), _ratio(49, 4)), _ratio(23, 2)
    return exif.tobytes()


@pytest.mark.parametrize("classic_bytes", [0, 1 << 32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_comes_back_by_other_readers(tmp_path, monkeypatch, order, classic_bytes):
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", classic_bytes)
    block = _exif_of(order=order)
    assert block[6:8] == (b"II" if order == "<" else b"MM")
    metadata = Metadata(exif=block)
    assert _write(tmp_path / "a.tif", noise(20, 20, 3), metadata=metadata) == []
    with Image.open(tmp_path / "a.tif") as image:
        exif = image.getexif()
        inner, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        assert [exif[tag] for tag in (0x010F, 0x0110, 0x0131)] == [
            "Maker",
            "Model X",
            "Some software",
        ]
        assert exif[0x0112] == 1
        assert 0x011A not in exif  # the resolution is the metadata's, not the block's
        assert (inner[0x829A], inner[0x8827], inner[0x9000]) == (Fraction(1, 250), 400, b"0232")
        assert (inner[0x927C], inner[0xA002]) == (b"maker\0\1\2" * 9, 70000)
        assert exif.get_ifd(0xA005)[1] == "R98"
        assert (gps[1], gps[2], gps[6]) == ("N", (51.0, 30.0, 12.25), 11.5)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff is (classic_bytes == 0)
        tags = file.pages[0].tags
        assert tags["Copyright"].value == "(c) them"
        seen = tags["ExifTag"].value
        assert seen["DateTimeOriginal"] == "2023:12:31 23:59:59"
        assert seen["ExposureTime"] == (1, 250)
        assert seen["ExposureBiasValue"] == (-2, 3)
        assert tags["GPSTag"].value["GPSAltitude"] == (23, 2)
    pyvips.Image.tiffload(str(tmp_path / "a.tif"), fail_on="warning").avg()


@pytest.mark.parametrize("classic_bytes", [0, 1 << 32])
def test_other_metadata_comes_back_by_other_readers(tmp_path, monkeypatch, srgb, classic_bytes):
    monkeypatch.setattr(tiff, "CLASSIC_BYTES", classic_bytes)
    metadata = Metadata(
        icc=srgb,
        xmp=XMP,
        iptc=IPTC,
        dpi=(300.0, 299.9994),
        text=(Text("Comment", "Grüße"), Text("Comment", "second")),
    )
    assert _write(tmp_path / "a.tif", noise(20, 20, 3), metadata=metadata) == []
    with Image.open(tmp_path / "a.tif") as image:
        assert image.info["icc_profile"] == srgb
        assert image.info["xmp"] == XMP
        assert image.info["dpi"] == (300, pytest.approx(299.9994, abs=1e-4))
        assert image.tag_v2[33723] == IPTC
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].description == "Grüße\nsecond"
    seen = pyvips.Image.tiffload(str(tmp_path / "a.tif"), fail_on="warning")
    assert seen.get("icc-profile-data") == srgb
    assert seen.get("xmp-data") == XMP
    assert seen.get("iptc-data") == IPTC
    assert seen.get("image-description") == "Grüße\nsecond"
    assert round(seen.xres * 25.4) == 300
    assert seen.get("resolution-unit") == "in"


@pytest.mark.parametrize("dpi", [None, (0.0, 72.0), (1e9, 1e9), (float("nan"), 72.0)])
def test_no_resolution_or_an_absurd_one_is_not_stated(tmp_path, dpi):
    _write(tmp_path / "a.tif", noise(9, 9, 3), metadata=Metadata(dpi=dpi))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert "XResolution" not in file.pages[0].tags


def test_a_comment_gives_way_to_the_description_of_exif(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "from the camera"
    metadata = Metadata(exif=exif.tobytes(), text=(Text("Comment", "x"), Text("Title", "y")))
    notes = _write(tmp_path / "a.tif", noise(9, 9, 3), metadata=metadata)
    assert len(notes) == 1
    assert "Comment, Title." in notes[0]
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].description == "from the camera"


def test_what_has_no_place_is_dropped_with_a_note(tmp_path):
    texts = (Text("Title", "a"), Text("Comment", "b"), Text("Title", "c"))
    metadata = Metadata(text=texts, cicp=bytes(4))
    notes = _write(tmp_path / "a.tif", noise(9, 9, 3), metadata=metadata)
    assert len(notes) == 2
    assert "left out: Title." in notes[0]
    assert "CICP" in notes[1]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_exif_never_stops_a_file(tmp_path, data):
    block = bytearray(_exif_of(order=data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(6, len(block) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(block[: data.draw(st.integers(0, len(block)))])
    _write(tmp_path / "a.tif", noise(9, 9, 3), metadata=Metadata(exif=cut))
    # Readers may warn of odd tags, of which a damaged block may have some.
    assert (_by_pillow(tmp_path / "a.tif") == noise(9, 9, 3)).all()
    assert (_by_tifffile(tmp_path / "a.tif") == noise(9, 9, 3)).all()


def _block(*entries):
    """An EXIF block of bare entries (tag, type, count, value or offset), and some text."""
    body = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return PREFIX + b"II*\0" + struct.pack("<I", 8) + body + b"text" * 16


@pytest.mark.parametrize(
    "block",
    [
        PREFIX + b"junk",
        PREFIX,
        PREFIX + b"II*\0" + struct.pack("<I", 1 << 31),
        _block((0x010F, 2, 90000, 8)),
        _block((0x010F, 2, 0, 0)),
        _block((0x010F, 99, 1, 0)),
        _block((0x010F, 3, 1, 7)),  # a camera's name is a text
        _block((0x8769, 4, 1, 1 << 30)),
        _block(*[(0x010F + k, 2, 60, 500) for k in range(40)]),  # values over one another
    ],
)
def test_what_is_broken_of_exif_is_left_out_with_a_note(tmp_path, block):
    notes = _write(tmp_path / "a.tif", noise(9, 9, 3), metadata=Metadata(exif=block))
    assert len(notes) == 1
    assert "EXIF" in notes[0]
    _check(tmp_path / "a.tif", noise(9, 9, 3))


def test_a_broken_entry_takes_no_other_with_it(tmp_path):
    block = exif_bytes(1).replace(struct.pack("<HH", 0x0112, 3), struct.pack("<HH", 0x0112, 77))
    notes = _write(tmp_path / "a.tif", noise(9, 9, 3), metadata=Metadata(exif=block))
    assert len(notes) == 1
    with Image.open(tmp_path / "a.tif") as image:
        assert image.getexif()[0x010F] == "A camera of some make"


def test_the_size_of_the_file_decides_its_kind(tmp_path, monkeypatch):
    pixels = noise(50, 60, 3)
    _write(tmp_path / "a.tif", pixels)
    size = (tmp_path / "a.tif").stat().st_size
    kinds = set()
    for limit in (size - 1, size + 400):
        monkeypatch.setattr(tiff, "CLASSIC_BYTES", limit)
        _write(tmp_path / "a.tif", pixels)
        kinds.add((limit >= size, (tmp_path / "a.tif").read_bytes()[2]))
        _check(tmp_path / "a.tif", pixels)
    assert kinds == {(False, 43), (True, 42)}


def test_offsets_beyond_four_gigabytes_are_right(tmp_path):
    # A file with a hole, which takes no room: the writer is told that 5 GB lie before its data.
    pixels, path = noise(40, 50, 3), tmp_path / "a.tif"
    sink = TiffSink(path, OutputSpec("tiff", 50, 40, 3, 8), Metadata(exif=_exif_of()))
    sink._end = 5 << 30
    sink._file._file.seek(sink._end)
    sink.write(pixels)
    sink.close()
    assert path.stat().st_size > 5 << 30
    assert (_by_tifffile(path) == pixels).all()
    assert (_by_vips(path) == pixels).all()
    with Image.open(path) as image:
        assert image.getexif().get_ifd(0x8769)[0x8827] == 400


@pytest.mark.parametrize("tile", [-16, 8, 100])
def test_a_tile_that_is_no_multiple_of_sixteen_is_a_fault(tmp_path, tile):
    with pytest.raises(ServerFault, match="tiles"):
        TiffSink(tmp_path / "a.tif", OutputSpec("tiff", 9, 9, 3, 8, tile=tile), Metadata())
    assert list(tmp_path.iterdir()) == []
