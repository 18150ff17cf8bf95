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


def icc_profile(kinds: tuple[bytes, bytes, bytes], *tags: tuple[bytes, bytes]) -> bytes:
    """An ICC profile of a class, a space and a connection space, with the usual texts added."""
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = (*tags, (b"desc", text), (b"wtpt", white), (b"cprt", b"text" + bytes(8)))
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", at + len(body), b"lcms", 0x02400000, *kinds)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def gamma_curve(gamma: float) -> bytes:
    """A curve tag: light is code ** gamma."""
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


@pytest.fixture
def grey_profile() -> bytes:
    """A profile for grey with a gamma of 1.8."""
    return icc_profile((b"mntr", b"GRAY", b"XYZ "), (b"kTRC", gamma_curve(1.8)))


@pytest.fixture
def wide_profile() -> bytes:
    """A profile for RGB with wide primaries and a gamma of 1.8."""
    columns = {b"rXYZ": (0.7977, 0.2880, 0.0), b"gXYZ": (0.1352, 0.7119, 0.0)}
    columns[b"bXYZ"] = (0.0313, 0.0001, 0.8249)
    tags = [
        (name, b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in xyz)))
        for name, xyz in columns.items()
    ]
    tags += [(name, gamma_curve(1.8)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return icc_profile((b"mntr", b"RGB ", b"XYZ "), *tags)


@pytest.fixture
def cmyk_profile() -> bytes:
    """A smallest printer profile: lightness falls with the inks, whatever their colour."""
    inks = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(16, 4)
    light = 255 - np.minimum(255, inks @ [60, 60, 60, 255])
    grid = np.stack([light, np.full(16, 128), np.full(16, 128)], -1).astype(np.uint8)
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + ramp * 4 + grid.tobytes() + ramp * 3
    return icc_profile((b"prtr", b"CMYK", b"Lab "), (b"A2B0", lut))


@pytest.fixture
def rgb_jpeg(tmp_path: Path) -> Path:
    """A JPEG of 40 x 30 pixels."""
    path = tmp_path / "picture.jpg"
    Image.fromarray(noise(30, 40, 3)).save(path, quality=90)
    return path
