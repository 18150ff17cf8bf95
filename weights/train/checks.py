"""What PSNR on photographs does not show: flat areas, ringing at edges, a shift of colours.

Works on any module that maps float32 [1, 3, H, W] to four times the size. All figures are in 8-bit
levels, 0 is perfect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from upscale.weights.train.bicubic import Picture, enlarge
from upscale.weights.train.evaluate import enlarge_by, pairs

GREYS = [(v, v, v) for v in range(256)]
COLOURS = [(r, g, b) for r in (0, 96, 255) for g in (0, 160, 255) for b in (0, 64, 255)]


@dataclass(frozen=True)
class Checks:
    """`grey`, `colour`: largest error on flat fields; the shares: how many of their values err.
    `ramp`: largest distance from the straight line on smooth ramps. `overshoot`: beyond the two
    sides of a straight edge, and bicubic's. `shift`: mean of output minus original for red, green,
    blue over the pictures of a folder. `tint`: over the same pictures without their colours, the
    largest distance between the output's channels, and `tint_mean` its mean.
    """

    grey: int
    grey_share: float
    colour: int
    colour_share: float
    ramp: float
    overshoot: int
    overshoot_bicubic: int
    shift: tuple[float, float, float]
    tint: int
    tint_mean: float


def check(network: nn.Module, folder: Path) -> Checks:
    """All figures for a network; the colours are compared on the pictures of `folder`."""
    edges = [edge(low, high) for low, high in ((64, 192), (32, 96), (128, 224))]
    ours = max(overshoot(enlarge_by(network, e), e) for e in edges)
    theirs = max(overshoot(enlarge(e), e) for e in edges)
    differences, tints = [], []
    for _, small, large in pairs(folder):
        differences.append((enlarge_by(network, small).astype(float) - large).mean(axis=(0, 1)))
        tints.append(tint(network, small))
    r, g, b = (round(float(v), 3) for v in np.mean(differences, axis=0))
    largest, mean = max(t for t, _ in tints), round(float(np.mean([m for _, m in tints])), 3)
    flat = (*flat_error(network, GREYS), *flat_error(network, COLOURS))
    return Checks(*flat, ramp_error(network), ours, theirs, (r, g, b), largest, mean)


def tint(network: nn.Module, small: Picture) -> tuple[int, float]:
    """By how many levels the channels differ where the input has no colour: largest, and mean."""
    grey = np.repeat(small.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    made = enlarge_by(network, grey).astype(int)
    spread = made.max(axis=2) - made.min(axis=2)
    return int(spread.max()), float(spread.mean())


def flat_error(network: nn.Module, colours: Iterable[tuple[int, int, int]]) -> tuple[int, float]:
    """Largest error in levels over flat fields of 16 x 16, borders included; share that errs."""
    worst, wrong, pixels = 0, 0, 0
    for colour in colours:
        field = np.broadcast_to(np.array(colour, dtype=np.uint8), (16, 16, 3))
        error = np.abs(enlarge_by(network, field).astype(int) - np.array(colour))
        worst = max(worst, int(error.max()))
        wrong += int((error > 0).sum())
        pixels += error.size
    return worst, wrong / pixels


def ramp_error(network: nn.Module, scale: int = 4) -> float:
    """Largest distance in levels from the line, on grey ramps of 1, 2 and 4 levels a small pixel.

    8 small pixels at each border are left out. Rounding alone makes 0.5.
    """
    worst = 0.0
    for slope in (1, 2, 4):
        small = np.zeros((24, 56, 3), dtype=np.uint8)
        small[:] = (16 + slope * np.arange(56))[None, :, None]
        wanted = 16 + slope * ((np.arange(56 * scale) + 0.5) / scale - 0.5)
        error = np.abs(enlarge_by(network, small) - wanted[None, :, None])
        worst = max(worst, float(error[8 * scale : -8 * scale, 8 * scale : -8 * scale].max()))
    return round(worst, 2)


def edge(low: int, high: int, side: int = 32) -> Picture:
    """A straight upright edge between two greys, uint8 [side, side, 3]."""
    picture = np.full((side, side, 3), low, dtype=np.uint8)
    picture[:, side // 2 :] = high
    return picture


def overshoot(large: Picture, small: Picture) -> int:
    """By how many levels the enlarged picture leaves the range of the small one."""
    low, high = int(small.min()), int(small.max())
    return max(0, int(large.max()) - high, low - int(large.min()))
