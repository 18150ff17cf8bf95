"""From the bands of a network to the bands of a result: resampling, opacity, bookkeeping.

Everything here is an iterator over bands, top to bottom, and holds one or two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from upscale.engine.assembly import quantise
from upscale.engine.plan import RESAMPLE_BYTES
from upscale.imaging.picture import Pixels
from upscale.kernels.resample import RowResampler

# Result rows resampled at a time: their weights are a dense matrix, and they are held as floats.
_MOST_ROWS = 256
_FLOAT_BYTES = RESAMPLE_BYTES // 5


def resampled(
    bands: Iterable[Pixels],
    source: tuple[int, int],
    target: tuple[int, int],
    dtype: type[np.unsignedinteger[Any]],
    device: torch.device,
) -> Iterator[Pixels]:
    """Bands of a picture of height x width `source`, resampled to `target`, as `dtype`."""
    resampler = RowResampler(source, target)
    kept: Tensor | None = None
    kept_from = seen = done = 0
    step = _rows_at_a_time(max(source[1], target[1]))
    for part in _parts(bands, step):
        rows = _as_floats(part, device)
        kept = rows if kept is None else torch.cat((kept, rows), dim=1)
        seen += rows.shape[1]
        ready = resampler.complete(seen)
        while done < ready:
            stop = min(ready, done + step)
            first, last = resampler.needs(done, stop)
            window = kept[:, first - kept_from : last - kept_from]
            yield quantise(resampler.rows(window, done, stop), dtype)
            done = stop
        if done < target[0]:
            first = resampler.needs(done, done + 1)[0]
            kept = kept[:, first - kept_from :]
            kept_from = first


def with_alpha(
    bands: Iterable[Pixels], alpha: Pixels, target: tuple[int, int], device: torch.device
) -> Iterator[Pixels]:
    """Colour bands joined with `alpha` [H, W], resampled to the `target` height x width."""
    resampler = RowResampler((alpha.shape[0], alpha.shape[1]), target)
    step = _rows_at_a_time(max(alpha.shape[1], target[1]))
    done = 0
    for band in bands:
        joined = np.empty((*band.shape[:2], band.shape[2] + 1), band.dtype)
        joined[..., :-1] = band
        for start in range(0, len(band), step):
            stop = min(len(band), start + step)
            first, last = resampler.needs(done + start, done + stop)
            window = _as_floats(alpha[first:last, :, None], device)
            rows = resampler.rows(window, done + start, done + stop)
            joined[start:stop, :, -1:] = quantise(rows, band.dtype.type)
        done += len(band)
        yield joined


def _parts(bands: Iterable[Pixels], rows: int) -> Iterator[Pixels]:
    """The same rows, at most so many at a time."""
    for band in bands:
        for start in range(0, len(band), rows):
            yield band[start : start + rows]


def _rows_at_a_time(width: int) -> int:
    """Rows of three float channels that fit `_FLOAT_BYTES`."""
    return max(4, min(_MOST_ROWS, _FLOAT_BYTES // (12 * width)))


def _as_floats(rows: Pixels, device: torch.device) -> Tensor:
    """[n, W, C] of any depth -> float32 [C, n, W] in 0..1."""
    peak = float(np.iinfo(rows.dtype).max)
    return torch.from_numpy(rows.astype(np.float32)).to(device).permute(2, 0, 1).div(peak)
