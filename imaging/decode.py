"""A file into a Picture: pixels in one array, orientation applied, alpha and metadata set right.

PNG, JPEG, TIFF and deep AVIF come row by row from libvips, so that the pixels are held once; the
others whole from Pillow. All run through one chain (`imaging.colour`) and are put in their final,
turned place as they come. Knows nothing of limits: judge the Probe first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from upscale.errors import UnreadableImage
from upscale.imaging import exif as exif_block
from upscale.imaging import vips
from upscale.imaging import xmp as xmp_packet
from upscale.imaging.alpha import bleed
from upscale.imaging.colour import prepared
from upscale.imaging.header import Header
from upscale.imaging.jpeg_header import END
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import Picture, Pixels
from upscale.imaging.pillow_files import read_pillow_header, read_pixels
from upscale.imaging.probe import Probe
from upscale.imaging.probing import broken, read_header

_BAND_BYTES = 4 << 20
# libvips keeps the strips of a band in a list that it searches: 260,000 rows of 26 pixels took 7 s
# as one band, and 0.05 s in bands of 1000.
_BAND_ROWS = 1000


def decode(path: Path, probe: Probe, *, srgb: bool = False) -> Picture:
    """The picture at `path`, whose Probe is `probe`.

    Its pixels are uint8 or uint16 [H, W, C]. `srgb`: colours are converted to sRGB, else a profile
    that describes them is kept. Raises UnreadableImage if the file is broken, cut off, or no longer
    the one that was probed.
    """
    header = read_header(path)
    if header.probe != probe:
        raise UnreadableImage("The image file changed while it was being read. Send it again.")
    notes = list(header.notes)
    if not header.ended:
        notes.append("The file lacks its end marker; all of its pixels are there.")
    try:
        colour, alpha, icc = _pixels(path, header, srgb=srgb, notes=notes)
    except MemoryError as fault:
        raise UnreadableImage(
            f"Decoding {probe.width} x {probe.height} pixels takes more memory than they should "
            "need, or than there is."
        ) from fault
    except Exception as fault:  # decoders raise whatever they stumble over
        raise broken(probe.format, fault) from fault
    if alpha is not None:
        bleed(colour, alpha)
    if probe.frames > 1:
        notes.append(f"The file holds {probe.frames} pictures; only the first is used.")
    metadata = replace(_cleaned(header.metadata, notes), icc=icc)
    return Picture(colour, alpha, metadata, tuple(notes))


def _pixels(
    path: Path, header: Header, *, srgb: bool, notes: list[str]
) -> tuple[Pixels, Pixels | None, bytes | None]:
    """Colour, alpha and the profile that describes them."""
    try:
        return _read(path, header, srgb=srgb, notes=notes)
    except vips.Error:
        other = _by_pillow(path, header)
        if other is None:
            raise
    return _read(path, other, srgb=srgb, notes=notes)


def _by_pillow(path: Path, header: Header) -> Header | None:
    """The header with which Pillow would read a TIFF that libvips failed on, if it sees the same.

    They know different compressions.
    """
    if header.probe.format != "tiff":
        return None
    with path.open("rb") as file:
        try:
            seen = read_pillow_header("tiff", file, header.probe.bytes)
        except Exception:  # Pillow raises whatever it stumbles over
            return None
    same = replace(seen.probe, frames=header.probe.frames, icc=header.probe.icc) == header.probe
    return replace(header, reader="pillow", space=seen.space) if same else None


def _read(
    path: Path, header: Header, *, srgb: bool, notes: list[str]
) -> tuple[Pixels, Pixels | None, bytes | None]:
    said: list[str] = []
    with path.open("rb") as file:
        # `stream` is named so that it lives: libvips calls back into it for every row.
        image, stream = _opened(path, file, header)
        image, icc = prepared(image, header, srgb=srgb, notes=said)
        colour, alpha = _assembled(_bands(image), header.probe)
        del image, stream
    notes += said
    return colour, alpha, icc


def _opened(path: Path, file: BinaryIO, header: Header) -> tuple[vips.Image, object]:
    """The stored pixels, lazily computed where the library can; read from the top down, once.

    Also what must not be collected before they are read.
    """
    found = header.probe.format
    if header.reader == "pillow":
        pixels = read_pixels(found, file)
        return vips.from_array(pixels), pixels
    options = {"access": "sequential", "fail_on": "truncated"}
    if found == "png":
        stream = vips.source(vips.Parts(file, list(header.parts)))
        return vips.Image.pngload_source(stream, **options), stream
    if found == "jpeg":
        # Without an end marker only a file whose data are whole may pass: any warning is a fault.
        tail = b"" if header.ended else END
        stream = vips.source(vips.Parts(file, list(header.parts), tail))
        if not header.ended:
            options["fail_on"] = "warning"
        return vips.Image.jpegload_source(stream, **options), stream
    if found == "avif":
        image = vips.Image.heifload(os.fsencode(path), **options)
        # libvips leaves the low bits empty: white would not be white, nor opaque opaque.
        bits = int(image.get("bits-per-sample"))
        return (image | (image >> bits)).cast("ushort"), None
    options["fail_on"] = "error"
    image = vips.Image.tiffload(os.fsencode(path), **options)
    if image.format not in ("uchar", "ushort"):  # its range is measured first
        image = vips.Image.tiffload(os.fsencode(path), fail_on="error")
    return image, None


def _bands(image: vips.Image) -> Iterator[Pixels]:
    """uint8 or uint16 [n, W, C] from the top down."""
    dtype = {"uchar": np.uint8, "ushort": np.uint16}[image.format]
    region = vips.Region.new(image)
    rows = max(1, _BAND_BYTES // (image.width * image.bands * np.dtype(dtype).itemsize))
    rows = min(rows, _BAND_ROWS)
    for top in range(0, image.height, rows):
        count = min(rows, image.height - top)
        band = region.fetch(0, top, image.width, count)
        yield np.frombuffer(band, dtype).reshape(count, image.width, image.bands)


def _assembled(bands: Iterator[Pixels], probe: Probe) -> tuple[Pixels, Pixels | None]:
    """Colour [H, W, C] and alpha [H, W] in their turned place; alpha is None if all is opaque."""
    colour = _blank((probe.height, probe.width, probe.channels), probe.depth)
    opaque = np.iinfo(colour.dtype).max
    target = as_stored(colour, probe.orientation)
    alpha: Pixels | None = None
    top = 0
    for band in bands:
        rows, channels = slice(top, top + band.shape[0]), band.shape[2]
        top += band.shape[0]
        if (band.dtype, channels) not in (
            (colour.dtype, probe.channels),
            (colour.dtype, probe.channels + 1),
        ):
            raise ValueError(f"{channels} channels of {band.dtype} came out of it")
        target[rows] = band[..., : probe.channels]
        if channels > probe.channels:
            if alpha is None and band[..., -1].min() < opaque:
                alpha = _blank((probe.height, probe.width), probe.depth)
                alpha[:] = opaque
            if alpha is not None:
                as_stored(alpha, probe.orientation)[rows] = band[..., -1]
    if top != target.shape[0]:
        raise ValueError(f"{top} of {target.shape[0]} rows came out of it")
    return colour, alpha


def _blank(shape: tuple[int, ...], depth: int) -> Pixels:
    return np.empty(shape, np.uint16) if depth == 16 else np.empty(shape, np.uint8)


def as_stored(shown: Pixels, orientation: int) -> Pixels:
    """A view of `shown` [H, W, ...] in which pixels lie as in a file of that EXIF orientation.

    Writing the stored pixels into the view turns them upright without another copy.
    """
    view = shown
    if orientation in (3, 4, 7, 8):
        view = view[::-1]
    if orientation in (2, 3, 6, 7):
        view = view[:, ::-1]
    return view.swapaxes(0, 1) if orientation >= 5 else view


def _cleaned(found: Metadata, notes: list[str]) -> Metadata:
    """Orientation and thumbnails taken out; what is damaged is dropped, with a note.

    Where the container states no resolution that of EXIF holds.
    """
    exif = _part("EXIF block", found.exif, exif_block.cleaned, notes)
    stated = _plausible(found.dpi) or (_plausible(exif_block.density(exif)) if exif else None)
    xmp = _part("XMP packet", found.xmp, xmp_packet.cleaned, notes)
    return replace(found, exif=exif, xmp=xmp, dpi=stated)


def _plausible(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """Dots an inch that someone may mean: some programs write 0, infinity or 1 for none."""
    return dpi if dpi is not None and all(1 < value < 1e6 for value in dpi) else None


def _part(
    name: str, data: bytes | None, clean: Callable[[bytes], bytes], notes: list[str]
) -> bytes | None:
    if data is None:
        return None
    try:
        return clean(data)
    except (ValueError, struct.error) as fault:
        reason = "it is no text" if isinstance(fault, UnicodeDecodeError) else str(fault)
        notes.append(f"The {name} is damaged and was dropped: {reason}.")
        return None
