"""Small pictures and files that several modules of the room's tests need."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from upscale.imaging.picture import Pixels


def noise(height: int, width: int, channels: int, depth: int = 8, seed: int = 0) -> Pixels:
    """Random pixels [H, W, C] of uint8 or uint16."""
    dtype = np.uint16 if depth == 16 else np.uint8
    top = 1 << depth
    return np.random.default_rng(seed).integers(0, top, (height, width, channels)).astype(dtype)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with a right checksum."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def make_png(pixels: Pixels, colour_type: int, *extra: tuple[bytes, bytes]) -> bytes:
    """A plain PNG without filters, with extra chunks before the pixel data."""
    height, width = pixels.shape[:2]
    depth = pixels.dtype.itemsize * 8
    wide = pixels.astype(">u2") if depth == 16 else pixels
    rows = b"".join(b"\0" + wide[y].tobytes() for y in range(height))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)),
            *(png_chunk(kind, data) for kind, data in extra),
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )


def exif_bytes(orientation: int, *, thumbnail: bytes = b"", order: str = "<") -> bytes:
    """An EXIF block: orientation, a camera's name, and a thumbnail in IFD1 where one is given."""
    first, text = 8, b"A camera of some make\0"
    text_at = first + 2 + 2 * 12 + 4
    second = text_at + len(text)
    body = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)
    body += struct.pack(order + "H", 2)
    body += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    body += struct.pack(order + "HHII", 0x010F, 2, len(text), text_at)
    body += struct.pack(order + "I", second if thumbnail else 0) + text
    if thumbnail:
        body += struct.pack(order + "H", 2)
        body += struct.pack(order + "HHII", 0x0201, 4, 1, second + 2 + 2 * 12 + 4)
        body += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail))
        body += struct.pack(order + "I", 0) + thumbnail
    return b"Exif\0\0" + body


@pytest.fixture
def srgb() -> bytes:
    """The bytes of an sRGB profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def grey_profile(srgb: bytes) -> bytes:
    """A profile whose header says GRAY."""
    return srgb[:16] + b"GRAY" + srgb[20:]


@pytest.fixture
def rgb_jpeg(tmp_path: Path) -> Path:
    """A JPEG of 40 x 30 pixels."""
    path = tmp_path / "picture.jpg"
    Image.fromarray(noise(30, 40, 3)).save(path, quality=90)
    return path
