"""A picture on its way to somebody else's upscaler, and back.

Out goes one plain file: 8-bit sRGB, upright, opaque, without a word of metadata. What comes back is
measured, given the transparency and the metadata of the original again, and written in the format
that was asked for. Works on files, in a helper process; knows nothing of providers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from upscale.errors import OutputFault, UnreadableImage
from upscale.imaging.decode import decode
from upscale.imaging.exchange import BadResult, Return, Returned, Sendable
from upscale.imaging.guard import decode_bytes, memory_limit
from upscale.imaging.limits import FORMATS
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec, Picture, Pixels
from upscale.imaging.probe import Probe
from upscale.imaging.probing import probe as probed
from upscale.imaging.sinks import open_sink

PNG_BYTES = 8 << 20
"""PNGs of up to so many bytes are sent as they are; for a larger one there is a JPEG beside it."""

_JPEG_QUALITY = 95
_BAND_ROWS = 256
# Rec. 601, as every JPEG has it.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def prepare(source: Path, probe: Probe, folder: Path) -> Sendable:
    """Write what can be sent of the picture at `source` to new files in `folder`.

    Raises UnreadableImage, OutputFault.
    """
    picture = _decoded(source, probe)
    notes = list(picture.notes)
    colour = picture.colour
    if colour.dtype == np.uint16:
        notes.append("The picture has 16 bits a channel; 8 of them were sent.")
        colour = _in_eight_bits(colour)
    image = Image.fromarray(colour[..., 0] if colour.shape[2] == 1 else colour).convert("RGB")
    png, jpeg = folder / "sent.png", folder / "sent.jpg"
    try:
        image.save(png, "PNG")
        png_bytes, jpeg_bytes = png.stat().st_size, 0
        if png_bytes > PNG_BYTES and probe.depth == 8:
            image.save(jpeg, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
            jpeg_bytes = jpeg.stat().st_size
    except OSError as fault:
        raise OutputFault(f"The picture to be sent cannot be stored: {fault.strerror}.") from fault
    return Sendable(
        width=image.width,
        height=image.height,
        png=str(png),
        png_bytes=png_bytes,
        jpeg=str(jpeg) if jpeg_bytes else None,
        jpeg_bytes=jpeg_bytes,
        notes=tuple(notes),
    )


def receive(order: Return) -> Returned:
    """Do what `order` says. The result is held whole: 3 bytes a pixel, 6 where it has 16 bits.

    Raises BadResult, OutputFault, UnreadableImage (of the source).
    """
    result = _result(Path(order.result))
    source = _decoded(Path(order.source), order.probe)
    colour = result.colour
    if order.width is not None and order.height is not None:
        colour = _resized(colour, order.width, order.height)
    if source.colour.shape[2] == 1:
        colour = _grey(colour)
    facts = FORMATS[order.format]
    if colour.dtype == np.uint16 and not facts.depth16:
        colour = _in_eight_bits(colour)
    height, width, channels = colour.shape
    alpha = None
    if source.alpha is not None:
        # Colour and opacity of the source are of one depth, those of the result are not.
        alpha = _of_depth(_resized(source.alpha[..., None], width, height), colour.dtype)
    spec = OutputSpec(
        format=order.format,
        width=width,
        height=height,
        channels=channels + (alpha is not None),
        depth=16 if colour.dtype == np.uint16 else 8,
        quality=order.quality,
        background=order.background,
        tile=order.tile if order.format == "tiff" else 0,
        strip=order.strip,
        provenance=order.facts is not None,
    )
    target = Path(order.target)
    sink = open_sink(target, spec, _metadata(order, source, channels))
    try:
        for top in range(0, height, _BAND_ROWS):
            sink.write(_band(colour, alpha, slice(top, top + _BAND_ROWS)))
        sink.close()
    except BaseException:
        sink.abort()
        raise
    notes = (*result.notes, *sink.notes)
    return Returned(width, height, target.stat().st_size, notes)


def check_whole(path: Path, probe: Probe) -> None:
    """Decode a picture to its end. Raises UnreadableImage."""
    _decoded(path, probe)


def _band(colour: Pixels, alpha: Pixels | None, rows: slice) -> Pixels:
    if alpha is None:
        return colour[rows]
    part = colour[rows]
    band = np.empty((*part.shape[:2], part.shape[2] + 1), part.dtype)
    band[..., :-1], band[..., -1:] = part, alpha[rows]
    return band


def _decoded(path: Path, probe: Probe) -> Picture:
    with memory_limit(decode_bytes(probe)):
        return decode(path, probe, srgb=True)


def _result(path: Path) -> Picture:
    try:
        return _decoded(path, probed(path))
    except UnreadableImage as fault:
        raise BadResult(fault.message) from fault


def _metadata(order: Return, source: Picture, channels: int) -> Metadata:
    """That of the source; pixels that went out as sRGB come back as sRGB."""
    facts = FORMATS[order.format]
    icc = _srgb_profile() if channels == 3 and 3 in facts.profiles else None
    metadata = replace(source.metadata, icc=icc, cicp=None)
    metadata = metadata.stripped() if order.strip else metadata
    if order.facts is None:
        return metadata
    return metadata.noted(order.facts, as_comment=order.format == "gif")


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """[H, W, C] at another size, by antialiased bicubic, in its own type."""
    if pixels.shape[:2] == (height, width):
        return pixels
    out = np.empty((height, width, pixels.shape[2]), pixels.dtype)
    peak = np.iinfo(pixels.dtype).max
    for channel in range(pixels.shape[2]):
        plane = Image.fromarray(pixels[..., channel].astype(np.float32))
        resized = plane.resize((width, height), Image.Resampling.BICUBIC)
        values: npt.NDArray[np.float32] = np.array(resized)
        out[..., channel] = np.rint(np.clip(values, 0, peak, out=values), out=values)
    return out


def _grey(colour: Pixels) -> Pixels:
    """[H, W, 1] from [H, W, 1 or 3]: a grey picture comes back in colours that are hardly any."""
    if colour.shape[2] == 1:
        return colour
    out = np.empty((*colour.shape[:2], 1), colour.dtype)
    for top in range(0, len(colour), _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        out[rows, :, 0] = np.rint(colour[rows].astype(np.float32) @ _LUMA)
    return out


def _of_depth(pixels: Pixels, dtype: np.dtype[Any]) -> Pixels:
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint8:
        return _in_eight_bits(pixels)
    return pixels.astype(np.uint16) * np.uint16(257)


def _in_eight_bits(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """uint16 to uint8, rounded: 257 levels are one."""
    out = np.empty(pixels.shape, np.uint8)
    for top in range(0, len(pixels), _BAND_ROWS):
        rows = slice(top, top + _BAND_ROWS)
        out[rows] = (pixels[rows].astype(np.uint32) + 128) // 257
    return out
