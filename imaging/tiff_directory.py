"""TIFF directories: those of an EXIF block or a file read, those of a file written, classic or Big.

What is read can be written anew elsewhere, since values are taken out of the block and sub-IFDs are
followed. Values are little endian bytes. Specs: TIFF 6.0, BigTIFF, Exif 2.32. Knows nothing of
pixels, nor which tags a file ought to have.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Container
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, TypeAlias

import numpy as np

from upscale.imaging.exif import PREFIX
from upscale.imaging.metadata import METADATA_LIMIT

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16

_MOST_ENTRIES = 65535

EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005


# Tags of IFD0 that describe a picture, not how its pixels are stored, and their types.
DESCRIPTIVE = {
    0x010D: ASCII,  # DocumentName
    0x010E: ASCII,  # ImageDescription
    0x010F: ASCII,  # Make
    0x0110: ASCII,  # Model
    0x011D: ASCII,  # PageName
    0x0131: ASCII,  # Software
    0x0132: ASCII,  # DateTime
    0x013B: ASCII,  # Artist
    0x013C: ASCII,  # HostComputer
    0x4746: SHORT,  # Rating
    0x4749: SHORT,  # RatingPercent
    0x8298: ASCII,  # Copyright
    **dict.fromkeys(range(0x9C9B, 0x9CA0), BYTE),  # XPTitle, -Comment, -Author, -Keywords, -Subject
    EXIF_IFD: None,
    GPS_IFD: None,
}


@dataclass(frozen=True)
class Value:
    """What an entry holds: `count` elements of the type `kind`, little endian."""

    kind: int
    count: int
    data: bytes

    def numbers(self) -> tuple[int, ...]:
        """The whole numbers that it holds; none for other types."""
        code = {BYTE: "u1", SHORT: "<u2", LONG: "<u4", LONG8: "<u8"}.get(self.kind)
        return tuple(np.frombuffer(self.data, code).tolist()) if code else ()

    def ratio(self) -> float:
        """The first element, which is a fraction, a float or a whole number; 0 where it is none."""
        if self.kind == RATIONAL:
            above, below = struct.unpack_from("<II", self.data)
            return above / below if below else 0.0
        codes = {11: "<f", 12: "<d", BYTE: "<B", SHORT: "<H", LONG: "<I"}
        code = codes.get(self.kind)
        return float(struct.unpack_from(code, self.data)[0]) if code else 0.0


# By tag; a directory as a value is a sub-IFD.
Directory: TypeAlias = "dict[int, Value | Directory]"

_Pointers: TypeAlias = "dict[int, _Pointers]"
_SUB_IFDS: _Pointers = {EXIF_IFD: {INTEROPERABILITY_IFD: {}}, GPS_IFD: {}}

# By type: the bytes that change places between byte orders, and those of an element. The type IFD
# is missing: a pointer that we do not follow would be wrong in another file.
_SIZES = {1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (4, 8), 6: (1, 1), 7: (1, 1), 8: (2, 2)}
_SIZES |= {9: (4, 4), 10: (4, 8), 11: (4, 4), 12: (8, 8), 16: (8, 8), 129: (1, 1)}
_POINTERS = (13, 18)  # the types IFD and IFD8: read as numbers where a file is only looked at
_UTF8 = 129  # of Exif 3.0, unknown to TIFF


def shorts(*numbers: int) -> Value:
    return Value(SHORT, len(numbers), struct.pack(f"<{len(numbers)}H", *numbers))


def long(number: int) -> Value:
    return Value(LONG, 1, struct.pack("<I", number))


def rational(number: float) -> Value:
    """A positive number to within a part in about ten thousand; below 400,000."""
    near = Fraction(number).limit_denominator(10_000)
    return Value(RATIONAL, 1, struct.pack("<II", near.numerator, near.denominator))


def text(value: str) -> Value:
    """ASCII by type, UTF-8 by custom."""
    data = value.encode("utf-8", "replace") + b"\0"
    return Value(ASCII, len(data), data)


def opaque(kind: int, data: bytes) -> Value:
    """Bytes, of a type whose elements are bytes."""
    return Value(kind, len(data), data)


def read_exif(exif: bytes) -> tuple[Directory, bool]:
    """IFD0 of an EXIF block with its Exif, GPS and Interoperability IFDs; whether all was sound.

    Never raises: what is broken is left out. Maker notes are taken as they are, so those with
    offsets of their own lose what these point to.
    """
    reader = _Reader(io.BytesIO(exif.removeprefix(PREFIX)))
    return reader.whole(), reader.sound


def read_file(file: BinaryIO, wanted: Container[int]) -> tuple[Directory, bool]:
    """The `wanted` tags of a TIFF's first IFD, and all of its Exif and GPS IFDs.

    Also whether all was sound; never raises: what is broken is left out.
    """
    reader = _Reader(file, wanted)
    return reader.whole(), reader.sound


def exif_block(tags: Directory) -> bytes:
    """Tags as an EXIF block of their own."""
    data, offset = serialised(tags, 8, big=False)
    return PREFIX + struct.pack("<2sHI", b"II", 42, offset) + data


class _Reader:
    def __init__(self, file: BinaryIO, wanted: Container[int] | None = None) -> None:
        self.file, self.wanted = file, wanted
        self.size = file.seek(0, 2)
        file.seek(0)
        self.head = file.read(16)
        self.order = ">" if self.head[:2] == b"MM" else "<"
        self.big = self.head[2:4] in (b"+\0", b"\0+")
        self.sound = True
        # Values do not overlap in a sound block: bounds what is taken.
        self.left = min(self.size, METADATA_LIMIT)

    def whole(self) -> Directory:
        try:
            if self.head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
                raise ValueError("no TIFF structure")
            at = self.number("Q", 8) if self.big else self.number("I", 4)
            return self.directory(at, _SUB_IFDS, self.wanted)
        except ValueError:
            self.sound = False
            return {}

    def number(self, code: str, at: int) -> int:
        return int(struct.unpack(self.order + code, self.bytes(at, struct.calcsize(code)))[0])

    def bytes(self, at: int, size: int) -> bytes:
        if at + size > self.size:
            raise ValueError("outside the block")
        self.file.seek(at)
        return self.file.read(size)

    def directory(
        self, at: int, pointers: _Pointers, wanted: Container[int] | None = None
    ) -> Directory:
        found: Directory = {}
        count = self.number("Q" if self.big else "H", at)
        first, step = (at + 8, 20) if self.big else (at + 2, 12)
        for index in range(min(count, _MOST_ENTRIES)):
            entry = first + step * index
            try:
                tag = self.number("H", entry)
                if wanted is not None and tag not in wanted and tag not in pointers:
                    continue
                if tag in pointers:
                    offset = (
                        self.number("Q", entry + 12) if self.big else self.number("I", entry + 8)
                    )
                    value: Value | Directory = self.directory(offset, pointers[tag])
                else:
                    value = self.value(entry)
                if value:  # a directory without entries is not allowed
                    found.setdefault(tag, value)
            except ValueError:
                self.sound = False
        return found

    def value(self, entry: int) -> Value:
        code, inline = ("Q", 8) if self.big else ("I", 4)
        kind, count = self.number("H", entry + 2), self.number(code, entry + 4)
        if kind in _POINTERS and self.wanted is not None:
            kind = LONG8 if kind == 18 else LONG
        if kind not in _SIZES or count == 0:
            raise ValueError("a type that cannot be copied")
        unit, size = _SIZES[kind]
        at = entry + 4 + inline
        if count * size > inline:
            at = self.number(code, at)
        if count * size > self.left:
            raise ValueError("values overlap")
        data = self.bytes(at, count * size)
        self.left -= len(data)
        if self.order == ">":
            data = np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()
        if kind in (ASCII, _UTF8):  # cameras pad with any number of NULs, readers want one
            return opaque(ASCII, data.rstrip(b"\0") + b"\0")
        return Value(kind, count, data)


def serialised(tags: Directory, start: int, *, big: bool) -> tuple[bytes, int]:
    """The bytes of a directory, its sub-IFDs and values, to lie at `start` of a file.

    Also returns where the directory itself lies. A classic one must end within 4 GiB; it is never
    longer than a big one.
    """
    writer = _Writer(start, big)
    offset = writer.directory(tags)
    return bytes(writer.data), offset


class _Writer:
    def __init__(self, start: int, big: bool) -> None:
        self.start, self.big = start, big
        self.data = bytearray()

    def directory(self, tags: Directory) -> int:
        """Append a directory behind all that it points to; returns where it lies."""
        count, entry, inline = ("<Q", "<HHQ8s", 8) if self.big else ("<H", "<HHI4s", 4)
        entries = [struct.pack(count, len(tags))]
        for tag, value in sorted(tags.items(), key=lambda item: item[0]):
            if isinstance(value, dict):
                value = self.offset(self.directory(value))
            data = value.data
            if len(data) > inline:
                data = self.offset(self.append(data)).data
            entries.append(struct.pack(entry, tag, value.kind, value.count, data))
        return self.append(b"".join(entries) + bytes(inline))  # no directory follows

    def offset(self, number: int) -> Value:
        return Value(LONG8, 1, struct.pack("<Q", number)) if self.big else long(number)

    def append(self, data: bytes) -> int:
        self.data += bytes(-(self.start + len(self.data)) % 8)
        at = self.start + len(self.data)
        self.data += data
        return at
