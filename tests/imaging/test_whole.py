import numpy as np
import pytest
from PIL import Image

from tests.imaging.conftest import exif_bytes, noise
from upscale.errors import OutputFault, ServerFault
from upscale.imaging.deep_avif import DeepAvifSink
from upscale.imaging.limits import FORMATS
from upscale.imaging.metadata import Metadata, Text
from upscale.imaging.picture import OutputSpec
from upscale.imaging.whole import WholeSink

PLAIN = Metadata()
WHOLE = ("webp", "gif", "avif")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>hello</rdf:RDF></x:xmpmeta>'


def _smooth(height, width, channels):
    y, x = np.mgrid[:height, :width]
    planes = [y * 2, x * 2, 255 - y - x, np.full_like(x, 255)]
    order = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    return np.stack([planes[k] for k in order], -1).astype(np.uint8)


def _write(path, format, pixels, *, quality=None, metadata=PLAIN):
    height, width, channels = pixels.shape
    deep = pixels.dtype == np.uint16
    spec = OutputSpec(format, width, height, channels, 16 if deep else 8, quality)
    sink = (DeepAvifSink if deep else WholeSink)(path, spec, metadata)
    for top in range(0, height, 7):
        sink.write(pixels[top : top + 7])
    sink.close()
    return sink.notes


@pytest.mark.parametrize("format", WHOLE)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_rows_come_back_nearly_as_they_were(tmp_path, format, channels):
    pixels = _smooth(60, 50, channels)
    _write(tmp_path / "a", format, pixels)
    with Image.open(tmp_path / "a") as image:
        assert image.format == format.upper()
        got = np.asarray(image.convert("RGB")).astype(int)
    colours = pixels[..., :1] if channels <= 2 else pixels[..., :3]
    assert np.abs(got - colours).mean() < (5 if format == "gif" else 3)


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_alpha_is_kept(tmp_path, format):
    pixels = _smooth(30, 40, 4)
    pixels[:, 20:, 3] = 77
    _write(tmp_path / "a", format, pixels)
    with Image.open(tmp_path / "a") as image:
        assert image.mode == "RGBA"
        assert np.abs(np.asarray(image)[..., 3].astype(int) - pixels[..., 3]).max() <= 4


def test_alpha_of_a_gif_is_cut_at_one_half_and_its_colours_stay(tmp_path):
    pixels = _smooth(30, 40, 4)
    pixels[:, :10, 3], pixels[:, 10:20, 3] = 127, 128
    notes = _write(tmp_path / "a", "gif", pixels)
    assert any("all or nothing" in note for note in notes)
    with Image.open(tmp_path / "a") as image:
        got = np.asarray(image.convert("RGBA")).astype(int)
    assert (got[:, :10, 3] == 0).all()
    assert (got[:, 10:, 3] == 255).all()
    assert np.abs(got[:, 10:, :3] - pixels[:, 10:, :3]).mean() < 5


def test_grey_in_a_gif_is_exact(tmp_path):
    pixels = noise(20, 30, 1)
    assert _write(tmp_path / "a", "gif", pixels) == []
    with Image.open(tmp_path / "a") as image:
        assert (np.asarray(image.convert("L")) == pixels[..., 0]).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_avif_keeps_ten_bits(tmp_path, channels):
    import pyvips

    ramp = np.linspace(20000, 24000, 64 * 64).reshape(64, 64, 1)
    pixels = np.repeat(ramp, channels, 2).astype(np.uint16)
    notes = _write(tmp_path / "a.avif", "avif", pixels, quality=95)
    assert "10 bits" in notes[0]
    image = pyvips.Image.heifload(str(tmp_path / "a.avif"))
    assert image.get("bits-per-sample") == 10
    got = image.numpy()[..., 0].astype(int)
    assert np.abs(got - ramp[..., 0]).mean() < 65536 / 1024  # finer than 8 bits could be
    assert len(np.unique(got)) > 30


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_quality_decides_the_size(tmp_path, format):
    pixels = noise(64, 64, 3)
    sizes = []
    for quality in (10, None, 100):
        _write(tmp_path / "a", format, pixels, quality=quality)
        sizes.append((tmp_path / "a").stat().st_size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("format", ["webp", "avif", "deep"])
def test_profile_exif_and_xmp_are_kept(tmp_path, format, srgb):
    metadata = Metadata(icc=srgb, exif=exif_bytes(1), xmp=XMP)
    pixels = noise(9, 9, 3, 16) if format == "deep" else _smooth(9, 9, 3)
    notes = _write(
        tmp_path / "a", "avif" if format == "deep" else format, pixels, metadata=metadata
    )
    assert not any("left out" in note for note in notes)
    with Image.open(tmp_path / "a") as image:
        assert image.info["icc_profile"] == srgb
        assert image.getexif()[0x010F] == "A camera of some make"
        assert image.info["xmp"] == XMP


def test_texts_without_a_place_are_named_and_a_comment_stays_in_a_gif(tmp_path):
    metadata = Metadata(text=(Text("parameters", "a cat"), Text("Comment", "hello")))
    notes = _write(tmp_path / "a", "webp", _smooth(9, 9, 3), metadata=metadata)
    assert notes == ["WebP has no place for these texts, left out: parameters, Comment."]
    notes = _write(tmp_path / "a", "gif", _smooth(9, 9, 1), metadata=metadata)
    assert notes == ["GIF has no place for these texts, left out: parameters."]
    with Image.open(tmp_path / "a") as image:
        assert image.info["comment"] == b"hello"


@pytest.mark.parametrize("deep", [False, True])
def test_missing_rows_are_a_fault_and_abort_removes_the_file(tmp_path, deep):
    spec = OutputSpec("avif", 9, 9, 3, 16 if deep else 8)
    sink = (DeepAvifSink if deep else WholeSink)(tmp_path / "a", spec, Metadata())
    sink.write(noise(4, 9, 3, spec.depth))
    with pytest.raises(ServerFault, match="Only 4 of 9"):
        sink.close()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_line(tmp_path):
    path = tmp_path / "a"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputFault, match="the disk is full"):
        _write(path, "webp", noise(99, 99, 3))


@pytest.mark.parametrize("format", WHOLE)
def test_the_longest_side_of_the_table_can_be_written(tmp_path, format):
    side = FORMATS[format].max_side
    _write(tmp_path / "a", format, np.zeros((2, side, 3), np.uint8))
    with Image.open(tmp_path / "a") as image:
        assert image.size == (side, 2)
