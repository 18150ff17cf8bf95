"""A file into a Picture: pixels in one array, orientation applied, alpha and metadata set right.

PNG goes through libvips, which alone gives 16-bit colour, hands out rows (one copy of the pixels
instead of two and a half) and is twice as fast as Pillow; JPEG and WebP go through Pillow. Rows are
put in their final, turned place as they come. Knows nothing of limits: judge the Probe first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyvips
from PIL import Image

from upscale.errors import ServerFault, UnreadableImage
from upscale.imaging import exif as exif_block
from upscale.imaging.alpha import bleed
from upscale.imaging.picture import Picture, Pixels
from upscale.imaging.probe import Probe
from upscale.imaging.probing import Header, broken, open_by_pillow, read_header
from upscale.imaging.profiles import cmyk_to_srgb, matching

# Otherwise libvips answers from its memory when a path holds another file than before.
pyvips.cache_set_max(0)

_BAND_BYTES = 4 << 20


def decode(path: Path, probe: Probe) -> Picture:
    """The picture at `path`, whose Probe is `probe`.

    Its pixels are uint8 or uint16 [H, W, C]. Raises UnreadableImage if the file is broken, cut
    off, or no longer the one that was probed.
    """
    header = read_header(path)
    if header.probe != probe:
        raise UnreadableImage("The image file changed while it was being read. Send it again.")
    notes = list(header.notes)
    try:
        colour, alpha = _pixels(path, header, notes)
    except MemoryError as fault:
        raise ServerFault(
            f"Not enough memory to decode {probe.width} x {probe.height} pixels."
        ) from fault
    except Exception as fault:  # decoders raise whatever they stumble over
        raise broken(probe.format, fault) from fault
    if alpha is not None:
        bleed(colour, alpha)
    icc = None if header.cmyk else _profile(header, notes)
    exif = _exif(header, notes)
    if probe.frames > 1:
        notes.append(f"The file holds {probe.frames} pictures; only the first is used.")
    return Picture(colour, alpha, icc, exif, tuple(notes))


def _pixels(path: Path, header: Header, notes: list[str]) -> tuple[Pixels, Pixels | None]:
    if header.probe.format == "png":
        return _assembled(_png_bands(path), header.probe)
    with path.open("rb") as file:
        return _assembled(_pillow_bands(file, header, notes), header.probe)


def _png_bands(path: Path) -> Iterator[Pixels]:
    """uint8 or uint16 [n, W, C] from the top down, palette and narrow depths expanded."""
    image = pyvips.Image.pngload(os.fsencode(path), access="sequential", fail_on="truncated")
    dtype = {"uchar": np.uint8, "ushort": np.uint16}[image.format]
    region = pyvips.Region.new(image)
    for top, rows in _bands(image.height, image.width * image.bands * np.dtype(dtype).itemsize):
        band = region.fetch(0, top, image.width, rows)
        yield np.frombuffer(band, dtype).reshape(rows, image.width, image.bands)


def _pillow_bands(file: BinaryIO, header: Header, notes: list[str]) -> Iterator[Pixels]:
    """uint8 [n, W, C] from the top down, CMYK converted."""
    convert: Callable[[Image.Image], Image.Image] | None = None
    if header.cmyk:
        convert, note = cmyk_to_srgb(header.icc)
        notes.append(note)
    image = open_by_pillow(header.probe.format, file)
    image.load()
    for top, rows in _bands(image.height, image.width * len(image.getbands())):
        band = image.crop((0, top, image.width, top + rows))
        pixels = np.asarray(convert(band) if convert else band)
        yield pixels.reshape(rows, image.width, -1)


def _bands(height: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _BAND_BYTES // row_bytes)
    for top in range(0, height, rows):
        yield top, min(rows, height - top)


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


def _profile(header: Header, notes: list[str]) -> bytes | None:
    icc, note = matching(header.icc, header.probe.channels)
    if note:
        notes.append(note)
    return icc


def _exif(header: Header, notes: list[str]) -> bytes | None:
    if header.exif is None:
        return None
    try:
        return exif_block.cleaned(header.exif)
    except (ValueError, struct.error) as fault:
        notes.append(f"The EXIF block is damaged and was dropped: {fault}.")
        return None
