"""A walk over the chunks of a PNG: size, depth, colour type, frames and metadata.

Seeks over pixel data and never inflates it. A fault in a metadata chunk is a note, a fault in the
header is an error. Knows the container only; decoding is done elsewhere.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

# A chunk of metadata over this many bytes is passed over, and no more than this is inflated.
METADATA_LIMIT = 32 << 20

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_RAW_EXIF = (b"Raw profile type exif", b"Raw profile type APP1")
_XMP = b"XML:com.adobe.xmp"


@dataclass
class PngHeader:
    """What the chunks say; `depth` and `colour_type` as the file has them, not as decoded."""

    width: int
    height: int
    depth: int
    colour_type: int
    transparency: bool = False
    frames: int = 1
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    gamma: int | None = None
    srgb: bool = False
    notes: list[str] = field(default_factory=list)


def read_png_header(file: BinaryIO) -> PngHeader:
    """Read `file`, which stands at its first byte. Raises ValueError, with a phrase, if broken."""
    file.seek(8)
    length, kind = _chunk_head(file)
    body = file.read(13)
    if kind != b"IHDR" or length != 13 or len(body) < 13:
        raise ValueError("it does not begin with a header chunk")
    if file.read(4) != struct.pack(">I", zlib.crc32(body, zlib.crc32(b"IHDR"))):
        raise ValueError("the checksum of its header is wrong")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", body)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise ValueError(f"its header states a size of {width} x {height}")
    if depth not in _DEPTHS.get(colour_type, ()):
        raise ValueError(f"its header states depth {depth} with colour type {colour_type}")
    header = PngHeader(width, height, depth, colour_type)
    _walk(file, header)
    return header


def _walk(file: BinaryIO, header: PngHeader) -> None:
    pixels = False
    while True:
        try:
            length, kind = _chunk_head(file)
        except ValueError:
            break  # a file cut off: what stands before the cut may do, decoding will tell
        if kind == b"IEND":
            break
        pixels = pixels or kind == b"IDAT"
        if kind in _READERS and length <= METADATA_LIMIT:
            body, check = file.read(length), file.read(4)
            if check == struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))):
                _take(header, kind, body)
            else:
                _note(header, kind, "its checksum is wrong")
        else:
            file.seek(length + 4, 1)
    if not pixels:
        raise ValueError("it holds no pixel data")


def _chunk_head(file: BinaryIO) -> tuple[int, bytes]:
    head = file.read(8)
    if len(head) < 8:
        raise ValueError("it ends in the middle")
    length, kind = struct.unpack(">I4s", head)
    if length >= 1 << 31:
        raise ValueError("a chunk states an impossible length")
    return length, kind


def _take(header: PngHeader, kind: bytes, body: bytes) -> None:
    try:
        _READERS[kind](header, body)
    except (ValueError, IndexError, struct.error, zlib.error) as fault:
        _note(header, kind, str(fault))


def _note(header: PngHeader, kind: bytes, reason: str) -> None:
    note = f"The PNG's {kind.decode()} chunk was left out: {reason}."
    if note not in header.notes and len(header.notes) < 8:
        header.notes.append(note)


def _frames(header: PngHeader, body: bytes) -> None:
    header.frames = max(1, struct.unpack_from(">I", body)[0])


def _transparency(header: PngHeader, body: bytes) -> None:
    header.transparency = header.colour_type in (0, 2, 3) and len(body) > 0


def _profile(header: PngHeader, body: bytes) -> None:
    packed = body[body.index(b"\0") + 2 :]
    header.icc = header.icc or _inflated(packed)


def _exif(header: PngHeader, body: bytes) -> None:
    header.exif = body


def _gamma(header: PngHeader, body: bytes) -> None:
    header.gamma = struct.unpack_from(">I", body)[0]


def _srgb(header: PngHeader, body: bytes) -> None:
    header.srgb = True


def _plain_text(header: PngHeader, body: bytes) -> None:
    key, _, text = body.partition(b"\0")
    if _wanted(header, key):
        _text(header, key, text)


def _packed_text(header: PngHeader, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    if _wanted(header, key):
        _text(header, key, _inflated(rest[1:]))


def _world_text(header: PngHeader, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    if _wanted(header, key):
        text = rest[2:].split(b"\0", 2)[2]  # after the language and the translated key
        _text(header, key, _inflated(text) if rest[0] else text)


def _wanted(header: PngHeader, key: bytes) -> bool:
    """Whether a text holds XMP or EXIF that we lack; any other is not even inflated."""
    return (key == _XMP and header.xmp is None) or (key in _RAW_EXIF and header.exif is None)


def _text(header: PngHeader, key: bytes, text: bytes) -> None:
    if key == _XMP:
        header.xmp = text
    else:
        # "\nexif\n    1234\n" and the block in hexadecimal digits
        header.exif = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))


def _inflated(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(packed, METADATA_LIMIT)
    if stream.unconsumed_tail:
        raise ValueError(f"it is over {METADATA_LIMIT >> 20} MB when inflated")
    if not stream.eof:
        raise ValueError("it is cut off")
    return data


_READERS = {
    b"acTL": _frames,
    b"tRNS": _transparency,
    b"iCCP": _profile,
    b"eXIf": _exif,
    b"gAMA": _gamma,
    b"sRGB": _srgb,
    b"tEXt": _plain_text,
    b"zTXt": _packed_text,
    b"iTXt": _world_text,
}
