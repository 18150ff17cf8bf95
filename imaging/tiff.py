"""TIFF, written as rows come: deflated strips or tiles first, the directory at the end.

Pieces of about 1 MB are differenced (predictor 2) and deflated on a few threads, each a zlib stream
of its own, and written in order; a bounded number is in flight, so memory does not grow with the
picture's height. Whether the file is a classic TIFF or a BigTIFF is decided when its size is known.
Specs: TIFF 6.0, TIFF Technical Note 2 (deflate), BigTIFF.
"""

from __future__ import annotations

import struct
from array import array
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from upscale.errors import ServerFault
from upscale.imaging import deflate
from upscale.imaging.in_order import InOrder
from upscale.imaging.metadata import COMMENT, Metadata
from upscale.imaging.output_file import OutputFile
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.rows import RowCount, portions
from upscale.imaging.tiff_directory import (
    BYTE,
    DESCRIPTIVE,
    LONG,
    LONG8,
    UNDEFINED,
    Directory,
    Value,
    long,
    opaque,
    rational,
    read_exif,
    serialised,
    shorts,
    text,
)

Samples = npt.NDArray[np.unsignedinteger[Any]]

PIECE_BYTES = 1 << 20
CLASSIC_BYTES = 1 << 32  # a longer file becomes a BigTIFF: offsets of a classic one have 32 bits

_HEADER_BYTES = 16  # of a BigTIFF; a classic one leaves half of them unused

_DESCRIPTION = 0x010E


class TiffSink:
    """See `imaging.sinks.Sink`. Takes uint8 or uint16 rows of 1 to 4 channels.

    Strips, or square tiles where `spec.tile`, a multiple of 16, is not 0; a row of tiles is held.
    What of `metadata` a TIFF cannot hold is dropped, with a note.
    """

    def __init__(self, path: Path, spec: OutputSpec, metadata: Metadata) -> None:
        if spec.tile < 0 or spec.tile % 16:
            raise ServerFault(f"The tiles of a TIFF cannot have a side of {spec.tile} pixels.")
        self.notes: list[str] = []
        self._spec, self._count = spec, RowCount(spec)
        self._layout = _layout(spec)
        self._described = self._description(metadata)
        self._block, self._filled = _block(spec, self._layout), 0
        self._offsets, self._sizes = array("Q"), array("Q")
        self._file = _Patchable(path)
        self._end = 0
        self._work = InOrder(spec.threads, "tiff", self._place)
        try:
            self._append(bytes(_HEADER_BYTES))
        except BaseException:
            self.abort()
            raise

    def write(self, rows: Pixels) -> None:
        self._count.take(rows)
        size = self._block.shape[0]
        for part in portions(rows, size - self._filled, size):
            self._block[self._filled : self._filled + part.shape[0], : self._spec.width] = part
            self._filled += part.shape[0]
            if self._filled == size:
                self._send_block()

    def close(self) -> None:
        self._count.finish()
        if self._filled:
            self._send_block()
        self._work.finish()
        self._finish()
        self._file.close()

    def abort(self) -> None:
        self._work.abort()
        self._file.abort()

    def _send_block(self) -> None:
        """Hand the pieces of the block to threads, tiles filled up by copies of the last pixels."""
        layout, block = self._layout, self._block
        block[:, self._spec.width :] = block[:, self._spec.width - 1 : self._spec.width]
        rows = layout.rows if self._spec.tile else self._filled
        block[self._filled : rows] = block[self._filled - 1]
        # [rows, pieces * width, C] to [pieces, rows, width, C]
        pieces = block[:rows].reshape(rows, -1, layout.width, block.shape[2]).swapaxes(0, 1)
        for first in range(0, pieces.shape[0], layout.batch):
            batch = pieces[first : first + layout.batch]
            # A copy: the block is filled again while threads work.
            copy: Samples = np.array(batch, batch.dtype.newbyteorder("<"), order="C")
            self._work.put(partial(_compress, copy))
        self._filled = 0

    def _place(self, streams: list[_Stream]) -> None:
        for stream in streams:
            self._offsets.append(self._end)
            self._append(*stream)
            self._sizes.append(self._end - self._offsets[-1])

    def _append(self, *parts: bytes) -> None:
        self._file.write(*parts)
        self._end += sum(map(len, parts))

    def _finish(self) -> None:
        """Write the directory, then the header of the kind of file that this has become."""
        tail, directory = serialised(self._tags(big=True), self._end, big=True)
        header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, directory)
        if self._end + len(tail) <= CLASSIC_BYTES:
            tail, directory = serialised(self._tags(big=False), self._end, big=False)
            header = struct.pack("<2sHI8x", b"II", 42, directory)
        self._file.write(tail)
        self._file.patch(0, header)

    def _tags(self, *, big: bool) -> Directory:
        return self._described | _structure(self._spec) | self._places(big=big)

    def _places(self, *, big: bool) -> Directory:
        """Where the pieces lie."""
        kind, code = (LONG8, "<u8") if big else (LONG, "<u4")
        offsets, sizes = (
            Value(kind, len(numbers), np.frombuffer(numbers, np.uint64).astype(code).tobytes())
            for numbers in (self._offsets, self._sizes)
        )
        rows, width = long(self._layout.rows), long(self._layout.width)
        if self._spec.tile:
            return {0x0142: width, 0x0143: rows, 0x0144: offsets, 0x0145: sizes}
        return {0x0111: offsets, 0x0116: rows, 0x0117: sizes}

    def _description(self, metadata: Metadata) -> Directory:
        """The tags for what of the metadata the file can hold."""
        tags: Directory = {}
        if metadata.exif:
            tags |= self._exif(metadata.exif)
        for tag, kind, data in (
            (0x02BC, BYTE, metadata.xmp),
            (0x83BB, UNDEFINED, metadata.iptc),
            (0x8773, UNDEFINED, metadata.icc),
        ):
            if data:
                tags[tag] = opaque(kind, data)
        if metadata.dpi and all(0.01 < value < 400_000 for value in metadata.dpi):
            across, down = metadata.dpi
            tags |= {0x011A: rational(across), 0x011B: rational(down), 0x0128: shorts(2)}
        return tags | self._comment(metadata, described=_DESCRIPTION in tags)

    def _exif(self, exif: bytes) -> Directory:
        """What describes the picture, with the sub-IFDs; a note where something is broken."""
        found, sound = read_exif(exif)
        tags: Directory = {}
        for tag, value in found.items():
            if tag in DESCRIPTIVE:
                if isinstance(value, Value) and value.kind != DESCRIPTIVE[tag]:
                    sound = False
                else:
                    tags[tag] = value
        if not sound:
            self.notes.append("The EXIF block is damaged: what is broken of it was dropped.")
        return tags

    def _comment(self, metadata: Metadata, *, described: bool) -> Directory:
        """Comments as the description, where EXIF has none; notes for what has no place."""
        comments = [one.text for one in metadata.text if one.keyword == COMMENT]
        taken = bool(comments) and not described
        comment = ("comment",) if taken else ()
        self.notes += metadata.unplaced("TIFF", ("exif", "xmp", "iptc", "dpi", *comment))
        return {_DESCRIPTION: text("\n".join(comments))} if taken else {}


class _Layout(NamedTuple):
    """A piece is a strip or a tile: `rows` x `width` pixels; `batch` of them are one task."""

    rows: int
    width: int
    batch: int


class _Stream(NamedTuple):
    """A zlib stream, in the parts that it is made of."""

    head: bytes
    data: bytes
    tail: bytes


def _layout(spec: OutputSpec) -> _Layout:
    pixel = spec.channels * spec.depth // 8
    if spec.tile:
        return _Layout(spec.tile, spec.tile, max(1, PIECE_BYTES // (spec.tile**2 * pixel)))
    return _Layout(min(spec.height, max(1, PIECE_BYTES // (spec.width * pixel))), spec.width, 1)


def _block(spec: OutputSpec, layout: _Layout) -> Pixels:
    """Room for a row of pieces, whole ones: [rows, pieces * width, C]."""
    shape = (layout.rows, -(-spec.width // layout.width) * layout.width, spec.channels)
    return np.empty(shape, np.uint16) if spec.depth == 16 else np.empty(shape, np.uint8)


def _structure(spec: OutputSpec) -> Directory:
    """The tags that say how pixels are stored, but for the pieces."""
    alpha = spec.channels in (2, 4)
    tags: Directory = {
        0x0100: long(spec.width),
        0x0101: long(spec.height),
        0x0102: shorts(*[spec.depth] * spec.channels),
        0x0103: shorts(8),  # compression: deflate
        0x0106: shorts(1 if spec.channels <= 2 else 2),  # black is zero, or RGB
        0x0112: shorts(1),  # orientation
        0x0115: shorts(spec.channels),
        0x011C: shorts(1),  # samples of a pixel lie together
        0x013D: shorts(2),  # predictor: the difference to the pixel on the left
        0x0153: shorts(*[1] * spec.channels),  # unsigned
    }
    return tags | ({0x0152: shorts(2)} if alpha else {})  # alpha that is not multiplied in


def _compress(batch: Samples) -> list[_Stream]:
    """The pieces [n, rows, width, C], little endian, as streams; runs on a thread of the pool."""
    count, rows, _, channels = batch.shape
    plain = batch.reshape(count, rows, -1)
    delta = np.empty_like(plain)
    delta[..., :channels] = plain[..., :channels]
    np.subtract(plain[..., channels:], plain[..., :-channels], out=delta[..., channels:])
    return [_zlib_stream(piece.data) for piece in delta]


def _zlib_stream(raw: memoryview) -> _Stream:
    piece = deflate.compress(raw, True)
    return _Stream(deflate.HEADER, piece.data, struct.pack(">I", piece.adler))


class _Patchable(OutputFile):
    """A file whose beginning is known last."""

    def patch(self, at: int, data: bytes) -> None:
        """Overwrite what lies at byte `at`."""
        try:
            self._file.seek(at)
            self._file.write(data)
        except OSError as fault:
            raise self._fault(fault) from fault
