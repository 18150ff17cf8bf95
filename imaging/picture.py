"""Pixels in memory and the description of a file to write: what decoding gives, what sinks take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscale.imaging.metadata import Metadata

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Picture:
    """A decoded picture, orientation applied.

    `colour` is uint8 or uint16 [H, W, C] with C 1 or 3, contiguous; `alpha` is of the same type
    [H, W], None where the picture is opaque. Colour under fully transparent pixels is already bled
    from the visible neighbourhood. `notes` are remarks for the receipt.
    """

    colour: Pixels
    alpha: Pixels | None
    metadata: Metadata
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OutputSpec:
    """The file to write: `channels` counts colour plus alpha (1, 2, 3 or 4), `depth` is 8 or 16.

    `quality` is 1 to 100 for lossy formats, None for the format's default. `background` (#rrggbb)
    is put under transparency where the format has none. `tile` is the side of a TIFF's tiles, 0
    for strips. `strip` leaves all metadata out but the profile; `provenance` notes in the file what
    made it. `threads` compress.
    """

    format: str
    width: int
    height: int
    channels: int
    depth: int
    quality: int | None = None
    background: str = "#ffffff"
    tile: int = 0
    strip: bool = False
    provenance: bool = False
    threads: int = 2

    def to_json(self) -> dict[str, Any]:
        """Plain data for a pipe or a receipt."""
        return asdict(self)
