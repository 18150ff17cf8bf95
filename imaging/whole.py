"""JPEG and WebP, whose encoders want the whole picture: rows are collected, encoded at the end.

The rows go straight into the encoder's own image, so the pixels are held once. Pillow encodes.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from upscale.errors import ServerFault
from upscale.imaging.exif import PREFIX
from upscale.imaging.output_file import OutputFile
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.rows import RowCount

DEFAULT_QUALITY = {"jpeg": 95, "webp": 90}

# From here up a JPEG keeps colour at full resolution (4:4:4), below it is 4:2:0.
_FULL_COLOUR_FROM = 90
# One APP1 segment must hold the EXIF block of a JPEG.
_JPEG_EXIF_BYTES = 65533


class WholeSink:
    """See `imaging.sinks.Sink`. Takes uint8 rows of 1 to 4 channels."""

    def __init__(
        self, path: Path, spec: OutputSpec, *, icc: bytes | None, exif: bytes | None
    ) -> None:
        self.notes: list[str] = []
        self._spec, self._count = spec, RowCount(spec)
        self._quality = DEFAULT_QUALITY[spec.format] if spec.quality is None else spec.quality
        self._mode = self._chosen_mode()
        self._icc, self._exif = self._fitting(icc, exif)
        self._file = OutputFile(path)
        try:
            self._image = Image.new(self._mode, (spec.width, spec.height))
        except MemoryError as fault:
            self._file.abort()
            raise ServerFault(f"Not enough memory for a {spec.format} of this size.") from fault

    def write(self, rows: Pixels) -> None:
        top = self._count.taken
        self._count.take(rows)
        if rows.shape[0]:
            self._image.paste(Image.fromarray(self._converted(rows)), (0, top))

    def close(self) -> None:
        self._count.finish()
        self._file.write(self._encoded())
        self._file.close()

    def abort(self) -> None:
        self._image = Image.new("L", (1, 1))  # the pixels go now, whoever holds the sink
        self._file.abort()

    def _chosen_mode(self) -> str:
        transparent = self._spec.channels in (2, 4)
        if self._spec.format == "webp":  # has no grey of its own
            return "RGBA" if transparent else "RGB"
        if transparent:
            self.notes.append("JPEG has no transparency: the picture was put on white.")
        return "L" if self._spec.channels <= 2 else "RGB"

    def _fitting(self, icc: bytes | None, exif: bytes | None) -> tuple[bytes | None, bytes | None]:
        """The metadata that the file can hold."""
        if icc and self._spec.format == "webp" and icc[16:20] == b"GRAY":
            self.notes.append("WebP has no grey: the picture became RGB, its profile was dropped.")
            icc = None
        if exif:
            exif = PREFIX + exif.removeprefix(PREFIX)
            if self._spec.format == "jpeg" and len(exif) > _JPEG_EXIF_BYTES:
                self.notes.append("The EXIF block is too long for a JPEG and was dropped.")
                exif = None
        return icc, exif

    def _converted(self, rows: Pixels) -> Pixels:
        """uint8 [n, W, C] in the channels of the image; [n, W] where that is grey."""
        channels = rows.shape[2]
        if self._spec.format == "webp":
            if channels <= 2:
                rows = rows[..., [0, 0, 0, 1][: 3 + (channels == 2)]]
            return rows
        if channels in (2, 4):
            rows = _on_white(rows)
        return rows[..., 0] if rows.shape[2] == 1 else rows

    def _encoded(self) -> bytes:
        # Into memory first: Pillow hides what went wrong when it writes to a full disk itself.
        target = io.BytesIO()
        metadata = {"icc_profile": self._icc, "exif": self._exif}
        options = {name: value for name, value in metadata.items() if value}
        try:
            if self._spec.format == "jpeg":
                full = self._quality >= _FULL_COLOUR_FROM
                subsampling = "4:4:4" if full else "4:2:0"
                self._image.save(
                    target, "JPEG", quality=self._quality, subsampling=subsampling, **options
                )
            else:
                self._image.save(
                    target, "WEBP", quality=self._quality, method=_WEBP_METHOD, **options
                )
        except (OSError, ValueError, MemoryError) as fault:
            raise ServerFault(f"The {self._spec.format} encoder failed: {fault}.") from fault
        return target.getvalue()


_WEBP_METHOD = 2


def _on_white(rows: Pixels) -> Pixels:
    """Colour of [n, W, C] over white, without the alpha channel, rounded to the nearest."""
    alpha = rows[..., -1:].astype(np.uint16)
    mixed = rows[..., :-1] * alpha + 255 * (255 - alpha)  # at most 255 * 255: fits uint16
    return ((mixed.astype(np.uint32) * 2 + 255) // 510).astype(np.uint8)
