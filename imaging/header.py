"""What the header of a file gives: its Probe, its metadata, and how to get at its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from upscale.imaging.encoding import Encoding
from upscale.imaging.metadata import Metadata
from upscale.imaging.probe import Probe

Space = Literal["rgb", "cmyk", "lab"]


@dataclass(frozen=True)
class Header:
    """A Probe with all that decoding needs.

    `metadata` is as found, not yet cleaned. `space` is that of the stored pixels; grey counts as
    rgb. `parts` are the offsets and sizes of what the decoder is to see, all of the file where
    empty; `ended` says that the file has its end marker. `encoding`: None where colours are sRGB or
    a profile describes them.
    """

    probe: Probe
    metadata: Metadata
    notes: tuple[str, ...] = ()
    space: Space = "rgb"
    reader: Literal["vips", "pillow"] = "vips"
    parts: tuple[tuple[int, int], ...] = ()
    ended: bool = True
    encoding: Encoding | None = None


def sides(width: int, height: int, orientation: int) -> dict[str, int]:
    """Width and height as shown, from those stored."""
    swap = orientation >= 5
    return {"width": height if swap else width, "height": width if swap else height}
