import numpy as np
import pytest
from PIL import Image

from tests.imaging.conftest import exif_bytes, noise
from upscale.errors import OutputFault, ServerFault
from upscale.imaging.limits import FORMATS
from upscale.imaging.picture import OutputSpec
from upscale.imaging.whole import WholeSink


def _smooth(height, width, channels):
    y, x = np.mgrid[:height, :width]
    planes = [y * 2, x * 2, 255 - y - x, np.full_like(x, 255)]
    order = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    return np.stack([planes[k] for k in order], -1).astype(np.uint8)


def _write(path, format, pixels, *, quality=None, icc=None, exif=None):
    height, width, channels = pixels.shape
    spec = OutputSpec(format, width, height, channels, 8, quality)
    sink = WholeSink(path, spec, icc=icc, exif=exif)
    for top in range(0, height, 7):
        sink.write(pixels[top : top + 7])
    sink.close()
    return sink.notes


@pytest.mark.parametrize("format", ["jpeg", "webp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_rows_come_back_nearly_as_they_were(tmp_path, format, channels):
    pixels = _smooth(60, 50, channels)
    _write(tmp_path / "a", format, pixels)
    with Image.open(tmp_path / "a") as image:
        assert image.format == format.upper()
        if format == "jpeg":
            assert image.mode == ("L" if channels <= 2 else "RGB")
        got = np.asarray(image.convert("RGB")).astype(int)
    colours = pixels[..., :1] if channels <= 2 else pixels[..., :3]
    assert np.abs(got - colours).mean() < 3


def test_webp_keeps_alpha(tmp_path):
    pixels = _smooth(30, 40, 4)
    pixels[:, 20:, 3] = 77
    _write(tmp_path / "a", "webp", pixels)
    with Image.open(tmp_path / "a") as image:
        assert image.mode == "RGBA"
        assert (np.asarray(image)[..., 3] == pixels[..., 3]).all()


def test_jpeg_puts_transparency_on_white_with_a_note(tmp_path):
    pixels = np.zeros((16, 48, 4), np.uint8)
    pixels[:, 16:32, 3], pixels[:, 32:, 3] = 128, 255
    notes = _write(tmp_path / "a", "jpeg", pixels)
    assert "white" in notes[0]
    with Image.open(tmp_path / "a") as image:
        row = np.asarray(image)[8, :, 0].astype(int)
    assert np.abs(row[[4, 24, 44]] - [255, 127, 0]).max() <= 3


@pytest.mark.parametrize(("quality", "factors"), [(None, 1), (90, 1), (89, 2), (1, 2)])
def test_jpeg_colour_is_full_from_ninety_up(tmp_path, quality, factors):
    _write(tmp_path / "a", "jpeg", _smooth(20, 20, 3), quality=quality)
    with Image.open(tmp_path / "a") as image:
        assert image.layer[0][1:3] == (factors, factors)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_quality_decides_the_size(tmp_path, format):
    pixels = noise(64, 64, 3)
    sizes = []
    for quality in (10, None, 100):
        _write(tmp_path / "a", format, pixels, quality=quality)
        sizes.append((tmp_path / "a").stat().st_size)
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_profile_and_exif_are_kept(tmp_path, format, srgb):
    notes = _write(tmp_path / "a", format, _smooth(9, 9, 3), icc=srgb, exif=exif_bytes(1))
    assert notes == []
    with Image.open(tmp_path / "a") as image:
        assert image.info["icc_profile"] == srgb
        assert image.getexif()[0x010F] == "A camera of some make"


def test_metadata_that_does_not_fit_is_dropped_with_a_note(tmp_path, grey_profile):
    grey = _smooth(9, 9, 1)
    assert _write(tmp_path / "a", "jpeg", grey, icc=grey_profile) == []
    assert "grey" in _write(tmp_path / "a", "webp", grey, icc=grey_profile)[0]
    notes = _write(tmp_path / "a", "jpeg", grey, exif=exif_bytes(1) + bytes(70000))
    assert "too long" in notes[0]


def test_missing_rows_are_a_fault_and_abort_removes_the_file(tmp_path):
    sink = WholeSink(tmp_path / "a", OutputSpec("jpeg", 9, 9, 3, 8), icc=None, exif=None)
    sink.write(noise(4, 9, 3))
    with pytest.raises(ServerFault, match="Only 4 of 9"):
        sink.close()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_clear_line(tmp_path):
    path = tmp_path / "a"
    path.symlink_to("/dev/full")
    with pytest.raises(OutputFault, match="the disk is full"):
        _write(path, "jpeg", noise(99, 99, 3))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_the_longest_side_of_the_table_can_be_written(tmp_path, format):
    side = FORMATS[format].max_side
    _write(tmp_path / "a", format, np.zeros((2, side, 3), np.uint8))
    with Image.open(tmp_path / "a") as image:
        assert image.size == (side, 2)
