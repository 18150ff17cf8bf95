"""TIFF directories: those of an EXIF block read, those of a file written, classic or BigTIFF.

What is read can be written anew elsewhere, since values are taken out of the block and sub-IFDs are
followed. Values are little endian bytes. Specs: TIFF 6.0, BigTIFF, Exif 2.32. Knows nothing of
pixels, nor which tags a file ought to have.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from upscale.imaging.exif import PREFIX

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16

EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005


@dataclass(frozen=True)
class Value:
    """What an entry holds: `count` elements of the type `kind`, little endian."""

    kind: int
    count: int
    data: bytes


# By tag; a directory as a value is a sub-IFD.
Directory: TypeAlias = "dict[int, Value | Directory]"

_Pointers: TypeAlias = "dict[int, _Pointers]"
_SUB_IFDS: _Pointers = {EXIF_IFD: {INTEROPERABILITY_IFD: {}}, GPS_IFD: {}}

# By type: the bytes that change places between byte orders, and those of an element. The type IFD
# is missing: a pointer that we do not follow would be wrong in another file.
_SIZES = {1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (4, 8), 6: (1, 1), 7: (1, 1), 8: (2, 2)}
_SIZES |= {9: (4, 4), 10: (4, 8), 11: (4, 4), 12: (8, 8), 129: (1, 1)}
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
    reader = _Reader(exif.removeprefix(PREFIX))
    return reader.whole(), reader.sound


class _Reader:
    def __init__(self, block: bytes) -> None:
        self.block = block
        self.order = ">" if block[:2] == b"MM" else "<"
        self.sound = True
        self.left = len(block)  # values do not overlap in a sound block: bounds what is taken

    def whole(self) -> Directory:
        try:
            if self.block[:4] not in (b"II*\0", b"MM\0*"):
                raise ValueError("no TIFF structure")
            return self.directory(self.number("I", 4), _SUB_IFDS)
        except ValueError:
            self.sound = False
            return {}

    def number(self, code: str, at: int) -> int:
        return int(struct.unpack(self.order + code, self.bytes(at, struct.calcsize(code)))[0])

    def bytes(self, at: int, size: int) -> bytes:
        if at + size > len(self.block):
            raise ValueError("outside the block")
        return self.block[at : at + size]

    def directory(self, at: int, pointers: _Pointers) -> Directory:
        found: Directory = {}
        for index in range(self.number("H", at)):
            entry = at + 2 + 12 * index
            try:
                tag = self.number("H", entry)
                if tag in pointers:
                    value: Value | Directory = self.directory(
                        self.number("I", entry + 8), pointers[tag]
                    )
                else:
                    value = self.value(entry)
                if value:  # a directory without entries is not allowed
                    found.setdefault(tag, value)
            except ValueError:
                self.sound = False
        return found

    def value(self, entry: int) -> Value:
        kind, count = self.number("H", entry + 2), self.number("I", entry + 4)
        if kind not in _SIZES or count == 0:
            raise ValueError("a type that cannot be copied")
        unit, size = _SIZES[kind]
        at = entry + 8 if count * size <= 4 else self.number("I", entry + 8)
        data = self.bytes(at, count * size)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError("values overlap")
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
