"""How a pass is cut into tiles: exactly where that is affordable, else with a measured overlap.

A pure function of sizes, Contract and device. The geometry itself is in `engine.tiles`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from upscale.engine.device import DeviceProfile
from upscale.engine.scaling import PassSize
from upscale.engine.tiles import Span, round_up, spans
from upscale.models.contract import Contract

# Live activations of one tile on a CPU; with what the heap loses between tiles a thread takes about
# three times as much. Half as much again computes 2 % less twice, at 70 MB more for two threads.
_CPU_TILE_BYTES = 32 << 20

# Networks that keep much alive (SPAN, RRDB) get at least this, or most of their work would be done
# twice; only one or two of the tensors that they keep are touched at a time.
_CPU_TILE_PIXELS = 256 * 256

# A card wants more work at a time; beyond this side nothing is gained.
_CUDA_TILE_PIXELS = 1024 * 1024

# A tile holds at least a core of so many margins a side: what is computed twice stays under
# (1 + 2/4)^2 = 2.25 times the picture, also for networks whose activations are large.
_MARGINS_A_CORE = 4
_SMALLEST_CORE = 64

# Exact tiling may cost this much more than the picture itself; beyond, an overlap is used.
_AFFORDABLE = 3.0

# Networks of up to this context are tiled exactly at any price: it is never a high one.
_ALWAYS_EXACT = 64

# Finished rows of one row of tiles. Wide pictures get flatter tiles, so that bands stay small.
_BAND_BYTES = 40 << 20

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
        return spans(self.width, self.core_width, self.margin, self.grid, 2 * self.feather)

    @property
    def rows(self) -> tuple[Span, ...]:
        """Tiles along the height."""
        return spans(self.height, self.core_height, self.margin, self.grid, 2 * self.feather)

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
        affordable = exact.pixels <= _AFFORDABLE * size.in_width * size.in_height
        # Whoever names a tile has chosen its price.
        if affordable or side or context <= _ALWAYS_EXACT:
            return exact
    margin = overlap or contract.seam_overlap or _DEFAULT_OVERLAP
    if context is not None and context <= margin:
        return _cut(
            size, contract, device, bytes_per_pixel, side, context, 0, sample_bytes, channels
        )
    # Accumulated in floats, so that cross-fades round once.
    blend = _cut(size, contract, device, bytes_per_pixel, side, margin, margin // 2, 4, channels)
    known = contract.seam_error if margin == contract.seam_overlap else None
    return replace(blend, mode="blend", seam_error=known)


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
    memory = max(1, device.tile_bytes // device.tile_threads // bytes_per_pixel)
    least = round_up(max(1, 2 * feather), grid)
    row_bytes = size.native_width * contract.scale * channels * sample_bytes
    if side:
        width = height = max(least, round_up(side, grid))
    else:
        comfort = max(_CPU_TILE_BYTES // bytes_per_pixel, _CPU_TILE_PIXELS)
        if device.is_cuda:
            comfort = _CUDA_TILE_PIXELS
        core = max(_MARGINS_A_CORE * margin, _SMALLEST_CORE)
        pixels = min(memory, max(comfort, (core + 2 * margin) ** 2))
        # Deep networks pay for flat tiles with work; they get taller bands instead.
        tallest = max(_BAND_BYTES // row_bytes, 3 * margin, _SMALLEST_CORE)
        width, height = _best_core(
            size.in_width, size.in_height, margin, grid, least, tallest, pixels, device.tile_threads
        )
    cut = TilePlan(
        mode="exact",
        width=size.in_width,
        height=size.in_height,
        core_width=width,
        core_height=height,
        margin=margin,
        feather=feather,
        grid=grid,
        batch=1,
        bytes=0,
        band_bytes=min(height, size.in_height) * row_bytes,
    )
    pixels = max(s.length for s in cut.columns) * max(s.length for s in cut.rows)
    batch = max(1, min(8, memory // pixels)) if device.is_cuda else 1
    return replace(cut, bytes=pixels * bytes_per_pixel * batch, batch=batch)


def _best_core(
    width: int,
    height: int,
    margin: int,
    grid: int,
    least: int,
    tallest: int,
    pixels: int,
    threads: int,
) -> tuple[int, int]:
    """Width and height of the cores with which the tile threads are done first.

    Tiles have at most `pixels` pixels, margins included, cores at least `least` and at most
    `tallest` rows. The work counts in rounds of one tile for each thread, so that no thread is left
    with one tile more than the others.
    """
    best: tuple[int, int, int] | None = None
    for columns in range(1, -(-width // least) + 1):
        core_width = max(least, round_up(-(-width // columns), grid))
        read_width = _read(width, core_width, margin, grid)
        room = min(tallest, pixels // read_width - 2 * margin, height)
        if room < least and best is not None:
            continue
        fewest = -(-height // max(least, room // grid * grid))
        for rows in range(fewest, fewest + threads):
            core_height = max(least, round_up(-(-height // rows), grid))
            count = -(-width // core_width) * -(-height // core_height)
            read = read_width * _read(height, core_height, margin, grid)
            work = -(-count // threads) * threads * read
            # Past the memory only where nothing smaller is possible.
            if read > pixels:
                work += width * height * 1000
            if best is None or (work, count) < best[:2]:
                best = (work, count, core_width << 32 | core_height)
        if core_width == least:
            break
    assert best is not None
    return best[2] >> 32, best[2] & 0xFFFFFFFF


def _read(length: int, core: int, margin: int, grid: int) -> int:
    """What the longest tile of an axis reads."""
    if core >= length:
        return length
    sides = 1 if 2 * core >= length else 2
    return min(length, core + sides * round_up(margin, grid))
