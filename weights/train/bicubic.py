"""Bicubic resizing as MATLAB's `imresize` does it, the customary reduction of the field.

Works on 8-bit arrays and on the plain matrices behind them; knows nothing of files or networks.
Reductions widen the kernel (antialiasing), borders are mirrored with the edge pixel repeated, and
values are rounded half up after each direction, as MATLAB does for 8-bit pictures.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""uint8 [H, W, C]"""


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5 (Keys 1981), any shape."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


def resize_matrix(length: int, wanted: int) -> NDArray[np.float64]:
    """float64 [wanted, length]: one direction of the resize as a matrix; each row sums to 1."""
    scale = wanted / length
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    centres = (np.arange(wanted) + 0.5) / scale - 0.5  # [wanted], in input pixels
    first = np.floor(centres - width / 2).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(width) + 2)  # [wanted, taps]
    weights = cubic((centres[:, None] - taps) * stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    period = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    source = period[taps % (2 * length)]
    matrix = np.zeros((wanted, length))
    np.add.at(matrix, (np.arange(wanted)[:, None], source), weights)
    return matrix


def resize(picture: Picture, height: int, width: int) -> Picture:
    """Resize uint8 [H, W, C] to uint8 [height, width, C], rows first."""
    rows = resize_matrix(picture.shape[0], height)
    columns = resize_matrix(picture.shape[1], width)
    tall = _round(np.einsum("oh,hwc->owc", rows, picture.astype(np.float64), optimize=True))
    wide = np.einsum("ow,hwc->hoc", columns, tall.astype(np.float64), optimize=True)
    return _round(wide)


def reduce(picture: Picture, factor: int = 4) -> Picture:
    """Reduce uint8 [H, W, C] by `factor`; both sides must be multiples of it, else ValueError."""
    height, width = picture.shape[:2]
    if height % factor or width % factor:
        raise ValueError(f"sides must be multiples of {factor}, got {width} x {height}")
    return resize(picture, height // factor, width // factor)


def enlarge(picture: Picture, factor: int = 4) -> Picture:
    """Enlarge uint8 [H, W, C] by `factor`: the baseline that a network is measured against."""
    return resize(picture, picture.shape[0] * factor, picture.shape[1] * factor)


def _round(values: NDArray[np.float64]) -> Picture:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
