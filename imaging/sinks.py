"""The one door for writing results: rows in, a file out, whatever the format.

Knows which encoder writes which format and what it is asked to check; the encoders know the rest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from upscale.errors import ServerFault
from upscale.imaging.limits import FORMATS
from upscale.imaging.picture import OutputSpec, Pixels
from upscale.imaging.png import PngSink
from upscale.imaging.whole import WholeSink


class Sink(Protocol):
    """Takes the rows of one picture, in order. One thread calls it.

    `notes` are remarks for the receipt, complete after `close`.
    """

    notes: list[str]

    def write(self, rows: Pixels) -> None:
        """Take uint8 or uint16 [n, W, C]; `rows` may be reused on return. Raises OutputFault."""

    def close(self) -> None:
        """Finish the file; raises ServerFault if rows are missing, OutputFault if it cannot."""

    def abort(self) -> None:
        """Give up and remove the file; never raises."""


def open_sink(path: Path, spec: OutputSpec, *, icc: bytes | None, exif: bytes | None) -> Sink:
    """A sink that writes `spec` to `path`, with a colour profile and an EXIF block where given.

    Raises OutputFault if the file cannot be made, ServerFault if the format cannot hold `spec`.
    """
    facts = FORMATS.get(spec.format)
    if facts is None:
        raise ServerFault(f"There is no encoder for {spec.format!r}.")
    if spec.depth not in ((8, 16) if facts.depth16 else (8,)) or spec.channels not in (1, 2, 3, 4):
        raise ServerFault(
            f"{spec.format} cannot hold {spec.channels} channels of {spec.depth} bits."
        )
    if min(spec.width, spec.height) < 1 or max(spec.width, spec.height) > facts.max_side:
        raise ServerFault(f"{spec.format} cannot hold {spec.width} x {spec.height} pixels.")
    maker = WholeSink if facts.whole else PngSink
    return maker(path, spec, icc=icc, exif=exif)
