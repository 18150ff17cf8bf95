"""The directories of a TIFF, looked over before libraries read them: are they in proportion?

A few kilobytes can list the same megabytes thousands of times, and libraries copy each listing.
Judges numbers only; what is cut off or makes no sense is for the readers to tell (TIFF 6.0, section
2; BigTIFF has wider numbers).
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from upscale.imaging.tiff_directory import EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD

_MOST_PICTURES = 10_000
# libtiff has the same bound for one directory.
_MOST_ENTRIES = 4096
# Of all directories together: a quarter of a second.
_MOST_ENTRIES_ALL = 1 << 18
# Values may be shared by a few tags, so that they add up to somewhat more than the file.
_SHARED, _FREE = 2, 64 << 10

# Bytes of a value, by its type.
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WIDTHS |= {16: 8, 17: 8, 18: 8}
# Directories that a tag points to and that are read with the first.
_POINTERS = {EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD}


def check_directories(file: BinaryIO, size: int) -> None:
    """Raise ValueError, with a phrase, if the directories list far more than the file holds."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    offset, count_code, entry_code = ("Q", "Q", "HHQQ") if big else ("I", "H", "HHII")
    entry_size, inline = struct.calcsize(order + entry_code), 8 if big else 4
    seen: set[int] = set()
    pages = entries_all = bytes_all = 0
    waiting = [(_number(head, order + offset, 8 if big else 4), True)]
    while waiting:
        at, is_page = waiting.pop()
        if not 0 < at < size or at in seen:
            continue
        seen.add(at)
        pages += is_page
        if pages > _MOST_PICTURES:
            raise ValueError(f"it holds more than {_MOST_PICTURES} pictures")
        file.seek(at)
        count = _number(file.read(struct.calcsize(count_code)), order + count_code)
        data = file.read(entry_size * min(count, _MOST_ENTRIES + 1))
        entries_all += len(data) // entry_size
        if len(data) > entry_size * _MOST_ENTRIES or entries_all > _MOST_ENTRIES_ALL:
            raise ValueError("it lists more tags than any picture has")
        whole = data[: len(data) // entry_size * entry_size]
        for tag, kind, number, value in struct.iter_unpack(order + entry_code, whole):
            length = _WIDTHS.get(kind, 0) * number
            bytes_all += min(length, size) if length > inline else 0
            if tag in _POINTERS:
                waiting.append((value, False))
        if bytes_all > _SHARED * size + _FREE:
            raise ValueError("its tags list more than the file holds")
        if is_page:
            waiting.append((_number(file.read(8), order + offset), True))


def _number(data: bytes, code: str, at: int = 0) -> int:
    """A number of the file; 0 where it is cut off."""
    try:
        return int(struct.unpack_from(code, data, at)[0])
    except struct.error:
        return 0
