"""Valid files made invalid: cut, with flipped bits, with parts swapped, doubled, left out.

Knows enough of each container to cut at its joints, and to mend checksums so that a fault gets past
them. Pure: one file and one random generator give one other file.
"""

from __future__ import annotations

import struct
import zlib
from random import Random

# Values that lengths, counts and sizes trip over.
_ODD = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0xFFFFFFFF)


def mutated(data: bytes, format: str, random: Random) -> bytes:
    """`data`, a file of `format`, after one to four changes."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        if format == "tiff" and random.random() < 0.5:
            data = _entry(data, random)
        elif format in _SPLIT and random.random() < 0.4:
            data = _rearranged(_SPLIT[format](data), random, format)
        else:
            data = random.choice(_CHANGES)(data, random)
    return _mended(data) if format == "png" and random.random() < 0.6 else data


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flipped(data: bytes, random: Random) -> bytes:
    out = bytearray(data)
    near = len(out) if random.random() < 0.5 else min(len(out), 120)  # headers are short
    for _ in range(random.choice((1, 1, 2, 8)) if out else 0):
        out[random.randrange(near)] ^= 1 << random.randrange(8)
    return bytes(out)


def _run(data: bytes, random: Random) -> bytes:
    at, count = _range(data, random)
    fill = random.choice((b"\0", b"\xff", random.randbytes(1)))
    return data[:at] + fill * count + data[at + count :]


def _noise(data: bytes, random: Random) -> bytes:
    at, count = _range(data, random)
    return data[:at] + random.randbytes(count) + data[at + count :]


def _dropped(data: bytes, random: Random) -> bytes:
    at, count = _range(data, random)
    return data[:at] + data[at + count :]


def _doubled(data: bytes, random: Random) -> bytes:
    at, count = _range(data, random)
    return data[: at + count] + data[at:]


def _number(data: bytes, random: Random) -> bytes:
    size = random.choice((1, 2, 4))
    near = len(data) if random.random() < 0.4 else min(len(data), 160)
    at = random.randrange(max(1, near))
    value = random.choice(_ODD) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, random.choice(("little", "big"))) + data[at + size :]


_CHANGES = (_cut, _flipped, _flipped, _run, _noise, _dropped, _doubled, _number, _number)


def _range(data: bytes, random: Random) -> tuple[int, int]:
    at = random.randrange(max(1, len(data)))
    return at, random.choice((1, 2, 4, 16, 64, 256))


def _rearranged(parts: list[bytes], random: Random, format: str) -> bytes:
    """One part swapped with another, doubled, left out, emptied, or changed inside."""
    if len(parts) < 2:
        return b"".join(parts)
    one, other = random.randrange(len(parts)), random.randrange(len(parts))
    how = random.randrange(6)
    if how == 0:
        parts[one], parts[other] = parts[other], parts[one]
    elif how == 1:
        parts.insert(other, parts[one])
    elif how == 2:
        del parts[one]
    elif how == 3:
        parts[one:one] = [parts[one]] * random.choice((2, 10, 100))
    elif how == 4:
        parts[one] = parts[one][:8]
    else:
        parts[one] = random.choice(_CHANGES)(parts[one], random)
    data = b"".join(parts)
    if format == "webp" and random.random() < 0.7:  # the length of the whole
        data = data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]
    return data


def _chunks(data: bytes, first: int, order: str, extra: int, even: bool = False) -> list[bytes]:
    """The head of `first` bytes, then chunks; the length stands where `order` unpacks it."""
    parts, at = [data[:first]], first
    while at + 8 <= len(data):
        length = struct.unpack_from(order, data, at)[0]
        end = at + length + extra + (length & 1 if even else 0)
        if end <= at:
            break
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]] if at < len(data) else parts


def _png_chunks(data: bytes) -> list[bytes]:
    return _chunks(data, 8, ">I", 12)


def _riff_chunks(data: bytes) -> list[bytes]:
    return _chunks(data, 12, "<4xI", 8, even=True)


def _boxes(data: bytes) -> list[bytes]:
    """The boxes of an AVIF; those within `meta` each for themselves."""
    parts: list[bytes] = []
    for box in _chunks(data, 0, ">I", 0):
        if box[4:8] == b"meta":
            parts += _chunks(box, 12, ">I", 0)
        else:
            parts.append(box)
    return [part for part in parts if part]


def _segments(data: bytes) -> list[bytes]:
    """The segments of a JPEG before its first scan, then the rest."""
    parts, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        parts.append(data[at:end])
        at = end
    return [*parts, data[at:]]


_SPLIT = {"png": _png_chunks, "webp": _riff_chunks, "avif": _boxes, "jpeg": _segments}


def _mended(data: bytes) -> bytes:
    """A PNG with every checksum right."""
    head, *chunks = _png_chunks(data)
    mended = [c[:-4] + struct.pack(">I", zlib.crc32(c[4:-4])) if len(c) > 12 else c for c in chunks]
    return head + b"".join(mended)


def _entry(data: bytes, random: Random) -> bytes:
    """A TIFF with a directory entry swapped, doubled, left out, or of another type or value."""
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 16 and data[2:4] in (b"+\0", b"\0+")
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, at)
    except (struct.error, OverflowError):
        return data
    first, size = at + (8 if big else 2), 20 if big else 12
    if not 0 < count < 100 or first + count * size > len(data):
        return data
    out = bytearray(data)
    here = first + random.randrange(count) * size
    there = first + random.randrange(count) * size
    entry = bytes(out[here : here + size])
    how = random.randrange(5)
    if how == 0:
        out[here : here + size], out[there : there + size] = out[there : there + size], entry
    elif how == 1:
        out[there : there + size] = entry
    elif how == 2:  # left out; what follows moves up
        end = first + count * size
        out[here:end] = out[here + size : end] + bytes(size)
    elif how == 3:
        struct.pack_into(order + "H", out, here + 2, random.randrange(20))
    else:
        field = here + random.choice((4, 8)) if not big else here + random.choice((4, 12))
        struct.pack_into(order + "I", out, field, random.choice((*_ODD, random.getrandbits(32))))
    return bytes(out)
