"""What the header of a file says: its Probe, its metadata, how its pixels lie; none is decoded.

Opens PNG, JPEG, WebP, GIF, TIFF, BMP and AVIF, judged by their bytes. Knows nothing of limits: a
header that states an enormous picture gives a Probe that says so.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

from upscale.errors import UnreadableImage
from upscale.imaging.encoding import Encoding, fault_of, is_srgb
from upscale.imaging.header import Header, sides
from upscale.imaging.jpeg_header import Endless, UnusualJpeg, check_scans, read_jpeg_header
from upscale.imaging.kinds import ACCEPTED, NAMES, kind, read_head
from upscale.imaging.metadata import Metadata, stated_orientation
from upscale.imaging.pillow_files import read_pillow_header
from upscale.imaging.png_header import PngHeader, read_png_header
from upscale.imaging.probe import Probe


def probe(path: Path) -> Probe:
    """The Probe of the file at `path`. Raises UnreadableImage, with what was found instead."""
    return read_header(path).probe


def read_header(path: Path) -> Header:
    """The whole header of the file at `path`. Raises UnreadableImage."""
    found = kind(read_head(path))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _read(found, path, file, size)
    except (UnreadableImage, ImportError):  # the latter is a fault of ours, not of the file
        raise
    except MemoryError as fault:
        raise UnreadableImage(
            f"The header of the {NAMES[found]} needs more memory than it may take: it states an "
            "enormous picture, or is broken."
        ) from fault
    except Exception as fault:  # decoders raise whatever they stumble over
        raise broken(found, fault) from fault


def broken(found: str, fault: Exception | str) -> UnreadableImage:
    """The error for a file that begins like a `found` and cannot be read on."""
    reason = str(fault).strip().split("\n")[-1].strip().rstrip(".")
    reason = re.sub(r"^(Vips\w+|\w+2vips): ", "", reason)
    if not reason or "vips" in reason or reason.startswith("unable to"):
        reason = "its pixel data cannot be decoded"  # the library says less than that
    if reason == "could not create decoder object":  # nor does Pillow say why not
        reason = "its header makes no sense, or states a picture too large for the memory"
    article = "an" if NAMES[found][0] == "A" else "a"
    return UnreadableImage(
        f"The image file begins like {article} {NAMES[found]} but is broken, cut off or of a rare "
        f"kind: {reason[:160]}. {ACCEPTED}"
    )


def _read(found: str, path: Path, file: BinaryIO, size: int) -> Header:
    if found == "png":
        return _png(file, size)
    if found == "jpeg":
        try:
            return _jpeg(file, size)
        except (Endless, UnusualJpeg):
            raise
        except ValueError as fault:
            return _odd_jpeg(file, size, fault)
    if found == "tiff":
        # Late: it brings libvips, and the server's helpers seldom see such files.
        from upscale.imaging.tiff_header import read_tiff_header

        return read_tiff_header(path, file, size)
    if found == "avif":
        from upscale.imaging.avif_header import read_avif_header

        return read_avif_header(path, file, size)
    return read_pillow_header(found, file, size)


def _png(file: BinaryIO, size: int) -> Header:
    header = read_png_header(file)
    turned, notes = stated_orientation(header.exif, header.xmp), list(header.notes)
    encoding = _encoding(header, notes)
    return Header(
        Probe(
            format="png",
            **sides(header.width, header.height, turned),
            channels=1 if header.colour_type in (0, 4) else 3,
            alpha=header.colour_type in (4, 6) or header.transparency,
            depth=16 if header.depth == 16 else 8,
            orientation=turned,
            frames=header.frames,
            icc=header.icc is not None,
            bytes=size,
        ),
        Metadata(
            icc=header.icc,
            exif=header.exif,
            xmp=header.xmp,
            dpi=header.dpi,
            text=tuple(header.text),
            cicp=header.cicp,
        ),
        tuple(notes),
        parts=tuple(header.pixels),
        encoding=encoding,
    )


def _encoding(header: PngHeader, notes: list[str]) -> Encoding | None:
    """gAMA and cHRM, where nothing that goes before them (PNG, third edition, 4.3) is there."""
    if header.cicp or header.icc or header.srgb:
        return None
    found = Encoding(header.gamma, header.primaries)
    if found == (None, None) or is_srgb(found):
        return None
    fault = fault_of(found)
    if fault:
        notes.append(f"The PNG's gAMA and cHRM values were left out: {fault}.")
        return None
    return found


def _jpeg(file: BinaryIO, size: int) -> Header:
    header = read_jpeg_header(file)
    turned = stated_orientation(header.exif, header.xmp)
    return Header(
        Probe(
            format="jpeg",
            **sides(header.width, header.height, turned),
            channels=1 if header.components == 1 else 3,
            alpha=False,
            depth=8,
            orientation=turned,
            frames=header.frames,
            icc=header.icc is not None,
            bytes=size,
        ),
        Metadata(
            icc=header.icc,
            exif=header.exif,
            xmp=header.xmp,
            iptc=header.iptc,
            dpi=header.dpi,
            text=tuple(header.text),
        ),
        tuple(header.notes),
        space="cmyk" if header.components == 4 else "rgb",
        parts=tuple(header.pixels),
        ended=header.ended,
    )


def _odd_jpeg(file: BinaryIO, size: int, fault: ValueError) -> Header:
    """A JPEG whose markers do not add up: libjpeg searches on where we give up."""
    check_scans(file)
    file.seek(0)
    try:
        return read_pillow_header("jpeg", file, size)
    except Exception:  # Pillow raises whatever it stumbles over, and says less
        raise fault from None
