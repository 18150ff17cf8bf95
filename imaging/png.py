"""PNG, written in bands: rows in, compressed slices out, nothing else kept.

Every row is filtered by Up (the difference to the row above, across slices too). Slices of about
2 MB are deflated independently on a few threads and written in order, one IDAT chunk a slice; a
bounded number is in flight, so memory does not grow with the picture. What decoders see is one
ordinary zlib stream. Spec: W3C PNG, third edition.
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from upscale.imaging import deflate
from upscale.imaging.in_order import InOrder
from upscale.imaging.metadata import Metadata
from upscale.imaging.output_file import OutputFile
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.png_metadata import metadata_chunks
from upscale.imaging.rows import RowCount, portions

Bytes = npt.NDArray[np.uint8]

SLICE_BYTES = 2 << 20

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_UP = 2


class _Packed(NamedTuple):
    piece: deflate.Piece
    crc: int  # of the chunk's name, `head` and the piece
    head: bytes  # of the zlib stream, before the first piece
    last: bool
    buffer: Bytes  # free again


class PngSink:
    """See `imaging.sinks.Sink`. The caller's thread filters and writes, others compress."""

    def __init__(self, path: Path, spec: OutputSpec, metadata: Metadata) -> None:
        self.notes: list[str] = []
        self._spec, self._count = spec, RowCount(spec)
        row_bytes = spec.width * spec.channels * spec.depth // 8
        self._slice_rows = min(spec.height, max(1, SLICE_BYTES // (row_bytes + 1)))
        self._above: Bytes = np.zeros(row_bytes, np.uint8)
        self._free: list[Bytes] = []
        self._slice, self._filled = self._buffer(), 0
        self._adler, self._sent = 1, 0
        self._file = OutputFile(path)
        self._work = InOrder(spec.threads, "png", self._append)
        try:
            self._write_head(metadata)
        except BaseException:
            self.abort()
            raise

    def write(self, rows: Pixels) -> None:
        self._count.take(rows)
        for part in portions(rows, self._slice_rows - self._filled, self._slice_rows):
            self._filter(part)
            if self._filled == self._slice_rows:
                self._send()

    def close(self) -> None:
        self._count.finish()
        if self._filled:
            self._send()
        self._work.finish()
        self._file.write(_chunk(b"IEND", b""))
        self._file.close()

    def abort(self) -> None:
        self._work.abort()
        self._file.abort()

    def _write_head(self, metadata: Metadata) -> None:
        spec = self._spec
        colour_type = _COLOUR_TYPES[spec.channels]
        header = struct.pack(">IIBBBBB", spec.width, spec.height, spec.depth, colour_type, 0, 0, 0)
        self._file.write(b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header))
        self.notes += metadata.unplaced("PNG", ("exif", "xmp", "dpi", "text", "cicp"))
        for kind, data in metadata_chunks(metadata):
            self._file.write(_chunk(kind, data))

    def _buffer(self) -> Bytes:
        """A slice of raw rows, each behind the number of its filter: uint8 [rows, 1 + bytes]."""
        if self._free:
            return self._free.pop()
        buffer = np.empty((self._slice_rows, 1 + self._above.size), np.uint8)
        buffer[:, 0] = _UP
        return buffer

    def _filter(self, rows: Pixels) -> None:
        """Put the filtered rows [n, W, C] into the slice, which has room for them."""
        if self._spec.depth == 16:
            rows = rows.astype(">u2")
        plain: Bytes = np.ascontiguousarray(rows).view(np.uint8).reshape(rows.shape[0], -1)
        target = self._slice[self._filled : self._filled + plain.shape[0], 1:]
        np.subtract(plain[0], self._above, out=target[0])
        np.subtract(plain[1:], plain[:-1], out=target[1:])
        self._above = plain[-1].copy()
        self._filled += plain.shape[0]

    def _send(self) -> None:
        """Hand the slice to a thread."""
        first, self._sent = self._sent == 0, self._sent + self._filled
        last = self._sent == self._spec.height
        self._work.put(partial(_pack, self._slice, self._filled, first, last))
        self._slice, self._filled = self._buffer(), 0

    def _append(self, packed: _Packed) -> None:
        piece, crc, tail = packed.piece, packed.crc, b""
        self._adler = deflate.join_adler(self._adler, piece.adler, piece.size)
        if packed.last:
            tail = struct.pack(">I", self._adler)
            crc = zlib.crc32(tail, crc)
        size = len(packed.head) + len(piece.data) + len(tail)
        start = struct.pack(">I", size) + b"IDAT" + packed.head
        self._file.write(start, piece.data, tail, struct.pack(">I", crc))
        self._free.append(packed.buffer)


def _pack(buffer: Bytes, rows: int, first: bool, last: bool) -> _Packed:
    """Compress the first `rows` of a slice; runs on a thread of the pool."""
    head = deflate.HEADER if first else b""
    piece = deflate.compress(buffer[:rows].data, last)
    return _Packed(piece, zlib.crc32(piece.data, zlib.crc32(b"IDAT" + head)), head, last, buffer)


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
