"""The header of a TIFF: its tags by us, its pixels by libvips or, where that refuses, by Pillow.

What a file is, is judged by its tags: what its numbers mean, whether it is a camera's raw file that
only begins like a TIFF. Which library reads the pixels is decided here too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from upscale.imaging import pillow_files, vips
from upscale.imaging.header import Header, Space, sides
from upscale.imaging.metadata import Metadata
from upscale.imaging.probe import Probe
from upscale.imaging.tiff_chain import check_directories
from upscale.imaging.tiff_directory import DESCRIPTIVE, Directory, Value, exif_block, read_file

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 254, 258, 259, 262, 274
_ACROSS, _DOWN, _PLANAR, _UNIT, _EXTRA_SAMPLES = 282, 283, 284, 296, 338
_TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS, _IPTC, _DNG_VERSION = 322, 323, 330, 33723, 50706
_STRUCTURE = (
    *(_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _ACROSS, _DOWN, _PLANAR, _UNIT),
    *(_EXTRA_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _SUB_IFDS, _IPTC, _DNG_VERSION),
)

_OLD_JPEG, _JPEG, _SEPARATE = 6, 7, 2
_ASSOCIATED, _UNASSOCIATED = 1, 2
_YCBCR = 6
# Black or white as 0, RGB, palette, separated inks, YCbCr, CIE L*a*b*.
_PICTURES = (0, 1, 2, 3, 5, _YCBCR, 8)
_RAW = (32803, 34892)  # a mosaic, and light as a sensor measures it

# A tile is decoded whole; no program writes larger ones.
_LARGEST_TILE = 1 << 26  # pixels
# All of them are decoded with those that are used.
_MOST_CHANNELS = 32

_MILLIMETRES = {2: 25.4, 3: 10.0}  # of an inch, of a centimetre
_INCH = 25.4


def read_tiff_header(path: Path, file: BinaryIO, size: int) -> Header:
    """The header of the TIFF at `path`, opened as `file`. Raises ValueError, or a library's."""
    check_directories(file, size)
    found, sound = read_file(file, {*_STRUCTURE, *DESCRIPTIVE})
    tags = _Tags(found)
    tags.check()
    header = _by_libvips(path, tags, size) or _by_pillow(file, tags, size)
    notes = list(header.notes)
    if not sound:
        notes.append("Damaged tags of the TIFF were left out.")
    described = {tag: value for tag, value in found.items() if tag in DESCRIPTIVE}
    iptc = found.get(_IPTC)
    metadata = replace(
        header.metadata,
        exif=exif_block(described) if described else None,
        iptc=iptc.data if isinstance(iptc, Value) else None,
        dpi=tags.density(),
    )
    return replace(header, metadata=metadata, notes=tuple(notes))


@dataclass(frozen=True)
class _Tags:
    found: Directory

    def numbers(self, tag: int, default: int) -> tuple[int, ...]:
        value = self.found.get(tag)
        numbers = value.numbers() if isinstance(value, Value) else ()
        return numbers or (default,)

    def number(self, tag: int, default: int) -> int:
        return self.numbers(tag, default)[0]

    def check(self) -> None:
        """Raise ValueError, with a phrase, for what is no picture that anyone would want larger."""
        kind = self.number(_PHOTOMETRIC, 1)
        preview = self.number(_SUBFILE, 0) & 1 and _SUB_IFDS in self.found
        if _DNG_VERSION in self.found or kind in _RAW or preview:
            raise ValueError("it is a camera's raw file: develop it to a TIFF or JPEG first")
        if kind not in _PICTURES:
            raise ValueError(f"its colours are coded in a way ({kind}) that is not read")
        width, height = self.number(_TILE_WIDTH, 1), self.number(_TILE_HEIGHT, 1)
        if width * height > _LARGEST_TILE:
            raise ValueError(f"its tiles are {width} x {height} pixels")

    @property
    def only_pillow(self) -> bool:
        """Whether it is of a kind that libvips opens and fails on, or reads without converting."""
        compression = self.number(_COMPRESSION, 1)
        tiled_planes = self.number(_PLANAR, 1) == _SEPARATE and _TILE_WIDTH in self.found
        plain_ycbcr = self.number(_PHOTOMETRIC, 1) == _YCBCR and compression != _JPEG
        return tiled_planes or plain_ycbcr or compression == _OLD_JPEG

    @property
    def alpha(self) -> bool:
        """Whether the first channel beyond colour is opacity."""
        return self.number(_EXTRA_SAMPLES, 0) in (_ASSOCIATED, _UNASSOCIATED)

    @property
    def orientation(self) -> int:
        turned = self.number(_ORIENTATION, 1)
        return turned if 1 <= turned <= 8 else 1

    def density(self) -> tuple[float, float] | None:
        """Dots an inch, across and down."""
        unit = _MILLIMETRES.get(self.number(_UNIT, 2))
        values = [self.found.get(tag) for tag in (_ACROSS, _DOWN)]
        if unit is None:
            return None
        across, down = (v.ratio() if isinstance(v, Value) else 0.0 for v in values)
        return (across * _INCH / unit, down * _INCH / unit)


def _by_libvips(path: Path, tags: _Tags, size: int) -> Header | None:
    """None where libvips refuses the file, or would."""
    if tags.only_pillow:
        return None
    try:
        image = vips.Image.tiffload(os.fsencode(path), access="sequential")
    except vips.Error:
        return None
    if image.bands > _MOST_CHANNELS:
        raise ValueError(f"it has {image.bands} channels")
    space, colours = _space(image)
    beyond = image.bands - (4 if space == "cmyk" else colours)
    # libvips scales the opacity beside LAB by a measure that depends on the depth.
    alpha = beyond > 0 and tags.alpha and space != "lab"
    left_out = ("The TIFF's further channels were left out.",) if beyond > alpha else ()
    icc = _blob(image, "icc-profile-data")
    return Header(
        Probe(
            format="tiff",
            **sides(image.width, image.height, tags.orientation),
            channels=colours,
            alpha=alpha,
            depth=8 if _bits(image) <= 8 else 16,
            orientation=tags.orientation,
            frames=int(image.get("n-pages")) if image.get_typeof("n-pages") else 1,
            icc=icc is not None,
            bytes=size,
        ),
        Metadata(icc=icc, xmp=_blob(image, "xmp-data")),
        left_out,
        space,
    )


def _by_pillow(file: BinaryIO, tags: _Tags, size: int) -> Header:
    file.seek(0)
    header = pillow_files.read_pillow_header("tiff", file, size)
    if header.probe.depth == 8 and max(tags.numbers(_BITS, 8)) > 8:
        return replace(header, notes=("This kind of TIFF is read at 8 bits a channel.",))
    return header


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


def _blob(image: vips.Image, name: str) -> bytes | None:
    return bytes(image.get(name)) if image.get_typeof(name) else None
