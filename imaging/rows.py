"""Rows on their way into a sink: counted, checked against what was agreed, cut to fill blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from upscale.errors import ServerFault
from upscale.imaging.picture import OutputSpec, Pixels


class RowCount:
    """Counts rows against a spec; a mismatch is a fault of ours, so a ServerFault."""

    def __init__(self, spec: OutputSpec) -> None:
        self.spec = spec
        self.taken = 0

    def take(self, rows: Pixels) -> None:
        """Check [n, W, C] of the right type and add its rows to the count."""
        spec = self.spec
        dtype = np.uint16 if spec.depth == 16 else np.uint8
        if rows.ndim != 3 or rows.shape[1:] != (spec.width, spec.channels) or rows.dtype != dtype:
            raise ServerFault(
                f"Rows of {rows.dtype} {rows.shape} came for a picture of "
                f"{spec.width} x {spec.channels} channels of {spec.depth} bits."
            )
        self.taken += rows.shape[0]
        if self.taken > spec.height:
            raise ServerFault(f"{self.taken} rows came for a picture of {spec.height}.")

    def finish(self) -> None:
        """Check that all rows came."""
        if self.taken != self.spec.height:
            raise ServerFault(f"Only {self.taken} of {self.spec.height} rows came.")


def portions(rows: Pixels, room: int, size: int) -> Iterator[Pixels]:
    """`rows` in parts, to fill blocks of `size` rows, the first of which has `room` for so many."""
    done = 0
    while done < len(rows):
        part = rows[done : done + room]
        yield part
        done, room = done + len(part), size
