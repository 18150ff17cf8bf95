"""What a picture carries beside its pixels arrives in the result, in every format that holds it."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from upscale.engine.order import JobOrder
from upscale.engine.receipt import Receipt
from upscale.engine.session import Session
from upscale.imaging.decode import decode
from upscale.imaging.probing import probe

Order = Callable[..., JobOrder]

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:ImageWidth="30" '
    'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/></rdf:RDF></x:xmpmeta>'
)
WORKFLOW = json.dumps({"nodes": [{"id": 1, "type": "KSampler"}] * 4000})
EXIF_FORMATS = ("png", "jpeg", "webp", "avif", "tiff")
XMP_FORMATS = EXIF_FORMATS


# Made once: it holds the time of its making.
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _camera_picture(path: Path) -> Path:
    """A JPEG of 30 x 20 pixels, stored on its side, with all that cameras and editors write."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Maker", "Model 1"
    exif.get_ifd(0x8769).update({0xA002: 30, 0xA003: 20, 0x9003: "2024:05:06 07:08:09"})
    exif.get_ifd(0x8825).update({1: "N", 2: (59.0, 19.0, 45.0)})
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(
        path,
        "JPEG",
        quality=95,
        exif=exif,
        xmp=XMP.encode(),
        icc_profile=PROFILE,
        dpi=(300, 300),
        comment="a comment",
    )
    return path


def _run(session: Session, order: Order, source: Path, format: str, **more: object) -> Receipt:
    return session.run(order(source, output_format=format, **more))


@pytest.mark.parametrize("format", EXIF_FORMATS)
def test_exif_with_gps_is_kept_upright_and_with_the_new_size(
    session: Session, order: Order, tmp_path: Path, format: str
) -> None:
    _run(session, order, _camera_picture(tmp_path / "in.jpg"), format)
    with Image.open(tmp_path / f"out.{format}") as image:
        assert image.size == (40, 60)  # the orientation is applied
        exif = image.getexif()
        assert exif.get(0x0112, 1) == 1
        assert (exif[0x010F], exif[0x0110]) == ("Maker", "Model 1")
        inner = exif.get_ifd(0x8769)
        assert (inner[0xA002], inner[0xA003]) == (40, 60)
        assert inner[0x9003] == "2024:05:06 07:08:09"
        assert exif.get_ifd(0x8825)[2] == (59.0, 19.0, 45.0)
        assert not exif.get_ifd(1)


@pytest.mark.parametrize("format", XMP_FORMATS)
def test_xmp_is_kept_upright_and_with_the_new_size(
    session: Session, order: Order, tmp_path: Path, format: str
) -> None:
    _run(session, order, _camera_picture(tmp_path / "in.jpg"), format)
    data = (tmp_path / f"out.{format}").read_bytes()
    assert b'xmp:Rating="4"' in data
    assert b'tiff:Orientation="1"' in data
    assert b'tiff:ImageWidth="40"' in data


@pytest.mark.parametrize("format", EXIF_FORMATS)
def test_the_profile_is_kept_to_the_bit(
    session: Session, order: Order, tmp_path: Path, format: str
) -> None:
    _run(session, order, _camera_picture(tmp_path / "in.jpg"), format)
    with Image.open(tmp_path / f"out.{format}") as image:
        assert image.info["icc_profile"] == PROFILE


def test_a_format_without_profiles_gets_srgb_and_the_receipt_says_so(
    session: Session, order: Order, tmp_path: Path
) -> None:
    receipt = _run(session, order, _camera_picture(tmp_path / "in.jpg"), "gif")
    assert any("converted to sRGB" in note for note in receipt.notes)


@pytest.mark.parametrize("format", ["png", "jpeg", "tiff"])
def test_dots_an_inch_are_kept(session: Session, order: Order, tmp_path: Path, format: str) -> None:
    _run(session, order, _camera_picture(tmp_path / "in.jpg"), format)
    with Image.open(tmp_path / f"out.{format}") as image:
        assert tuple(round(float(v)) for v in image.info["dpi"]) == (300, 300)


def test_texts_of_picture_generators_survive_in_a_png_and_are_named_elsewhere(
    session: Session, order: Order, tmp_path: Path
) -> None:
    info = PngInfo()
    info.add_text("parameters", "a cat, Steps: 20, Sampler: Euler a")
    info.add_text("workflow", WORKFLOW, zip=True)
    info.add_itxt("prompt", "猫", lang="ja", tkey="説明")
    Image.new("RGB", (9, 7), (9, 99, 199)).save(tmp_path / "in.png", pnginfo=info)
    _run(session, order, tmp_path / "in.png", "png")
    with Image.open(tmp_path / "out.png") as image:
        image.load()
        texts = image.text  # type: ignore[attr-defined]
    assert texts["parameters"] == "a cat, Steps: 20, Sampler: Euler a"
    assert texts["workflow"] == WORKFLOW
    assert (str(texts["prompt"]), texts["prompt"].lang, texts["prompt"].tkey) == (
        "猫",
        "ja",
        "説明",
    )
    receipt = _run(session, order, tmp_path / "in.png", "jpeg")
    assert any("parameters, workflow, prompt" in note for note in receipt.notes)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif", "tiff", "gif"])
def test_stripped_results_carry_nothing_but_the_profile(
    session: Session, order: Order, tmp_path: Path, format: str
) -> None:
    source = _camera_picture(tmp_path / "in.jpg")
    _run(session, order, source, format, strip_metadata=True)
    data = (tmp_path / f"out.{format}").read_bytes()
    for trace in (b"Maker", b"2024:05:06", b"Rating", b"a comment"):
        assert trace not in data
    with Image.open(io.BytesIO(data)) as image:
        assert not image.getexif().get_ifd(0x8825)
        # Pillow says 1 where a TIFF states none; a JFIF always states something.
        assert image.info.get("dpi", 1) in (1, (1, 1)) or format == "jpeg"
        assert bool(image.info.get("icc_profile")) == (format != "gif")


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif", "tiff", "gif"])
def test_provenance_is_written_where_the_operator_wants_it(
    session: Session, order: Order, tmp_path: Path, format: str
) -> None:
    job = order(_camera_picture(tmp_path / "in.jpg"), output_format=format)
    for wanted in (False, True):
        output = replace(job.plan.output, provenance=wanted)
        session.run(replace(job, plan=replace(job.plan, output=output)))
        data = job.target.read_bytes()
        assert (job.plan.network.key.encode() in data) == wanted
        assert (job.plan.network.name.encode() in data) == wanted


def test_sixteen_bits_stay_sixteen_from_png_to_tiff(
    session: Session, order: Order, tmp_path: Path
) -> None:
    ramp = np.linspace(20000, 21000, 40 * 40).astype(np.uint16).reshape(40, 40)
    tifffile.imwrite(tmp_path / "in.tif", np.dstack([ramp] * 3), photometric="rgb")
    for format in ("png", "tiff"):
        _run(session, order, tmp_path / "in.tif", format)
        path = tmp_path / f"out.{format}"
        out = decode(path, probe(path)).colour
        assert out.dtype == np.uint16
        # Through 8 bits there would be at most a handful of levels between these two.
        assert len(np.unique(out)) > 500


def test_a_jpeg_gets_the_background_that_was_asked_for(
    session: Session, order: Order, tmp_path: Path
) -> None:
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(tmp_path / "in.png")
    receipt = _run(session, order, tmp_path / "in.png", "jpeg", background="#00ff00")
    assert any("#00ff00" in note for note in receipt.notes)
    with Image.open(tmp_path / "out.jpeg") as image:
        red, green, blue = image.convert("RGB").getpixel((8, 8))  # type: ignore[misc]
    assert (red < 4, green > 250, blue < 4) == (True, True, True)
