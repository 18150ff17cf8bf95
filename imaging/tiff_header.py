"""The header of a TIFF: by libvips, which reads most kinds; by Pillow what it refuses.

Pillow also gives the tags that libvips does not hand out: what further channels are, EXIF, IPTC.
Where it cannot open a file those are unknown, and the file is read without them.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from PIL import TiffImagePlugin

from upscale.imaging import pillow_files, vips
from upscale.imaging.header import Header, Space, sides
from upscale.imaging.metadata import Metadata
from upscale.imaging.probe import Probe
from upscale.imaging.tiff_chain import check_directories

_EXTRA_SAMPLES, _IPTC = 338, 33723
_TILE_SIDES = (322, 323)
_BITS, _COMPRESSION, _PLANAR = 258, 259, 284
_OLD_JPEG, _SEPARATE = 6, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2
# A tile is decoded whole; no program writes larger ones.
_LARGEST_TILE = 1 << 26  # pixels

_RESOLUTION, _RESOLUTION_UNIT = 282, 296
_INCHES, _CENTIMETRES = 2, 3
# All of them are decoded with those that are used.
_MOST_CHANNELS = 32

_INCH = 25.4  # millimetres


def read_tiff_header(path: Path, file: BinaryIO, size: int) -> Header:
    """The header of the TIFF at `path`, opened as `file`. Raises ValueError, or a library's."""
    check_directories(file, size)
    file.seek(0)
    tags = _opened(file)
    if tags is not None:
        _check_tiles(tags)
        if _only_pillow(tags):
            return _by_pillow(file, size, tags)
    try:
        image = vips.Image.tiffload(os.fsencode(path), access="sequential")
    except vips.Error:
        return _by_pillow(file, size, tags)
    if image.bands > _MOST_CHANNELS:
        raise ValueError(f"it has {image.bands} channels")
    space, colours = _space(image)
    extra = _extra_samples(tags)
    beyond = image.bands - (4 if space == "cmyk" else colours)
    alpha = beyond > 0 and (extra is None or extra[:1] in ((_ASSOCIATED,), (_UNASSOCIATED,)))
    notes = []
    if beyond > alpha:
        notes.append("The TIFF's further channels were left out.")
    turned = int(image.get("orientation")) if image.get_typeof("orientation") else 1
    turned = turned if 1 <= turned <= 8 else 1
    icc = _blob(image, "icc-profile-data")
    exif, note = _exif(tags)
    return Header(
        Probe(
            format="tiff",
            **sides(image.width, image.height, turned),
            channels=colours,
            alpha=alpha,
            depth=8 if _bits(image) <= 8 else 16,
            orientation=turned,
            frames=int(image.get("n-pages")) if image.get_typeof("n-pages") else 1,
            icc=icc is not None,
            bytes=size,
        ),
        Metadata(
            icc=icc,
            exif=exif,
            xmp=_blob(image, "xmp-data"),
            iptc=_iptc(tags),
            dpi=_density(image, tags),
        ),
        tuple(notes + note),
        space,
    )


def _by_pillow(file: BinaryIO, size: int, tags: TiffImagePlugin.TiffImageFile | None) -> Header:
    file.seek(0)
    header = pillow_files.read_pillow_header("tiff", file, size)
    exif, notes = _exif(tags)
    bits = tags.tag_v2.get(_BITS, (8,)) if tags is not None else (8,)
    if header.probe.depth == 8 and max(bits) > 8:
        notes.append("This kind of TIFF is read at 8 bits a channel.")
    metadata = replace(header.metadata, exif=exif, iptc=_iptc(tags))
    return replace(header, metadata=metadata, notes=tuple(notes))


def _opened(file: BinaryIO) -> TiffImagePlugin.TiffImageFile | None:
    try:
        image = pillow_files.open_image("tiff", file)
    except Exception:  # Pillow raises whatever it stumbles over; libvips may read the file
        return None
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image


def _only_pillow(tags: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether it is of a kind that libvips opens, to fail on its pixels."""
    tag = tags.tag_v2.get
    tiled_planes = tag(_PLANAR, 1) == _SEPARATE and _TILE_SIDES[0] in tags.tag_v2
    return tiled_planes or tag(_COMPRESSION, 1) == _OLD_JPEG


def _check_tiles(tags: TiffImagePlugin.TiffImageFile) -> None:
    width, height = (tags.tag_v2.get(tag, 1) for tag in _TILE_SIDES)
    if isinstance(width, int) and isinstance(height, int) and width * height > _LARGEST_TILE:
        raise ValueError(f"its tiles are {width} x {height} pixels")


def _space(image: vips.Image) -> tuple[Space, int]:
    """The colour space of the stored pixels, and how many channels of colour we make of it."""
    if image.interpretation == "cmyk":
        return "cmyk", 3
    if image.interpretation in ("lab", "labs", "labq"):
        return "lab", 3
    grey = image.interpretation in ("b-w", "grey16") or image.bands < 3
    return "rgb", 1 if grey else 3


def _bits(image: vips.Image) -> int:
    if image.get_typeof("bits-per-sample"):
        return int(image.get("bits-per-sample"))
    return 8 if image.format in ("uchar", "char") else 16


def _extra_samples(tags: TiffImagePlugin.TiffImageFile | None) -> tuple[int, ...] | None:
    """What the channels beyond colour are; None where that is not known."""
    if tags is None:
        return None
    found = tags.tag_v2.get(_EXTRA_SAMPLES, ())
    return found if isinstance(found, tuple) else (found,)


def _exif(tags: TiffImagePlugin.TiffImageFile | None) -> tuple[bytes | None, list[str]]:
    if tags is None:
        return None, []
    try:
        return pillow_files.tiff_exif(tags), []
    except Exception:  # Pillow raises whatever it stumbles over
        return None, ["The TIFF's EXIF is damaged and was dropped."]


def _iptc(tags: TiffImagePlugin.TiffImageFile | None) -> bytes | None:
    found = tags.tag_v2.get(_IPTC) if tags is not None else None
    return found if isinstance(found, bytes) and found else None


def _density(
    image: vips.Image, tags: TiffImagePlugin.TiffImageFile | None
) -> tuple[float, float] | None:
    """Dots an inch; None where the file states none (libvips has a value all the same)."""
    if tags is not None:
        unit = tags.tag_v2.get(_RESOLUTION_UNIT, _INCHES)
        if _RESOLUTION not in tags.tag_v2 or unit not in (_INCHES, _CENTIMETRES):
            return None
    across, down = image.xres * _INCH, image.yres * _INCH
    fine = all(math.isfinite(value) and value > 0 for value in (across, down))
    return (across, down) if fine else None


def _blob(image: vips.Image, name: str) -> bytes | None:
    return bytes(image.get(name)) if image.get_typeof(name) else None
