"""What is sent of a picture, and what is made of what comes back: on files, without a provider."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from upscale.imaging import exchanging
from upscale.imaging.exchange import BadResult, Return
from upscale.imaging.exchanging import prepare, receive
from upscale.imaging.probing import probe


def _gradient(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    across = np.linspace(0, 255, size[0])[None, :].repeat(size[1], 0)
    down = np.linspace(255, 0, size[1])[:, None].repeat(size[0], 1)
    return Image.fromarray(np.dstack([across, down, across / 2]).astype(np.uint8)).convert(mode)


def _sent(path: Path, folder: Path):
    ready = prepare(path, probe(path), folder)
    return ready, Image.open(ready.png)


def _back(
    source: Path, came: Image.Image, folder: Path, format: str = "png", **more
) -> Image.Image:
    result = folder / "came.png"
    came.save(result, "PNG")
    target = folder / f"out.{format}"
    target.unlink(missing_ok=True)
    order = Return(str(source), probe(source), str(result), str(target), format, **more)
    done = receive(order)
    image = Image.open(target)
    image.load()
    assert image.size == (done.width, done.height)
    assert target.stat().st_size == done.bytes
    return image


def test_what_is_sent_says_nothing_but_its_pixels(tmp_path):
    """Neither place nor camera; upright, though the file lies on its side."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "SecretWords")
    path = tmp_path / "a.png"
    _gradient((30, 20)).save(path, exif=exif, pnginfo=info)
    ready, image = _sent(path, tmp_path)
    assert (image.mode, image.size) == ("RGB", (20, 30))
    assert (ready.width, ready.height) == (20, 30)
    raw = Path(ready.png).read_bytes()
    assert b"Secret" not in raw
    chunks = {raw[i + 4 : i + 8] for i in _chunks(raw)}
    assert chunks == {b"IHDR", b"IDAT", b"IEND"}
    upright = _gradient((30, 20)).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(image), np.asarray(upright))


def test_colours_are_sent_as_srgb(tmp_path, wide_profile):
    """A picture in another space is converted, not relabelled."""
    path = tmp_path / "wide.png"
    Image.new("RGB", (8, 8), (200, 40, 40)).save(path, icc_profile=wide_profile)
    _, image = _sent(path, tmp_path)
    to = ImageCms.createProfile("sRGB")
    flat = Image.new("RGB", (8, 8), (200, 40, 40))
    want = ImageCms.profileToProfile(
        flat,
        ImageCms.ImageCmsProfile(io.BytesIO(wide_profile)),
        to,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert want is not None
    assert np.abs(np.asarray(image, int) - np.asarray(want, int)).max() <= 2
    assert "icc_profile" not in image.info


def test_sixteen_bits_are_sent_as_eight_and_it_is_said(tmp_path):
    path = tmp_path / "deep.png"
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    Image.fromarray(deep).save(path)
    ready, image = _sent(path, tmp_path)
    assert any("16 bits" in note for note in ready.notes)
    assert np.array_equal(np.asarray(image)[..., 0], (deep // 257).astype(np.uint8))


def test_a_picture_too_large_for_a_png_has_a_jpeg_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 90).convert("RGB").save(path)
    assert prepare(path, probe(path), tmp_path).jpeg is None
    monkeypatch.setattr(exchanging, "PNG_BYTES", 1000)
    ready = prepare(path, probe(path), tmp_path)
    assert ready.jpeg is not None
    with Image.open(ready.jpeg) as jpeg:
        assert (jpeg.format, jpeg.size) == ("JPEG", (64, 64))
    assert ready.jpeg_bytes == Path(ready.jpeg).stat().st_size


def test_transparency_goes_out_bled_and_comes_back(tmp_path):
    """The provider sees colour alone, without an edge; the result is transparent where the source
    was.
    """
    path = tmp_path / "a.png"
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[4:12, 4:12] = (220, 30, 30, 255)
    Image.fromarray(pixels).save(path)
    _, sent = _sent(path, tmp_path)
    assert np.abs(np.asarray(sent, int) - (220, 30, 30)).max() <= 1
    image = _back(path, Image.new("RGB", (64, 64), (220, 30, 30)), tmp_path)
    assert image.mode == "RGBA"
    result = np.asarray(image)
    assert result[32, 32].tolist() == [220, 30, 30, 255]
    assert result[2, 2, 3] == 0
    flat = _back(
        path, Image.new("RGB", (64, 64), (220, 30, 30)), tmp_path, "jpeg", background="#00ff00"
    )
    assert np.abs(np.asarray(flat, int)[2, 2] - (0, 255, 0)).max() <= 12


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "avif", "gif"])
def test_what_comes_back_has_the_metadata_of_the_original(tmp_path, format):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x010F] = "Camera of the original"
    _gradient((24, 16)).save(path, exif=exif, quality=95)
    image = _back(path, _gradient((96, 64)), tmp_path, format)
    assert image.size == (96, 64)
    assert image.format == format.upper()
    if format == "gif":
        return
    assert image.getexif().get(0x010F) == "Camera of the original"
    assert image.info.get("icc_profile"), "not said to be sRGB"
    bare = _back(path, _gradient((96, 64)), tmp_path, format, strip=True)
    assert 0x010F not in bare.getexif()
    assert bare.info.get("icc_profile")


def test_grey_stays_grey(tmp_path):
    path = tmp_path / "a.png"
    _gradient((16, 16), "L").save(path)
    tinted = np.asarray(_gradient((64, 64), "L").convert("RGB"), int) + np.array((1, 0, -1))
    came = Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))
    image = _back(path, came, tmp_path)
    assert image.mode == "L"
    assert np.abs(np.asarray(image, int) - np.asarray(_gradient((64, 64), "L"), int)).max() <= 1


def test_a_result_is_resampled_to_the_size_that_is_wanted(tmp_path):
    path = tmp_path / "a.png"
    _gradient((20, 10)).save(path)
    image = _back(path, _gradient((80, 40)), tmp_path, width=50, height=25)
    assert image.size == (50, 25)
    want = np.asarray(_gradient((50, 25)), int)
    assert np.abs(np.asarray(image, int) - want)[3:-3, 3:-3].max() <= 4


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"<html>", lambda b: b""])
def test_a_result_that_is_no_whole_picture_is_refused_and_leaves_nothing(tmp_path, spoil):
    path = tmp_path / "a.png"
    _gradient((20, 10)).save(path)
    result, target = tmp_path / "came.png", tmp_path / "out.png"
    _gradient((80, 40)).save(result)
    result.write_bytes(spoil(result.read_bytes()))
    with pytest.raises(BadResult):
        receive(Return(str(path), probe(path), str(result), str(target), "png"))
    assert not target.exists()


def _chunks(raw: bytes):
    at = 8
    while at < len(raw):
        yield at
        at += 12 + int.from_bytes(raw[at : at + 4], "big")
