"""How far one picture is from another: PSNR, SSIM, MS-SSIM and GMSD of the luminance.

Works on pairs of uint8 [H, W, 3]; knows nothing of networks or files. Luminance is MATLAB's
`rgb2ycbcr`, and `border` pixels are cut from each side first, both as in the literature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from upscale.weights.train.bicubic import Picture

Plane = NDArray[np.float64]
"""float64 [H, W]"""

C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five sizes of MS-SSIM, the finest first (Wang, Simoncelli, Bovik 2003)."""


def luminance(picture: Picture) -> Plane:
    """uint8 [H, W, 3] to float64 [H, W] in 16..235, as MATLAB's rgb2ycbcr before rounding."""
    return 16 + picture.astype(np.float64) @ (np.array([65.481, 128.553, 24.966]) / 255)


def psnr(ours: Picture, truth: Picture, border: int = 4) -> float:
    """In dB; 100 where equal."""
    a, b = _inner(ours, truth, border)
    error = float(np.mean((a - b) ** 2))
    return 100.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(ours: Picture, truth: Picture, border: int = 4) -> float:
    """Structural similarity, 1 where equal (Wang and others 2004): 11 x 11 Gaussian of 1.5."""
    return _similar(*_inner(ours, truth, border))[0]


def ms_ssim(ours: Picture, truth: Picture, border: int = 4) -> float:
    """SSIM over up to five sizes, each half of the one before.

    Pictures too small for five (176 pixels a side) use as many as they can, with exponents that
    sum to 1.
    """
    a, b = _inner(ours, truth, border)
    count = min(len(SCALES), int(np.log2(min(a.shape) / 11)) + 1)
    powers = np.array(SCALES[:count]) / sum(SCALES[:count])
    value = 1.0
    for i, power in enumerate(powers):
        whole, contrast = _similar(a, b)
        value *= max(0.0, whole if i == count - 1 else contrast) ** float(power)
        a, b = _halved(a), _halved(b)
    return value


def gmsd(ours: Picture, truth: Picture, border: int = 4) -> float:
    """Gradient magnitude similarity deviation, 0 where equal (Xue and others 2014)."""
    a, b = (_slopes(_halved(plane)) for plane in _inner(ours, truth, border))
    similar = (2 * a * b + 170) / (a * a + b * b + 170)
    return float(similar.std())


MEASURES = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "gmsd": gmsd}


def _inner(ours: Picture, truth: Picture, border: int) -> tuple[Plane, Plane]:
    cut = slice(border, -border or None)
    return luminance(ours)[cut, cut], luminance(truth)[cut, cut]


def _similar(a: Plane, b: Plane) -> tuple[float, float]:
    """Means over the valid area of SSIM and of its part that leaves brightness out."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    square_a = _blurred(a * a) - mean_a**2
    square_b = _blurred(b * b) - mean_b**2
    both = _blurred(a * b) - mean_a * mean_b
    contrast = (2 * both + C2) / (square_a + square_b + C2)
    light = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return float((light * contrast).mean()), float(contrast.mean())


def _blurred(plane: Plane) -> Plane:
    """Gaussian of 11 taps and sigma 1.5, where all of it lies inside: [H - 10, W - 10]."""
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    height, width = plane.shape
    down = sum(t * plane[i : height - 10 + i] for i, t in enumerate(taps))
    return np.asarray(sum(t * down[:, i : width - 10 + i] for i, t in enumerate(taps)))


def _halved(plane: Plane) -> Plane:
    """Means of 2 x 2."""
    height, width = (side // 2 * 2 for side in plane.shape)
    cut = plane[:height, :width]
    return (cut[::2, ::2] + cut[1::2, ::2] + cut[::2, 1::2] + cut[1::2, 1::2]) / 4


def _slopes(plane: Plane) -> Plane:
    """Magnitude of Prewitt's gradient inside: [H - 2, W - 2]."""
    rows = plane[:-2] + plane[1:-1] + plane[2:]
    columns = plane[:, :-2] + plane[:, 1:-1] + plane[:, 2:]
    across = (rows[:, 2:] - rows[:, :-2]) / 3
    down = (columns[2:] - columns[:-2]) / 3
    return np.asarray(np.hypot(across, down))
