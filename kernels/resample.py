"""Antialiased bicubic resampling, by rows, so that a picture never has to be whole.

The kernel is Keys' cubic with a = -1/2, stretched by the factor when reducing, as Pillow's BICUBIC
and torch's `interpolate(mode="bicubic", antialias=True)` use it; weights at an edge are cut off and
normalised. Source: R. Keys, Cubic convolution interpolation, IEEE TASSP 29 (1981).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class RowResampler:
    """Resamples pictures of height x width `source` to `target` pixels, some rows at a time."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int]) -> None:
        self.source = source
        self.target = target
        self._ratio = source[0] / target[0]
        self._stretch = max(self._ratio, 1.0)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """The source rows [first, last) that target rows [start, stop) are made of."""
        return self._window(start)[0], self._window(stop - 1)[1]

    def complete(self, available: int) -> int:
        """How many target rows can be made when the first `available` source rows are known."""
        if available >= self.source[0]:
            return self.target[0]
        guess = int((available - 2 * self._stretch - 1) / self._ratio)
        rows = min(max(guess - 1, 0), self.target[0])
        while rows < self.target[0] and self._window(rows)[1] <= available:
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
        if self.source[0] != self.target[0]:
            weights = self._weights(start, stop, first, last).to(window.device)
            out = torch.einsum("or,crw->cow", weights, out)
        if self.source[1] == 1:
            # torch mistakes the layout of pictures one pixel wide, and there is nothing to weigh.
            return out.expand(-1, -1, self.target[1])
        if self.source[1] != self.target[1]:
            # At a height that does not change the vertical weights are 1 at their own row.
            size = (out.shape[1], self.target[1])
            out = F.interpolate(out[None], size, mode="bicubic", antialias=True)[0]
        return out

    def _window(self, row: int) -> tuple[int, int]:
        if self.source[0] == self.target[0]:
            return row, row + 1
        centre = (row + 0.5) * self._ratio
        support = 2.0 * self._stretch
        first = max(0, int(centre - support + 0.5))
        last = min(self.source[0], int(centre + support + 0.5))
        return first, max(last, first + 1)

    def _weights(self, start: int, stop: int, first: int, last: int) -> Tensor:
        """float32 [stop - start, last - first], each row summing to 1."""
        weights = torch.zeros((stop - start, last - first), dtype=torch.float64)
        for index, row in enumerate(range(start, stop)):
            low, high = self._window(row)
            centre = (row + 0.5) * self._ratio
            taps = [_cubic((at + 0.5 - centre) / self._stretch) for at in range(low, high)]
            total = math.fsum(taps)
            values = torch.tensor(taps, dtype=torch.float64) / total
            weights[index, low - first : high - first] = values
        return weights.float()


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return ((-0.5 * x + 2.5) * x - 4) * x + 2
    return 0.0
