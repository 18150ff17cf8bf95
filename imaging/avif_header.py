"""The header of an AVIF: by Pillow, which reads sequences too; libvips tells of deep ones.

Pillow reads 8 bits a channel only. A deep file that libvips can open as well is left to it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from upscale.imaging import vips
from upscale.imaging.header import Header
from upscale.imaging.pillow_files import read_pillow_header


def read_avif_header(path: Path, file: BinaryIO, size: int) -> Header:
    """The header of the AVIF at `path`, opened as `file`. Raises whatever Pillow raises."""
    header = read_pillow_header("avif", file, size)
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
