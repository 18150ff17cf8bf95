"""How a pass is cut into tiles: exactly where that is affordable, else with a measured overlap.

A pure function of sizes, Contract and device. The geometry itself is in `engine.tiles`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from upscale.engine.device import DeviceProfile
from upscale.engine.scaling import PassSize
from upscale.engine.tiles import Span, spans
from upscale.models.contract import Contract

# Live activations of one tile on a CPU. At this size a convolution is near its ceiling (88 to 92 %
# of it) and overlap costs little: Compact gets tiles of about 300 pixels in fp32, 420 in bf16.
_CPU_TILE_BYTES = 48 << 20

# A card wants more work at a time; beyond this side nothing is gained.
_CUDA_TILE_SIDE = 1024

# Cores are at least so many margins wide: the work factor stays under (1 + 2/4)^2 = 2.25.
_MARGINS_A_CORE = 4
_SMALLEST_CORE = 64

# Exact tiling may cost this much more than the picture itself; beyond, an overlap is used.
_AFFORDABLE = 3.0

# Finished rows of one row of tiles. Wide pictures get flatter tiles, so that bands stay small.
_BAND_BYTES = 40 << 20
_FLATTEST_CORE = 48

_DEFAULT_OVERLAP = 32


@dataclass(frozen=True)
class TilePlan:
    """The cut of one pass. `mode` exact: margins hold the whole context; blend: they hold `margin`
    pixels of overlap, of which `feather` on each side of a seam cross-fade.

    `width`, `height` are the picture's, `core_*` those of a core, in input pixels; `bytes` are the
    activations of one tile, `band_bytes` the finished rows of one row of tiles, `batch` tiles run
    together.
    """

    mode: Literal["exact", "blend"]
    width: int
    height: int
    core_width: int
    core_height: int
    margin: int
    feather: int
    grid: int
    batch: int
    bytes: int
    band_bytes: int
    seam_error: float | None = None

    @property
    def columns(self) -> tuple[Span, ...]:
        """Tiles along the width."""
        return spans(self.width, self.core_width, self.margin, self.grid)

    @property
    def rows(self) -> tuple[Span, ...]:
        """Tiles along the height."""
        return spans(self.height, self.core_height, self.margin, self.grid)

    @property
    def count(self) -> int:
        """Tiles in all."""
        return len(self.columns) * len(self.rows)

    @property
    def pixels(self) -> int:
        """Input pixels that the network sees, margins included."""
        return sum(s.length for s in self.columns) * sum(s.length for s in self.rows)


def plan_tiles(
    size: PassSize,
    contract: Contract,
    device: DeviceProfile,
    *,
    bytes_per_pixel: int,
    side: int,
    exact_limit: int,
    overlap: int,
    sample_bytes: int,
    channels: int,
) -> TilePlan:
    """The cut of a pass; `side` is a wished core side in pixels, 0 for the best.

    `bytes_per_pixel` are live activations for an input pixel in the precision that will run,
    `sample_bytes` those of one finished sample.
    """
    context = contract.context
    if context is not None and context <= exact_limit:
        exact = _cut(
            size, contract, device, bytes_per_pixel, side, context, 0, sample_bytes, channels
        )
        if exact.count == 1 or exact.pixels <= _AFFORDABLE * size.in_width * size.in_height:
            return exact
    margin = overlap or contract.seam_overlap or _DEFAULT_OVERLAP
    if context is not None and context <= margin:
        return _cut(
            size, contract, device, bytes_per_pixel, side, context, 0, sample_bytes, channels
        )
    # Accumulated in floats, so that cross-fades round once.
    blend = _cut(size, contract, device, bytes_per_pixel, side, margin, margin // 2, 4, channels)
    return replace(blend, mode="blend", seam_error=contract.seam_error)


def _cut(
    size: PassSize,
    contract: Contract,
    device: DeviceProfile,
    bytes_per_pixel: int,
    side: int,
    margin: int,
    feather: int,
    sample_bytes: int,
    channels: int,
) -> TilePlan:
    grid = contract.grid
    margin = min(margin, max(size.in_width, size.in_height))
    limit = max(1, device.tile_bytes // device.tile_threads // bytes_per_pixel)
    if device.is_cuda:
        outer = min(float(_CUDA_TILE_SIDE), math.sqrt(limit))
    else:
        outer = math.sqrt(min(_CPU_TILE_BYTES // bytes_per_pixel, limit))
    core = side or max(outer - 2 * margin, _MARGINS_A_CORE * margin, _SMALLEST_CORE)
    # Never past the memory that tiles may take, whatever the margins would like.
    core = min(core, max(math.sqrt(limit) - 2 * margin, 2 * feather, 1))
    core = _on_grid(core, grid, least=2 * feather)
    row_bytes = size.native_width * contract.scale * channels * sample_bytes
    tallest = max(_BAND_BYTES // row_bytes, _FLATTEST_CORE)
    core_height = min(core, _on_grid(tallest, grid, least=2 * feather))
    # What a flatter tile loses in height it may gain in width, up to twice the side.
    core_width = core if side else min(2 * core, _on_grid(core * core / core_height, grid))
    cut = TilePlan(
        mode="exact",
        width=size.in_width,
        height=size.in_height,
        core_width=core_width,
        core_height=core_height,
        margin=margin,
        feather=feather,
        grid=grid,
        batch=1,
        bytes=0,
        band_bytes=core_height * row_bytes,
    )
    pixels = max(s.length for s in cut.columns) * max(s.length for s in cut.rows)
    batch = max(1, min(8, limit // pixels)) if device.is_cuda else 1
    return replace(cut, bytes=pixels * bytes_per_pixel * batch, batch=batch)


def _on_grid(value: float, grid: int, least: int = 1) -> int:
    """`value` rounded down to the grid, but not below `least` rounded up to it."""
    return max(-(-max(1, least) // grid) * grid, int(value) // grid * grid)
