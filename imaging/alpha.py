"""Transparency: colour bled under what is invisible.

A network looks at the colour under transparent pixels too, and a resampler mixes it into the edge.
So invisible pixels get the colour of the visible ones around them, by a pyramid that averages what
is visible on its way up and fills what is not on its way down (push-pull, Gortler et al. 1996).
Works on arrays in place; knows nothing of files.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscale.imaging.picture import Pixels

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

# Values of one band of rows at full size; bands keep the floats of a step in the cache.
_BAND_VALUES = 1 << 20


def bleed(colour: Pixels, alpha: Pixels) -> None:
    """Replace, in `colour` [H, W, C], the pixels whose `alpha` [H, W] is 0.

    Visible pixels keep their values to the bit. With nothing visible at all nothing is changed.
    """
    if alpha.all() or not alpha.any():
        return
    sums, weights = _pushed(colour, alpha)
    _fill(colour, alpha == 0, _pulled(sums, weights))


def _pushed(colour: Pixels, alpha: Pixels) -> tuple[Floats, Floats]:
    """The first level up: colour times alpha and alpha, each averaged over 2 x 2 pixels."""
    height, width, channels = colour.shape
    half = (height + 1) // 2, (width + 1) // 2
    sums, weights = np.zeros((*half, channels), np.float32), np.zeros(half, np.float32)
    unit = np.float32(1 / np.iinfo(alpha.dtype).max)
    for top, end in _bands(height, width * channels):
        weight = alpha[top:end].astype(np.float32) * unit  # [n, W]
        product = colour[top:end] * weight[..., None]  # float32 [n, W, C]
        sums[top // 2 : (end + 1) // 2] = _halved(product)
        weights[top // 2 : (end + 1) // 2] = _halved(weight)
    return sums, weights


def _pulled(sums: Floats, weights: Floats) -> Floats:
    """The colours of a level, without holes: its own where it has any, else those from above.

    Both arguments are used up, so that a level is held once.
    """
    holes: Flags = weights == 0
    above = _pulled(_halved(sums), _halved(weights)) if holes.any() else None
    weights[holes] = 1
    sums /= weights[..., None]
    if above is not None:
        _fill(sums, holes, above)
    return sums


def _halved(values: Floats) -> Floats:
    """Averages over 2 x 2 pixels of [H, W] or [H, W, C]; beyond an odd edge lies 0."""
    height, width = values.shape[:2]
    out = np.zeros(((height + 1) // 2, (width + 1) // 2, *values.shape[2:]), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            part = values[dy::2, dx::2]
            out[: part.shape[0], : part.shape[1]] += part
    out *= np.float32(0.25)
    return out


def _fill(target: Pixels | Floats, holes: Flags, coarse: Floats) -> None:
    """Put `coarse`, enlarged twice, where `holes` [H, W] is set in `target` [H, W, C]."""
    height, width, channels = target.shape
    for top, end in _bands(height, width * channels):
        band = holes[top:end]
        columns = np.flatnonzero(band.any(axis=0))
        if columns.size == 0:
            continue
        left, right = int(columns[0]), int(columns[-1]) + 1
        enlarged = _doubled(_doubled(coarse, top, end, 0), left, right, 1)
        band = band[:, left:right]
        values = enlarged[band]
        if target.dtype != np.float32:
            np.rint(values, out=values)
        target[top:end, left:right][band] = values


def _doubled(values: Floats, start: int, stop: int, axis: int) -> Floats:
    """Rows or columns `start` to `stop` of `values` enlarged twice along `axis`, linearly."""
    fine = np.arange(start, stop)
    near = fine // 2
    far = np.clip(near + np.where(fine % 2, 1, -1), 0, values.shape[axis] - 1)
    return np.take(values, near, axis) * np.float32(0.75) + np.take(values, far, axis) * np.float32(
        0.25
    )


def _bands(height: int, row_values: int) -> list[tuple[int, int]]:
    """Ranges of rows that begin on even rows."""
    rows = max(2, _BAND_VALUES // row_values // 2 * 2)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]
