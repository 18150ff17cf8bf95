"""WebP, GIF, AVIF: encoders that want the whole picture. Rows are collected, encoded at the end.

The rows go straight into the encoder's own image, so the pixels are held once. Pillow encodes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from upscale.errors import ServerFault
from upscale.imaging.exif import without_orientation
from upscale.imaging.kinds import NAMES
from upscale.imaging.metadata import COMMENT, Metadata
from upscale.imaging.output_file import OutputFile
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.rows import RowCount

DEFAULT_QUALITY = {"webp": 90, "avif": 80}

# Half the time of Pillow's own settings at a few per cent more bytes.
_WEBP_METHOD = 2
_AVIF_SPEED = 8
_COLOURS = 256
_HALF = 128


class WholeSink:
    """See `imaging.sinks.Sink`. Takes uint8 rows of 1 to 4 channels."""

    def __init__(self, path: Path, spec: OutputSpec, metadata: Metadata) -> None:
        self.notes: list[str] = []
        self._spec, self._count = spec, RowCount(spec)
        self._metadata = metadata
        holds = ("comment",) if spec.format == "gif" else ("exif", "xmp")
        self.notes += metadata.unplaced(NAMES[spec.format], holds)
        self._file = OutputFile(path)
        try:
            self._image = Image.new(_mode(spec), (spec.width, spec.height))
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

    def _converted(self, rows: Pixels) -> Pixels:
        """uint8 [n, W, C] in the channels of the image; [n, W] where that is grey."""
        channels = rows.shape[2]
        if self._image.mode == "L":
            return rows[..., 0]
        if channels <= 2:
            return rows[..., [0, 0, 0, 1][: 3 + (channels == 2)]]
        return rows

    def _encoded(self) -> bytes:
        # Into memory first: Pillow hides what went wrong when it writes to a full disk itself.
        target = io.BytesIO()
        image, options = self._image, self._options()
        try:
            if self._spec.format == "gif":
                image, extra = _few_colours(image, self.notes)
                options |= extra
            image.save(target, self._spec.format.upper(), **options)
        except (OSError, ValueError, MemoryError) as fault:
            raise ServerFault(f"The {self._spec.format} encoder failed: {fault}.") from fault
        return target.getvalue()

    def _options(self) -> dict[str, Any]:
        spec, metadata = self._spec, self._metadata
        if spec.format == "gif":
            comments = [text.text for text in metadata.text if text.keyword == COMMENT]
            return {"comment": "\n".join(comments).encode()} if comments else {}
        quality = DEFAULT_QUALITY[spec.format] if spec.quality is None else spec.quality
        options: dict[str, Any] = {"quality": quality}
        if spec.format == "webp":
            options["method"] = _WEBP_METHOD
        else:
            options |= {"speed": _AVIF_SPEED, "max_threads": spec.threads}
        exif = metadata.exif
        if exif and spec.format == "avif":
            # Else Pillow would write the block anew, and lose letters and maker notes.
            exif = without_orientation(exif)
        blocks = {"icc_profile": metadata.icc, "exif": exif, "xmp": metadata.xmp}
        return options | {name: block for name, block in blocks.items() if block}


def _mode(spec: OutputSpec) -> str:
    if spec.format == "gif" and spec.channels == 1:
        return "L"
    return "RGBA" if spec.channels in (2, 4) else "RGB"  # WebP and AVIF here have no grey


def _few_colours(image: Image.Image, notes: list[str]) -> tuple[Image.Image, dict[str, Any]]:
    """The picture with a palette, and the index that is transparent if there is one."""
    if image.mode == "L":
        return image, {}
    notes.append("GIF holds 256 colours: the picture was reduced to them.")
    if image.mode == "RGB":
        return image.quantize(_COLOURS, Image.Quantize.MEDIANCUT), {}
    notes.append("Transparency in a GIF is all or nothing: it was cut at one half.")
    clear = image.getchannel("A").point(lambda level: 255 if level < _HALF else 0)
    reduced = image.convert("RGB").quantize(_COLOURS - 1, Image.Quantize.MEDIANCUT)
    reduced.paste(_COLOURS - 1, mask=clear)
    return reduced, {"transparency": _COLOURS - 1}
