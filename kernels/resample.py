"""Antialiased bicubic resampling, by rows, so that a picture never has to be whole.

The kernel is Keys' cubic with a = -1/2, stretched by the factor when reducing, as Pillow's BICUBIC
and torch's `interpolate(mode="bicubic", antialias=True)` use it; weights at an edge are cut off and
normalised. Source: R. Keys, Cubic convolution interpolation, IEEE TASSP 29 (1981).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this side torch's own resample is not used across: it mistakes the layout of pictures that
# are one pixel wide, before or after.
_NARROW = 8


class RowResampler:
    """Resamples pictures of height x width `source` to `target` pixels, some rows at a time."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self.source = source
        self.target = target
        self._down, self._across = (_Axis(s, t) for s, t in zip(source, target, strict=True))

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The source rows [first, last) that target rows [start, stop) are made of."""
        return self._down.window(start)[0], self._down.window(stop - 1)[1]

    def complete(self, available: int) -> int:
        """How many target rows can be made when the first `available` source rows are known."""
        down = self._down
        if available >= down.source:
            return down.target
        guess = int((available - 2 * down.stretch - 1) / down.ratio)
        rows = min(max(guess - 1, 0), down.target)
        while rows < down.target and down.window(rows)[1] <= available:
            rows += 1
        return rows

    def rows(self, window: Tensor, start: int, stop: int) -> Tensor:
        """Target rows [start, stop) as float32 [C, stop - start, W'].

        `window` holds the source rows of `needs(start, stop)`, float32 [C, n, W].
        """
        first, last = self.needs(start, stop)
        if window.shape[1] != last - first:
            raise ValueError(f"{window.shape[1]} rows given, {last - first} needed")
        out = window
        if self._down.resamples:
            weights = self._down.weights(start, stop, first, last).to(window.device)
            out = torch.einsum("or,crw->cow", weights, out)
        if not self._across.resamples:
            return out
        source, target = self._across.source, self._across.target
        if min(source, target) < _NARROW:
            weights = self._across.weights(0, target, 0, source).to(window.device)
            return torch.einsum("ow,crw->cro", weights, out)
        # At a height that does not change the vertical weights are 1 at their own row.
        size = (out.shape[1], target)
        return F.interpolate(out[None], size, mode="bicubic", antialias=True)[0]


@dataclass(frozen=True)
class _Axis:
    """One axis, from `source` to `target` pixels: which pixels make a pixel, with which weights."""

    source: int
    target: int

    @property
    def resamples(self) -> bool:
        return self.source != self.target

    @property
    def ratio(self) -> float:
        return self.source / self.target

    @property
    def stretch(self) -> float:
        return max(self.ratio, 1.0)

    def window(self, pixel: int) -> tuple[int, int]:
        """The source pixels [first, last) that target pixel `pixel` is made of."""
        if not self.resamples:
            return pixel, pixel + 1
        centre = (pixel + 0.5) * self.ratio
        support = 2.0 * self.stretch
        first = max(0, int(centre - support + 0.5))
        last = min(self.source, int(centre + support + 0.5))
        return first, max(last, first + 1)

    def weights(self, start: int, stop: int, first: int, last: int) -> Tensor:
        """float32 [stop - start, last - first], each row summing to 1."""
        weights = torch.zeros((stop - start, last - first), dtype=torch.float64)
        for index, pixel in enumerate(range(start, stop)):
            low, high = self.window(pixel)
            centre = (pixel + 0.5) * self.ratio
            taps = [_cubic((at + 0.5 - centre) / self.stretch) for at in range(low, high)]
            values = torch.tensor(taps, dtype=torch.float64) / math.fsum(taps)
            weights[index, low - first : high - first] = values
        return weights.float()


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return ((-0.5 * x + 2.5) * x - 4) * x + 2
    return 0.0
