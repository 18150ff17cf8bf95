"""The one door for writing results: rows in, a file out, whatever the format.

Knows which encoder writes which format and what it is asked to check; the encoders know the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from upscale.errors import ServerFault
from upscale.imaging.limits import FORMATS
from upscale.imaging.metadata import Metadata
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


def open_sink(path: Path, spec: OutputSpec, metadata: Metadata) -> Sink:
    """A sink that writes `spec` to `path`, with what the format holds of `metadata`.

    Sizes that the metadata states are set to the spec's. Raises OutputFault if the file cannot be
    made, ServerFault if the format cannot hold `spec`.
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
    return _maker(spec)(path, spec, metadata.sized(spec.width, spec.height))


def _maker(spec: OutputSpec) -> Callable[[Path, OutputSpec, Metadata], Sink]:
    # Late where it brings a library that most requests do not need.
    if spec.format == "png":
        return PngSink
    if spec.format == "jpeg":
        from upscale.imaging.jpeg import JpegSink

        return JpegSink
    if spec.format == "tiff":
        from upscale.imaging.tiff import TiffSink

        return TiffSink
    if spec.depth == 16:
        from upscale.imaging.deep_avif import DeepAvifSink

        return DeepAvifSink
    return WholeSink
