"""The count of rows that a sink has taken, and the check that they are what was agreed."""

from __future__ import annotations

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
