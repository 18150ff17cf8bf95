"""What the header of a file says: its Probe, its profile and its metadata, no pixel decoded.

Opens PNG, JPEG (an MPO is one) and WebP, judged by their bytes. Knows nothing of limits: a header
that states an enormous picture gives a Probe that says so.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, JpegImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from upscale.errors import UnreadableImage
from upscale.imaging import exif as exif_block
from upscale.imaging.kinds import ACCEPTED, kind, read_head
from upscale.imaging.png_header import PngHeader, read_png_header
from upscale.imaging.probe import Probe

# Pillow's own ceiling is on what a header states, with fixed numbers, and is raised while opening.
# Ours (`imaging.limits`) are settings and are judged on the Probe, so Pillow's is taken away.
Image.MAX_IMAGE_PIXELS = None
# Malformed MPO tables, odd EXIF: Pillow warns and goes on, and so do we.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")

_NAMES = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP"}


@dataclass(frozen=True)
class Header:
    """A Probe with the metadata that decoding needs; `cmyk` says how a JPEG's pixels are stored."""

    probe: Probe
    icc: bytes | None
    exif: bytes | None
    notes: tuple[str, ...] = ()
    cmyk: bool = False


def probe(path: Path) -> Probe:
    """The Probe of the file at `path`. Raises UnreadableImage, with what was found instead."""
    return read_header(path).probe


def read_header(path: Path) -> Header:
    """The whole header of the file at `path`. Raises UnreadableImage."""
    found = kind(read_head(path))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _png(file, size) if found == "png" else _by_pillow(found, file, size)
    except UnreadableImage:
        raise
    except Exception as fault:  # decoders raise whatever they stumble over
        raise broken(found, fault) from fault


def broken(found: str, fault: Exception | str) -> UnreadableImage:
    """The error for a file that begins like a `found` and cannot be read on."""
    reason = str(fault).strip().split("\n")[-1].strip().rstrip(".")
    if not reason or "vips" in reason or reason.startswith("unable to"):
        reason = "its pixel data cannot be decoded"  # the library says less than that
    return UnreadableImage(
        f"The image file begins like a {_NAMES[found]} but is broken or cut off: {reason[:160]}. "
        f"{ACCEPTED}"
    )


def open_by_pillow(found: str, file: BinaryIO) -> ImageFile:
    """A JPEG or WebP, opened but not loaded. Raises whatever Pillow raises."""
    if found == "webp":
        return WebPImagePlugin.WebPImageFile(file)
    try:
        opened: ImageFile = JpegImagePlugin.jpeg_factory(file)
    except Exception:  # the table of an MPO's further pictures is broken: the first may be fine
        file.seek(0)
        opened = JpegImagePlugin.JpegImageFile(file)
    return opened


def _png(file: BinaryIO, size: int) -> Header:
    header = read_png_header(file)
    turned, notes = _orientation(header.exif, header.xmp), list(header.notes)
    if _gamma_is_lost(header):
        notes.append("The PNG's gAMA value is not carried over; its pixels are taken as sRGB.")
    grey = header.colour_type in (0, 4)
    return Header(
        Probe(
            format="png",
            **_sides(header.width, header.height, turned),
            channels=1 if grey else 3,
            alpha=header.colour_type in (4, 6) or header.transparency,
            depth=16 if header.depth == 16 else 8,
            orientation=turned,
            frames=header.frames,
            icc=header.icc is not None,
            bytes=size,
        ),
        header.icc,
        header.exif,
        tuple(notes),
    )


def _gamma_is_lost(header: PngHeader) -> bool:
    plain = header.gamma is None or abs(header.gamma - 45455) < 1000
    return not plain and not header.srgb and header.icc is None


def _by_pillow(found: str, file: BinaryIO, size: int) -> Header:
    image = open_by_pillow(found, file)
    if image.mode not in ("L", "RGB", "RGBA", "CMYK") or min(image.size) < 1:
        raise ValueError(f"its mode is {image.mode}, its size {image.size}")
    icc, exif, xmp = (_bytes(image.info.get(key)) for key in ("icc_profile", "exif", "xmp"))
    turned = _orientation(exif, xmp)
    return Header(
        Probe(
            format=found,
            **_sides(*image.size, turned),
            channels=1 if image.mode == "L" else 3,
            alpha=image.mode == "RGBA",
            depth=8,
            orientation=turned,
            frames=int(getattr(image, "n_frames", 1)),
            icc=icc is not None,
            bytes=size,
        ),
        icc,
        exif,
        cmyk=image.mode == "CMYK",
    )


def _bytes(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and value else None


def _orientation(exif: bytes | None, xmp: bytes | None) -> int:
    try:
        turned = exif_block.orientation(exif) if exif else 1
    except struct.error:
        turned = 1
    return exif_block.xmp_orientation(xmp) if turned == 1 and xmp and not exif else turned


def _sides(width: int, height: int, orientation: int) -> dict[str, int]:
    swap = orientation >= 5
    return {"width": height if swap else width, "height": width if swap else height}
