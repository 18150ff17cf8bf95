"""A walk over the markers of a JPEG: size, colour model and metadata, and where its pixels lie.

Seeks over what it does not know and decodes nothing. A fault in metadata is a note, a fault in the
frame is an error. Knows the container only (ITU-T T.81 annex B; JFIF; Exif; ICC.1 annex B.4).
"""

from __future__ import annotations

import itertools
import mmap
import re
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from upscale.imaging.exif import PREFIX as EXIF
from upscale.imaging.metadata import COMMENT, Text
from upscale.imaging.xmp import JPEG_HEAD as XMP_HEAD

END = b"\xff\xd9"

_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ICC_HEAD = b"ICC_PROFILE\0"
PHOTOSHOP_HEAD = b"Photoshop 3.0\0"
IPTC = 0x0404
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_LOSSLESS = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}
_APP0, _APP1, _APP2, _APP13, _APP14, _COM, _SOS, _EOI = (
    *(0xE0, 0xE1, 0xE2, 0xED, 0xEE),
    *(0xFE, 0xDA, 0xD9),
)
# Segments in front of the pixels. Full ones would make 256 MB; a picture has about a dozen, one
# with a profile and a map of depths some hundred.
_MOST_SEGMENTS = 4096
# What some writers pad segments with, all of it together.
_MOST_STRAY = 1 << 20
_MOST_TEXT = 1 << 20
# libvips has the same bound; each scan may cost as much as the first.
_MOST_SCANS = 100
# In entropy-coded data a marker is FF and anything but a stuffed zero, a restart or a fill byte.
_SCAN = re.compile(rb"\xff\xda")
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class Endless(ValueError):
    """It goes on beyond all measure: no other reader is to try."""


class UnusualJpeg(ValueError):
    """A JPEG of a kind that is not read, whatever reads it."""


@dataclass
class JpegHeader:
    """What the markers say. `components` are 1, 3 or 4; `pixels` lists the parts of the file that
    decoding needs, as offset and size; `ended` tells that the end marker is there; `stray` counts
    bytes between segments.
    """

    width: int = 0
    height: int = 0
    components: int = 0
    frames: int = 1
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: list[Text] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pixels: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False
    stray: int = 0


def read_jpeg_header(file: BinaryIO) -> JpegHeader:
    """Read `file`. Raises ValueError, with a phrase, if it is broken or of a kind that is rare;
    Endless if reading it would take too long."""
    header = JpegHeader()
    profile: dict[int, bytes] = {}
    file.seek(0)
    header.pixels.append((0, 2))
    file.seek(2)
    for count in itertools.count():
        if count > _MOST_SEGMENTS:
            raise Endless(f"it has more than {_MOST_SEGMENTS} segments before its pixels")
        at = _next_marker(file, header)
        marker, body = _segment(file)
        if marker == _EOI:
            raise ValueError("it ends before any pixels")
        if marker in _FRAMES:
            _frame(header, marker, body)
        elif _take(header, profile, marker, body):
            continue
        if marker == _SOS:
            break
        header.pixels.append((at, file.tell() - at))
    if header.width < 1 or header.height < 1:
        raise ValueError("it has no frame")
    header.icc = _joined(header, profile)
    size = file.seek(0, 2)
    header.pixels.append((at, size - at))
    header.ended = _has_end(file, at)
    return header


def _next_marker(file: BinaryIO, header: JpegHeader) -> int:
    """Stand behind a marker's FF; returns where it lies. Passes over stray bytes, as libjpeg."""
    while True:
        byte = file.read(1)
        if not byte:
            raise ValueError("it ends in the middle")
        if byte == b"\xff":
            kind = file.read(1)
            while kind == b"\xff":  # fill bytes
                kind = file.read(1)
                _count_stray(header)
            if kind and kind != b"\0":
                file.seek(-1, 1)
                return file.tell() - 1
        _count_stray(header)


def _count_stray(header: JpegHeader) -> None:
    header.stray += 1
    if header.stray > _MOST_STRAY:
        raise Endless(f"more than {_MOST_STRAY >> 20} MB of it are no segments")


def _segment(file: BinaryIO) -> tuple[int, bytes]:
    marker = file.read(1)[0]
    if marker == _EOI or marker == 0x01 or 0xD0 <= marker <= 0xD8:
        return marker, b""
    head = file.read(2)
    length = int.from_bytes(head, "big")
    body = file.read(length - 2) if length > 2 else b""
    if len(head) < 2 or length < 2 or len(body) < length - 2:
        raise ValueError("it ends in the middle")
    return marker, body


def _frame(header: JpegHeader, marker: int, body: bytes) -> None:
    if len(body) < 6:
        raise ValueError("its frame is cut off")
    precision, height, width, components = struct.unpack_from(">BHHB", body)
    if marker in _LOSSLESS:
        raise UnusualJpeg("it is lossless or hierarchical JPEG, which hardly any program reads")
    if precision != 8:
        raise UnusualJpeg(f"it has {precision} bits a channel, and 8 are read")
    if components not in (1, 3, 4):
        raise UnusualJpeg(f"it has {components} channels")
    if not width or not height:
        raise ValueError(f"its frame states a size of {width} x {height}")
    header.width, header.height, header.components = width, height, components


def _take(header: JpegHeader, profile: dict[int, bytes], marker: int, body: bytes) -> bool:
    """Read a segment of metadata; True if decoding is better off without it."""
    try:
        if marker == _APP0 and body.startswith(b"JFIF\0"):
            _density(header, body)
            return False
        if marker == _APP1 and body.startswith(EXIF):
            header.exif = header.exif or body
        elif marker == _APP1 and body.startswith(_MORE_XMP):
            _note(header, "Extended XMP was left out: only the main packet is kept.")
        elif marker == _APP1 and body.startswith(XMP_HEAD):
            header.xmp = header.xmp or body[len(XMP_HEAD) :]
        elif marker == _APP2 and body.startswith(ICC_HEAD):
            profile.setdefault(body[len(ICC_HEAD)], body[len(ICC_HEAD) + 2 :])
        elif marker == _APP2 and body.startswith(b"MPF\0"):
            header.frames = _pictures(body[4:])
        elif marker == _APP13 and body.startswith(PHOTOSHOP_HEAD):
            header.iptc = header.iptc or _resource(body[len(PHOTOSHOP_HEAD) :], IPTC)
        elif marker == _COM:
            _comment(header, body)
    except (ValueError, IndexError, struct.error) as fault:
        _note(header, f"A part of the JPEG's metadata was left out: {fault}.")
    return marker == _COM or (0xE0 <= marker <= 0xEF and marker not in (_APP0, _APP14))


def _note(header: JpegHeader, note: str) -> None:
    if note not in header.notes and len(header.notes) < 8:
        header.notes.append(note)


def _density(header: JpegHeader, body: bytes) -> None:
    unit, across, down = struct.unpack_from(">BHH", body, 7)
    inches = {1: 1.0, 2: 2.54}.get(unit)
    if inches and across and down:
        header.dpi = (across * inches, down * inches)


def _comment(header: JpegHeader, body: bytes) -> None:
    raw = body.rstrip(b"\0")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if sum(len(other.text) for other in header.text) + len(text) > _MOST_TEXT:
        raise ValueError(f"its comments are longer than {_MOST_TEXT >> 20} MB")
    if text:
        header.text.append(Text(COMMENT, text))


def _pictures(mpf: bytes) -> int:
    """How many pictures the table of a multi-picture file lists (CIPA DC-007)."""
    order = {b"II": "<", b"MM": ">"}[mpf[:2]] if mpf[:2] in (b"II", b"MM") else ">"
    at = struct.unpack_from(order + "I", mpf, 4)[0]
    for index in range(min(100, struct.unpack_from(order + "H", mpf, at)[0])):  # it has three
        tag, _, _, value = struct.unpack_from(order + "HHII", mpf, at + 2 + 12 * index)
        if tag == 0xB001:
            return max(1, min(int(value), 1000))
    return 1


def _resource(data: bytes, wanted: int) -> bytes | None:
    """A resource of a Photoshop segment by its number."""
    at = 0
    while data[at : at + 4] == b"8BIM":
        number, name = struct.unpack_from(">HB", data, at + 4)
        start = at + 6 + (name + 2) // 2 * 2
        size = struct.unpack_from(">I", data, start)[0]
        if number == wanted:
            return data[start + 4 : start + 4 + size]
        at = start + 4 + (size + 1) // 2 * 2
    return None


def _joined(header: JpegHeader, profile: dict[int, bytes]) -> bytes | None:
    if not profile:
        return None
    if sorted(profile) != list(range(1, len(profile) + 1)):
        header.notes.append("A part of the colour profile is missing: it was dropped.")
        return None
    return b"".join(profile[index] for index in sorted(profile))


def check_scans(file: BinaryIO) -> None:
    """Raise Endless for more scans than libvips would read: Pillow would read them all."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if sum(1 for _ in itertools.islice(_SCAN.finditer(data), _MOST_SCANS + 1)) > _MOST_SCANS:
            raise Endless(f"it has more than {_MOST_SCANS} scans")


def _has_end(file: BinaryIO, at: int) -> bool:
    """Whether the scans that begin at `at` are followed by an end marker."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while found := _MARKER.search(data, at):
            if found[0] == END:
                return True
            length = int.from_bytes(data[found.end() : found.end() + 2], "big")
            at = found.end() + max(2, length)
    return False
