"""Finished tiles of one row put together into a band: full-width rows, in the type of the result.

Exact tiles are pasted, already rounded. Blended ones are accumulated in floats with weights that
add up to one, and rounded once when the row is complete; what reaches into the next row of tiles
is carried over to it.
"""

from __future__ import annotations

import math
import mmap
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from upscale.engine.tiles import Span, Tile
from upscale.engine.tiling import TilePlan
from upscale.imaging.picture import Pixels

Floats = npt.NDArray[np.float32]

_CHUNK_ROWS = 128


class RowAssembly:
    """One row of tiles in the making.

    `dtype` is uint8 or uint16. `place` may be called from several threads; `finish` once, when all
    tiles of the row are placed.
    """

    def __init__(
        self,
        plan: TilePlan,
        span: Span,
        scale: int,
        channels: int,
        dtype: type[np.unsignedinteger[Any]],
    ) -> None:
        self._plan = plan
        self._scale = scale
        self._dtype = dtype
        self._span = span
        self._top, bottom = contributed(span, plan.feather, plan.height)
        shape = ((bottom - self._top) * scale, plan.width * scale, channels)
        self._blends = plan.feather > 0
        self._lock = threading.Lock()
        self._rows = _mapped(shape, np.float32 if self._blends else dtype)

    def place(self, tile: Tile, y: Tensor) -> None:
        """Put in a tile's result, float32 [C, h, w] in 0..1 on any device, margins included."""
        scale, feather = self._scale, self._plan.feather
        top, bottom = contributed(tile.y, feather, self._plan.height)
        left, right = contributed(tile.x, feather, self._plan.width)
        inner = y[
            :,
            (top - tile.y.start) * scale : (bottom - tile.y.start) * scale,
            (left - tile.x.start) * scale : (right - tile.x.start) * scale,
        ]
        rows = slice((top - self._top) * scale, (bottom - self._top) * scale)
        columns = slice(left * scale, right * scale)
        if not self._blends:
            target = self._rows[rows, columns]
            for start in range(0, len(target), _CHUNK_ROWS):  # little memory for floats in between
                part = slice(start, start + _CHUNK_ROWS)
                target[part] = quantise(inner[:, part], self._dtype)
            return
        weights = np.outer(
            ramp(tile.y, feather, self._plan.height, scale),
            ramp(tile.x, feather, self._plan.width, scale),
        ).astype(np.float32)
        values = inner.permute(1, 2, 0).cpu().numpy() * weights[..., None]
        with self._lock:
            self._rows[rows, columns] += values

    def finish(self, carry: Floats | None) -> tuple[Pixels, Floats | None]:
        """The band, [rows, W, C], and what the next row of tiles must add to its top."""
        if not self._blends:
            return self._rows, None
        if carry is not None:
            self._rows[: len(carry)] += carry
        stop, feather = self._span.core_stop, self._plan.feather
        if stop == self._plan.height:
            return self._rounded(self._rows), None
        end = (stop - feather - self._top) * self._scale
        return self._rounded(self._rows[:end]), self._rows[end:].copy()

    def _rounded(self, rows: Floats) -> Pixels:
        """`rows`, which is used up, as the result's type."""
        np.clip(rows, 0, 1, out=rows)
        rows *= np.iinfo(self._dtype).max
        return np.rint(rows, out=rows).astype(self._dtype)


def _mapped(shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Zeros in memory of their own: in the heap, where freed blocks stay, tiles would settle in the
    room of a finished band and the next one would need new room.
    """
    count = math.prod(shape)
    size = max(1, count * np.dtype(dtype).itemsize)
    if hasattr(mmap, "MAP_PRIVATE"):  # else shared, which counts against other limits
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        memory = mmap.mmap(-1, size)
    return np.frombuffer(memory, dtype, count).reshape(shape)


def quantise(y: Tensor, dtype: type[np.unsignedinteger[Any]]) -> Pixels:
    """float32 [C, h, w] -> [h, w, C] of `dtype`: clamped, rounded half to even, once."""
    peak = float(np.iinfo(dtype).max)
    levels = y.clamp(0, 1).mul_(peak).round_().permute(1, 2, 0)
    if dtype is np.uint8:
        pixels: Pixels = levels.to(torch.uint8).cpu().numpy()
        return pixels
    return levels.to(torch.int32).cpu().numpy().astype(dtype)


def contributed(span: Span, feather: int, length: int) -> tuple[int, int]:
    """The input pixels [start, stop) that a tile gives: its core and the feather beyond."""
    return max(0, span.core_start - feather), min(length, span.core_stop + feather)


def ramp(span: Span, feather: int, length: int, scale: int) -> Floats:
    """Weights over `contributed`, in output pixels; those of neighbours add up to one."""
    start, stop = contributed(span, feather, length)
    at = (np.arange(start * scale, stop * scale) + 0.5) / scale
    weights = np.ones(len(at), np.float64)
    if span.core_start > 0:
        weights = np.minimum(weights, (at - (span.core_start - feather)) / (2 * feather))
    if span.core_stop < length:
        weights = np.minimum(weights, ((span.core_stop + feather) - at) / (2 * feather))
    return np.clip(weights, 0, 1).astype(np.float32)
