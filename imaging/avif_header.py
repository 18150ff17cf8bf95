"""The header of an AVIF: by Pillow, which reads sequences too; libvips tells of deep ones.

Pillow reads 8 bits a channel only. A deep file that libvips can open as well is left to it.
"""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from upscale.imaging import vips
from upscale.imaging.header import Header
from upscale.imaging.pillow_files import read_pillow_header

_HEAD = 64 << 10  # the boxes that describe the picture stand first
# BT.709, unspecified; curves that everyone shows as sRGB's.
_PLAIN_PRIMARIES, _PLAIN_TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)


def read_avif_header(path: Path, file: BinaryIO, size: int) -> Header:
    """The header of the AVIF at `path`, opened as `file`. Raises whatever Pillow raises."""
    header = read_pillow_header("avif", file, size)
    header = replace(header, metadata=replace(header.metadata, cicp=_codes(file)))
    try:
        image = vips.Image.heifload(os.fsencode(path), access="sequential")
    except vips.Error:
        return header
    probe = header.probe
    if image.format != "ushort" or (image.width, image.height) != (probe.width, probe.height):
        return header
    # libvips turns and mirrors by itself, and gives grey as RGB
    deep = replace(probe, depth=16, orientation=1, alpha=image.bands == 4)
    return replace(header, probe=deep, reader="vips")


def _codes(file: BinaryIO) -> bytes | None:
    """The colour codes of an nclx box, as a PNG's cICP has them; None where they mean sRGB.

    ISO/IEC 23091-2 has the numbers: primaries, transfer, matrix. The pixels that we get are RGB of
    full range.
    """
    file.seek(0)
    head = file.read(_HEAD)
    at = head.find(b"colrnclx")
    if at < 0 or at + 14 > len(head):
        return None
    primaries, transfer = struct.unpack_from(">HH", head, at + 8)
    if primaries in _PLAIN_PRIMARIES and transfer in _PLAIN_TRANSFERS:
        return None
    return bytes([primaries & 255, transfer & 255, 0, 1])
