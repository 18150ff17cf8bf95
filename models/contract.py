"""What the engine must know of a Network, as plain data. Knows no architecture and needs no torch.

The numbers are measured on the loaded network (`models.measure`), never looked up by name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Contract:
    """How a Network may be cut into tiles and fed.

    `context`: output pixels depend on at most so many input pixels on each side; None means
    global (pooling over the whole picture, attention over all of it) or deeper than was worth
    measuring. `grid`: tile origins must be multiples of it. `size_multiple`, `size_minimum`: what
    the network wants of its input's sides in pixels; smaller ones are padded by the runner.
    `macs_per_pixel`: multiply-adds for each input pixel, `bytes_per_pixel`: peak of live
    activations for each input pixel in fp32. Both are for plans, not for bills.
    `seam_error`: largest difference, in 8-bit levels, that tiling with `seam_overlap` input pixels
    of overlap made on a test picture; None where tiling is exact.
    """

    architecture: str
    scale: int
    channels_in: int
    channels_out: int
    context: int | None
    grid: int
    size_multiple: int
    size_minimum: int
    parameters: int
    macs_per_pixel: int
    bytes_per_pixel: int
    purpose: Literal["super-resolution", "restoration"]
    seedable: bool = False
    seam_error: float | None = None
    seam_overlap: int | None = None

    @property
    def is_global(self) -> bool:
        """Whether no finite context is known."""
        return self.context is None

    def to_json(self) -> dict[str, Any]:
        """Plain data for a cache file or a pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Contract:
        """The inverse of `to_json`; raises TypeError on missing or unknown keys."""
        return cls(**data)
