"""A walk over the chunks of a PNG: size, depth, colour type, frames and metadata.

Seeks over pixel data and never inflates it. A fault in a metadata chunk is a note, a fault in the
header is an error. Knows the container only; decoding is done elsewhere.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

from upscale.imaging.metadata import METADATA_LIMIT, Text
from upscale.imaging.xmp import JPEG_HEAD as XMP_HEAD

_TOO_MUCH = f"there are over {METADATA_LIMIT >> 20} MB of metadata"
# Programs refuse a picture with a longer text, inflated (Pillow), and we would hand it on.
_TEXT_LIMIT = 1 << 20
# A picture of 64 megapixels in chunks of 4 KB has about a hundred thousand.
_MOST_CHUNKS = 1 << 18

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_RAW = (b"Raw profile type exif", b"Raw profile type APP1", b"Raw profile type xmp")
_CRITICAL = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_XMP = b"XML:com.adobe.xmp"
_FIRST_CHUNK = 8
_KEEPING = 500  # bytes that a text takes beside its own
_INCH = 0.0254  # metres


@dataclass
class PngHeader:
    """What the chunks say; `depth` and `colour_type` as the file has them, not as decoded.

    `gamma` and `primaries` (x and y of white, red, green, blue) are in units of 1 / 100000.
    `pixels` says where the chunks lie that decoding needs: offset and size, in order. `room` is how
    many bytes of further metadata are taken.
    """

    width: int
    height: int
    depth: int
    colour_type: int
    transparency: bool = False
    frames: int = 1
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    text: list[Text] = field(default_factory=list)
    dpi: tuple[float, float] | None = None
    gamma: int | None = None
    primaries: tuple[int, ...] | None = None
    cicp: bytes | None = None
    srgb: bool = False
    notes: list[str] = field(default_factory=list)
    pixels: list[tuple[int, int]] = field(default_factory=list)
    room: int = METADATA_LIMIT


def read_png_header(file: BinaryIO) -> PngHeader:
    """Read `file`, which stands at its first byte. Raises ValueError, with a phrase, if broken."""
    file.seek(_FIRST_CHUNK)
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
    pixels, end = False, file.seek(0, 2)
    file.seek(_FIRST_CHUNK + 25)
    header.pixels.append((0, file.tell()))
    for count in itertools.count():
        if count > _MOST_CHUNKS:
            raise ValueError(f"it is in more than {_MOST_CHUNKS} chunks")
        at = file.tell()
        try:
            length, kind = _chunk_head(file)
        except ValueError:
            break  # a file cut off: what stands before the cut may do, decoding will tell
        pixels = pixels or kind == b"IDAT"
        late = kind == b"tRNS" and pixels
        if late:
            _note(header, kind, "it stands behind the pixels")
        elif kind in _CRITICAL:
            _keep(header, at, min(length + 12, end - at))
        if kind == b"IEND":
            break
        if kind in _READERS and not late:
            _read(file, header, kind, length)
        file.seek(at + length + 12)
    if not pixels:
        raise ValueError("it holds no pixel data")


def _keep(header: PngHeader, at: int, size: int) -> None:
    """Note a chunk that decoding needs; neighbours are one range."""
    start, length = header.pixels[-1]
    if start + length == at:
        header.pixels[-1] = (start, length + size)
    else:
        header.pixels.append((at, size))


def _read(file: BinaryIO, header: PngHeader, kind: bytes, length: int) -> None:
    if length > header.room:
        _note(header, kind, _TOO_MUCH)
        return
    body, check = file.read(length), file.read(4)
    header.room -= length + _KEEPING
    if check == struct.pack(">I", zlib.crc32(body, zlib.crc32(kind))):
        _take(header, kind, body)
    else:
        _note(header, kind, "its checksum is wrong")


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
    header.icc = header.icc or _inflated(header, packed)


def _exif(header: PngHeader, body: bytes) -> None:
    header.exif = body


def _gamma(header: PngHeader, body: bytes) -> None:
    header.gamma = struct.unpack_from(">I", body)[0]


def _srgb(header: PngHeader, body: bytes) -> None:
    header.srgb = True


def _density(header: PngHeader, body: bytes) -> None:
    across, down, unit = struct.unpack_from(">IIB", body)
    if unit == 1 and across and down:
        header.dpi = (across * _INCH, down * _INCH)


def _chromaticities(header: PngHeader, body: bytes) -> None:
    header.primaries = struct.unpack_from(">8I", body)


def _coding(header: PngHeader, body: bytes) -> None:
    if len(body) != 4:
        raise ValueError("it has not four bytes")
    header.cicp = body


def _plain_text(header: PngHeader, body: bytes) -> None:
    key, _, text = body.partition(b"\0")
    _text(header, key, text)


def _packed_text(header: PngHeader, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    _text(header, key, _inflated(header, rest[1:]))


def _world_text(header: PngHeader, body: bytes) -> None:
    key, _, rest = body.partition(b"\0")
    language, translated, text = rest[2:].split(b"\0", 2)
    text = _inflated(header, text) if rest[0] else text
    if key == _XMP:
        header.xmp = header.xmp or text
        return
    _check_length(text)
    header.text.append(
        Text(
            key.decode("latin-1"),
            text.decode("utf-8"),
            language.decode("latin-1"),
            translated.decode("utf-8"),
        )
    )


def _text(header: PngHeader, key: bytes, text: bytes) -> None:
    if key == _XMP:
        header.xmp = header.xmp or text
    elif key in _RAW:
        # "\nexif\n    1234\n" and the block in hexadecimal digits
        raw = bytes.fromhex(text.split(b"\n", 3)[3].decode("ascii"))
        packet = raw.removeprefix(XMP_HEAD)
        if packet.lstrip().startswith(b"<"):  # an APP1 segment of a JPEG can be either
            header.xmp = header.xmp or packet
        else:
            header.exif = header.exif or raw
    else:
        _check_length(text)
        header.text.append(Text(key.decode("latin-1"), text.decode("latin-1")))


def _check_length(text: bytes) -> None:
    if len(text) > _TEXT_LIMIT:
        raise ValueError(f"a text is longer than {_TEXT_LIMIT >> 20} MB")


def _inflated(header: PngHeader, packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(packed, max(1, header.room))
    if stream.unconsumed_tail:
        header.room = 0  # the next one is not inflated as far again
        raise ValueError(_TOO_MUCH)
    if not stream.eof:
        raise ValueError("it is cut off")
    header.room -= len(data)
    return data


_READERS = {
    b"acTL": _frames,
    b"tRNS": _transparency,
    b"iCCP": _profile,
    b"eXIf": _exif,
    b"gAMA": _gamma,
    b"sRGB": _srgb,
    b"pHYs": _density,
    b"cHRM": _chromaticities,
    b"cICP": _coding,
    b"tEXt": _plain_text,
    b"zTXt": _packed_text,
    b"iTXt": _world_text,
}
