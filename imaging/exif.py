"""EXIF as bytes: reading the orientation, and cleaning a block without writing it anew.

A block is patched in place, so that offsets hold, those inside a camera's maker notes included.
Knows the TIFF layout of EXIF; knows nothing of the files that carry it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

PREFIX = b"Exif\0\0"

_ORIENTATION = 0x0112
_IMAGE_WIDTH, _IMAGE_HEIGHT = 0x0100, 0x0101
_EXIF_IFD = 0x8769
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_RESOLUTIONS, _UNIT = (0x011A, 0x011B), 0x0128
_INCHES = {2: 1.0, 3: 2.54}  # units of an inch and a centimetre
_LONG, _RATIONAL = 4, 5
_THUMB_OFFSETS = (0x0201, 0x0111)  # of a JPEG thumbnail; of the strips of an uncompressed one
_THUMB_LENGTHS = (0x0202, 0x0117)
_WIDTHS = {1: "B", 3: "H", 4: "I"}  # EXIF type to struct code: BYTE, SHORT, LONG


class _Entry(NamedTuple):
    tag: int
    value: int  # of the first element, where the type is an integer that lies in the entry
    at: int  # where that value lies
    code: str  # its struct code, "" for other types


class _Tiff(NamedTuple):
    data: bytearray
    order: str  # "<" or ">"

    def number(self, code: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(code) > len(self.data):
            raise ValueError("an offset points outside the block")
        return int(struct.unpack_from(self.order + code, self.data, at)[0])

    def entries(self, ifd: int) -> Iterator[_Entry]:
        for index in range(self.number("H", ifd)):
            at = ifd + 2 + 12 * index
            tag, kind = self.number("H", at), self.number("H", at + 2)
            code = _WIDTHS.get(kind, "")
            value = self.number(code, at + 8) if code else 0
            yield _Entry(tag, value, at + 8, code)

    def state(self, ifd: int, values: Mapping[int, int]) -> None:
        """Set whole numbers of a directory, as LONG: 65535 is not enough for every side."""
        for entry in list(self.entries(ifd)):
            if entry.tag in values and entry.code:
                struct.pack_into(self.order + "HI", self.data, entry.at - 6, _LONG, 1)
                struct.pack_into(self.order + "I", self.data, entry.at, values[entry.tag])

    def end(self, ifd: int) -> int:
        """Where the pointer to the next IFD lies."""
        return ifd + 2 + 12 * self.number("H", ifd)


def orientation(exif: bytes) -> int:
    """The tag's value, 1 to 8; 1 where it is absent, out of range, or the block is broken."""
    try:
        tiff = _opened(exif)
        for entry in tiff.entries(tiff.number("I", 4)):
            if entry.tag == _ORIENTATION and entry.code:
                return entry.value if 1 <= entry.value <= 8 else 1
    except ValueError:
        pass
    return 1


def cleaned(exif: bytes) -> bytes:
    """The block with orientation 1 and without its thumbnail (IFD1), `Exif\\0\\0` in front.

    Raises ValueError, with a phrase that says why, if the block is broken.
    """
    tiff = _opened(exif)
    first = tiff.number("I", 4)
    for entry in tiff.entries(first):
        if entry.tag == _ORIENTATION and entry.code:
            struct.pack_into(tiff.order + entry.code, tiff.data, entry.at, 1)
    pointer = tiff.end(first)
    if pointer + 4 > len(tiff.data):
        return PREFIX + bytes(tiff.data)  # some writers leave the last pointer out
    second = tiff.number("I", pointer)
    struct.pack_into("<I", tiff.data, pointer, 0)
    # A directory inside the first one is a fault, no thumbnail: unlinking is enough.
    if second >= pointer + 4 or 8 <= second < first:
        _drop_thumbnail(tiff, second, (first, pointer + 4))
    return PREFIX + bytes(tiff.data)


def sized(exif: bytes, width: int, height: int) -> bytes:
    """A cleaned block with the sizes in pixels that it states set to `width` and `height`."""
    tiff = _opened(exif)
    try:
        first = tiff.number("I", 4)
        tiff.state(first, {_IMAGE_WIDTH: width, _IMAGE_HEIGHT: height})
        for entry in list(tiff.entries(first)):
            if entry.tag == _EXIF_IFD and entry.code:
                tiff.state(entry.value, {_PIXEL_WIDTH: width, _PIXEL_HEIGHT: height})
                break  # a block may list it by the thousand
    except (ValueError, struct.error):
        pass  # a directory that points nowhere states no size
    return PREFIX + bytes(tiff.data)


def without_orientation(exif: bytes) -> bytes:
    """A cleaned block without the tag, all values where they were."""
    tiff = _opened(exif)
    first = tiff.number("I", 4)
    for entry in list(tiff.entries(first)):
        if entry.tag == _ORIENTATION:
            start, end = entry.at - 8, tiff.end(first) + 4  # the pointer moves up too
            moved = bytes(tiff.data[start + 12 : end])
            tiff.data[start:end] = moved.ljust(end - start, b"\0")
            struct.pack_into(tiff.order + "H", tiff.data, first, tiff.number("H", first) - 1)
            break
    return PREFIX + bytes(tiff.data)


def density(exif: bytes) -> tuple[float, float] | None:
    """Dots an inch, across and down, as a cleaned block states them."""
    tiff = _opened(exif)
    found: dict[int, float] = {}
    unit = 2
    try:
        for entry in tiff.entries(tiff.number("I", 4)):
            if entry.tag == _UNIT and entry.code:
                unit = entry.value
            elif entry.tag in _RESOLUTIONS and tiff.number("H", entry.at - 6) == _RATIONAL:
                at = tiff.number("I", entry.at)
                below = tiff.number("I", at + 4)
                found[entry.tag] = tiff.number("I", at) / below if below else 0.0
    except ValueError:
        return None
    if len(found) < 2 or unit not in _INCHES:
        return None
    across, down = (found[tag] * _INCHES[unit] for tag in _RESOLUTIONS)
    return across, down


def _opened(exif: bytes) -> _Tiff:
    data = bytearray(exif.removeprefix(PREFIX))
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        raise ValueError("it does not begin with a byte order")
    tiff = _Tiff(data, order)
    if tiff.number("H", 2) != 42:
        raise ValueError("it is not a TIFF structure")
    return tiff


def _drop_thumbnail(tiff: _Tiff, ifd: int, kept: tuple[int, int]) -> None:
    """Blank the directory at `ifd` and the pixels it points to, nothing of the range `kept`."""
    try:
        entries = list(tiff.entries(ifd))
    except ValueError:
        return
    # One of each kind at most, however many a broken block lists.
    starts = [e.value for e in entries if e.tag in _THUMB_OFFSETS and e.code][:2]
    lengths = [e.value for e in entries if e.tag in _THUMB_LENGTHS and e.code][:2]
    end = min(tiff.end(ifd) + 4, len(tiff.data) if ifd > kept[0] else kept[0])
    tiff.data[ifd:end] = bytes(end - ifd)
    for start, length in zip(starts, lengths, strict=False):
        stop = min(start + length, len(tiff.data))
        if 8 <= start < stop and (stop <= kept[0] or start >= kept[1]):
            tiff.data[start:stop] = bytes(stop - start)
            if len(tiff.data) - stop < 4:  # the usual place, last; a pad byte may follow
                del tiff.data[start:]
