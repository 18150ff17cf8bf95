"""JPEG, written in bands: rows in, entropy-coded bands out, nothing else kept.

Each band is encoded as a picture of its own, on a few threads, then stripped of its header; restart
markers join the bands (ITU-T T.81, B.2.1), so what decoders see is one ordinary baseline file,
to the bit what encoding the whole picture at once would give them. A bounded number of bands is in
flight, so memory does not grow with the picture. simplejpeg (libjpeg-turbo) encodes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg

from upscale.errors import ServerFault
from upscale.imaging.background import flattened, plain_colour
from upscale.imaging.exif import PREFIX
from upscale.imaging.in_order import InOrder
from upscale.imaging.jpeg_header import ICC_HEAD, IPTC, PHOTOSHOP_HEAD
from upscale.imaging.metadata import COMMENT, Metadata
from upscale.imaging.output_file import OutputFile
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.rows import RowCount, portions
from upscale.imaging.xmp import JPEG_HEAD as XMP_HEAD

DEFAULT_QUALITY = 95
BAND_BYTES = 2 << 20

# From here up colour keeps its full resolution (4:4:4), below it is 4:2:0.
_FULL_COLOUR_FROM = 90
_MAX_INTERVAL = 65535  # a restart interval is counted in 16 bits

_SOI, _EOI, _SOS, _SOF0 = 0xD8, 0xD9, 0xDA, 0xC0
_RST0, _DRI, _COM = 0xD0, 0xDD, 0xFE
_APP0, _APP1, _APP2, _APP13 = 0xE0, 0xE1, 0xE2, 0xED

_SEGMENT_BYTES = 65533  # what the 16-bit length of a segment leaves
_XMP_BYTES = 65502  # of a packet, by the XMP specification, part 3
_ICC_PART = _SEGMENT_BYTES - len(ICC_HEAD) - 2
_IPTC_HEAD = PHOTOSHOP_HEAD + b"8BIM" + struct.pack(">HH", IPTC, 0)


class _Encoded(NamedTuple):
    file: bytes
    buffer: Pixels  # free again


class _Coding(NamedTuple):
    """How bands are encoded: the same for all of them."""

    quality: int
    space: str  # of colour, as simplejpeg names it
    subsampling: str
    under: Pixels | None  # the colour under transparent pixels


class JpegSink:
    """See `imaging.sinks.Sink`. Takes uint8 rows of 1 to 4 channels, at most 65500 x 65500.

    Transparent pictures are put on `spec.background`; grey ones on a colour become RGB. What of
    `metadata` a JPEG cannot hold is dropped, with a note.
    """

    def __init__(self, path: Path, spec: OutputSpec, metadata: Metadata) -> None:
        self.notes: list[str] = []
        self._spec, self._count = spec, RowCount(spec)
        self._coding = _coding(spec)
        if self._coding.under is not None:
            self.notes.append(
                f"JPEG has no transparency: the picture was put on {spec.background}."
            )
        self._head = self._metadata_segments(metadata)
        unit = 16 if self._coding.subsampling == "420" else 8  # pixels of an MCU
        units_across = -(-spec.width // unit)
        fitting = BAND_BYTES // (spec.width * spec.channels * unit)
        units_down = max(1, min(fitting, _MAX_INTERVAL // units_across))
        self._interval = units_across * units_down
        self._band_rows = min(spec.height, unit * units_down)
        self._free: list[Pixels] = []
        self._band, self._filled, self._written = self._buffer(), 0, 0
        self._file = OutputFile(path)
        self._work = InOrder(spec.threads, "jpeg", self._append)

    def write(self, rows: Pixels) -> None:
        self._count.take(rows)
        for part in portions(rows, self._band_rows - self._filled, self._band_rows):
            self._band[self._filled : self._filled + part.shape[0]] = part
            self._filled += part.shape[0]
            if self._filled == self._band_rows:
                self._send()

    def close(self) -> None:
        self._count.finish()
        if self._filled:
            self._send()
        self._work.finish()
        self._file.write(bytes([0xFF, _EOI]))
        self._file.close()

    def abort(self) -> None:
        self._work.abort()
        self._file.abort()

    def _buffer(self) -> Pixels:
        """A band of rows: uint8 [rows, W, C]."""
        if self._free:
            return self._free.pop()
        return np.empty((self._band_rows, self._spec.width, self._spec.channels), np.uint8)

    def _send(self) -> None:
        """Hand the band to a thread."""
        self._work.put(partial(_encode, self._band, self._filled, self._coding))
        self._band, self._filled = self._buffer(), 0

    def _append(self, encoded: _Encoded) -> None:
        segments, data = _split(encoded.file)
        if self._written:
            start = bytes([0xFF, _RST0 + (self._written - 1) % 8])
        else:
            start = self._header(segments)
        self._file.write(start, data)
        self._written += 1
        self._free.append(encoded.buffer)

    def _header(self, segments: list[tuple[int, bytes]]) -> bytes:
        """All up to the entropy-coded data, from the `segments` of the first band."""
        parts = [bytes([0xFF, _SOI]), self._head]
        for marker, body in segments:
            if marker == _APP0:
                continue  # ours states the resolution
            if marker == _SOF0:  # precision, height, width, components
                body = body[:1] + struct.pack(">H", self._spec.height) + body[3:]
            if marker == _SOS:
                parts.append(_segment(_DRI, struct.pack(">H", self._interval)))
            parts.append(_segment(marker, body))
        return b"".join(parts)

    def _metadata_segments(self, metadata: Metadata) -> bytes:
        return b"".join(
            [
                _jfif(metadata.dpi),
                *self._exif(metadata.exif),
                *self._xmp(metadata.xmp),
                *self._iptc(metadata.iptc),
                *self._icc(metadata.icc),
                *self._comments(metadata),
            ]
        )

    def _exif(self, exif: bytes | None) -> Iterator[bytes]:
        if exif:
            body = PREFIX + exif.removeprefix(PREFIX)
            if self._fits(len(body), _SEGMENT_BYTES, "EXIF block"):
                yield _segment(_APP1, body)

    def _xmp(self, xmp: bytes | None) -> Iterator[bytes]:
        if xmp and self._fits(len(xmp), _XMP_BYTES, "XMP packet"):
            yield _segment(_APP1, XMP_HEAD + xmp)

    def _iptc(self, iptc: bytes | None) -> Iterator[bytes]:
        if iptc:
            body = _IPTC_HEAD + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
            if self._fits(len(body), _SEGMENT_BYTES, "IPTC record"):
                yield _segment(_APP13, body)

    def _icc(self, icc: bytes | None) -> Iterator[bytes]:
        if not icc:
            return
        if icc[16:20] == b"GRAY" and self._coding.space != "GRAY":
            self.notes.append("The picture became RGB on its background: its profile was dropped.")
        elif self._fits(len(icc), 255 * _ICC_PART, "colour profile"):
            parts = [icc[at : at + _ICC_PART] for at in range(0, len(icc), _ICC_PART)]
            for number, part in enumerate(parts, 1):
                yield _segment(_APP2, ICC_HEAD + bytes([number, len(parts)]) + part)

    def _comments(self, metadata: Metadata) -> Iterator[bytes]:
        for text in metadata.text:
            if text.keyword == COMMENT:
                body = text.text.encode("utf-8", "replace")
                if self._fits(len(body), _SEGMENT_BYTES, "comment"):
                    yield _segment(_COM, body)
        self.notes += metadata.unplaced("JPEG", ("exif", "xmp", "iptc", "dpi", "comment"))

    def _fits(self, size: int, limit: int, what: str) -> bool:
        if size > limit:
            self.notes.append(f"The {what} is too long for a JPEG and was dropped.")
        return size <= limit


def _coding(spec: OutputSpec) -> _Coding:
    quality = DEFAULT_QUALITY if spec.quality is None else spec.quality
    under = None
    if spec.channels in (2, 4):
        under = plain_colour(spec.background, spec.channels, 8)
    if spec.channels == 1 or (under is not None and under.size == 1):
        return _Coding(quality, "GRAY", "Gray", under)
    return _Coding(quality, "RGB", "444" if quality >= _FULL_COLOUR_FROM else "420", under)


def _encode(buffer: Pixels, rows: int, coding: _Coding) -> _Encoded:
    """The first `rows` of a band [n, W, C] as a JPEG of its own; runs on a thread."""
    band = buffer[:rows]
    if coding.under is not None:
        band = flattened(band, coding.under)
    try:
        data: bytes = simplejpeg.encode_jpeg(
            band, coding.quality, coding.space, coding.subsampling, fastdct=False
        )
    except (ValueError, RuntimeError, MemoryError) as fault:
        raise ServerFault(f"The JPEG encoder failed: {fault}.") from fault
    return _Encoded(data, buffer)


def _split(jpeg: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The segments of a baseline file up to its scan, as marker and body, and the scan's data."""
    at = 2
    segments: list[tuple[int, bytes]] = []
    while not segments or segments[-1][0] != _SOS:
        marker, size = struct.unpack_from(">xBH", jpeg, at)
        segments.append((marker, jpeg[at + 4 : at + 2 + size]))
        at += 2 + size
    return segments, jpeg[at:-2]  # without EOI


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _jfif(dpi: tuple[float, float] | None) -> bytes:
    """APP0, JFIF 1.01; the resolution is whole pixels an inch, or not stated."""
    unit, across, down = 0, 1, 1
    if dpi and all(0.5 < value < 65535 for value in dpi):
        unit, across, down = 1, round(dpi[0]), round(dpi[1])
    return _segment(_APP0, b"JFIF\0" + struct.pack(">BBBHHBB", 1, 1, unit, across, down, 0, 0))
