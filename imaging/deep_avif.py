"""AVIF of 10 bits a channel, from 16: rows are collected, encoded at the end by libvips.

Ten bits are what browsers and cameras know; twelve belong to a profile that few decoders have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upscale.errors import ServerFault
from upscale.imaging import vips
from upscale.imaging.metadata import Metadata
from upscale.imaging.output_file import OutputFile
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.rows import RowCount
from upscale.imaging.whole import DEFAULT_QUALITY

BITS = 10
_TOP = (1 << BITS) - 1
_EFFORT = 2  # of 0 to 9; the default of 4 takes three times as long
_INCH = 25.4  # millimetres
_FIELDS = {"icc": "icc-profile-data", "exif": "exif-data", "xmp": "xmp-data"}


class DeepAvifSink:
    """See `imaging.sinks.Sink`. Takes uint16 rows of 1 to 4 channels."""

    def __init__(self, path: Path, spec: OutputSpec, metadata: Metadata) -> None:
        self.notes: list[str] = [f"AVIF holds {BITS} bits a channel: 16 were rounded to them."]
        self._spec, self._count, self._metadata = spec, RowCount(spec), metadata
        self.notes += metadata.unplaced("AVIF", ("exif", "xmp"))
        self._file = OutputFile(path)
        try:
            self._pixels: Pixels = np.empty((spec.height, spec.width, spec.channels), np.uint16)
        except MemoryError as fault:
            self._file.abort()
            raise ServerFault("Not enough memory for an AVIF of this size.") from fault

    def write(self, rows: Pixels) -> None:
        top = self._count.taken
        self._count.take(rows)
        # libvips cuts the low bits off, so they are rounded here.
        levels = (rows.astype(np.uint32) * _TOP + 32767) // 65535
        self._pixels[top : top + rows.shape[0]] = levels << (16 - BITS)

    def close(self) -> None:
        self._count.finish()
        self._file.write(self._encoded())
        self._file.close()

    def abort(self) -> None:
        self._pixels = np.empty((0, 0, 0), np.uint16)  # the pixels go now, whoever holds the sink
        self._file.abort()

    def _encoded(self) -> bytes:
        spec, metadata = self._spec, self._metadata
        kind = "grey16" if spec.channels <= 2 else "rgb16"
        image = vips.from_array(self._pixels).copy(interpretation=kind)
        if metadata.dpi:  # libvips writes its own into the EXIF block
            across, down = metadata.dpi
            image = image.copy(xres=across / _INCH, yres=down / _INCH)
        blocks = {"icc": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
        kept = [name for name, block in blocks.items() if block]
        for name in kept:
            image.set_type(vips.BLOB, _FIELDS[name], blocks[name])
        quality = DEFAULT_QUALITY["avif"] if spec.quality is None else spec.quality
        try:
            data: bytes = image.heifsave_buffer(
                Q=quality,
                compression="av1",
                bitdepth=BITS,
                effort=_EFFORT,
                keep="|".join(kept) or "none",
            )
        except vips.Error as fault:
            raise ServerFault(f"The avif encoder failed: {fault}.") from fault
        return data
