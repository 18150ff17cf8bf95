"""Context and grid of a loaded network, found by running it with not-a-number at single pixels.

Not-a-number marks every structural dependence, however small the weight, so the reach that is read
is a bound that no picture can exceed. Nothing here knows an architecture. The formula: an output
pixel `o` belongs to input pixel `o // scale`; the reach of input pixel `p` is the largest distance
between `p` and an input pixel whose outputs it touches.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from upscale.errors import CheckpointError
from upscale.models.runner import Runner

# Lengths of the strips tried, in input pixels; multiples of every usual window (up to 64).
_LENGTHS = (128, 256, 512, 1024, 2048)

# Periods tried for a network whose reach changes from pixel to pixel.
_GRIDS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24, 28, 32, 36, 40, 48, 56, 64, 96, 128)

# Where no context is found, neither is the grid; windows of attention are 8, 16 or 32 wide.
GLOBAL_GRID = 32

# A strip that would take longer is not run: the network counts as global.
_SECONDS_PER_STRIP = 10.0


@dataclass(frozen=True)
class Reach:
    """`context` in input pixels, None where it was not found; `grid` in input pixels."""

    context: int | None
    grid: int


def measure_reach(runner: Runner, *, size_minimum: int, size_multiple: int) -> Reach:
    """The reach of an fp32 runner on the CPU, the larger of both axes.

    Raises CheckpointError when the network gives not-a-number on an ordinary picture.
    """
    breadth = max(8, size_minimum, size_multiple)
    with _plain_convolutions():
        across = _axis_reach(runner, breadth, transposed=False)
        if across.context is None:
            return across
        down = _axis_reach(runner, breadth, transposed=True)
    if down.context is None:
        return down
    grid = math.lcm(across.grid, down.grid)
    return Reach(max(across.context, down.context), grid)


def _axis_reach(runner: Runner, breadth: int, *, transposed: bool) -> Reach:
    seconds = 0.0
    for length in _LENGTHS:
        # Doubling the strip at least doubles the time; attention may take more.
        if seconds * 3 > _SECONDS_PER_STRIP:
            break
        strip = _Strip(runner, length, breadth, transposed)
        began = time.perf_counter()
        # A mark at one end shows whether all of the strip is in reach, at half the length that a
        # mark in the middle needs: most of the time goes into networks that are global.
        covered = strip.covered_from_one_end()
        seconds = time.perf_counter() - began
        if covered:
            continue
        for longer in (length, 2 * length, 4 * length):
            reach = _periodic_reach(_Strip(runner, longer, breadth, transposed))
            if reach is not None:
                return reach
    return Reach(None, GLOBAL_GRID)


def _periodic_reach(strip: _Strip) -> Reach | None:
    """The reach over all phases; None when some phase reaches the end of the strip."""
    base = strip.middle
    if strip.shifts_alike(base, 1) and strip.shifts_alike(base + 1, 1):
        return strip.worst([base], grid=1)
    for grid in _GRIDS:
        if base + 2 * grid >= strip.length:
            return None
        if all(strip.shifts_alike(base + phase, grid) for phase in (0, 1, grid // 2)):
            # The ends of a block reach farthest; all phases where that is cheap.
            phases = range(grid) if grid <= 16 else (0, 1, grid // 2 - 1, grid // 2, grid - 1)
            return strip.worst([base + phase for phase in phases], grid=grid)
    return None


class _Strip:
    """A flat picture, long on one axis, in which one line of pixels at a time is not-a-number."""

    def __init__(self, runner: Runner, length: int, breadth: int, transposed: bool) -> None:
        self.length = length
        # On a multiple of every grid tried, so that phases count from a block's first pixel.
        self.middle = length // 2
        self._runner = runner
        self._breadth = breadth
        self._transposed = transposed
        self._known: dict[int, tuple[int, int] | None] = {}

    def touched(self, position: int) -> tuple[int, int] | None:
        """First and last output pixel that `position` touches; None when an end is reached."""
        if position not in self._known:
            self._known[position] = self._run(position)
        return self._known[position]

    def covered_from_one_end(self) -> bool:
        """Whether the first pixel touches every output pixel. (Not: the last ones; windows that
        are shifted around the edge join both ends of a picture.)"""
        return bool(torch.isnan(self._marked(0)).flatten(0, -2).any(0).all())

    def shifts_alike(self, position: int, step: int) -> bool:
        """Whether moving the mark by `step` moves what it touches by just as much."""
        here, there = self.touched(position), self.touched(position + step)
        if here is None or there is None:
            return False
        move = step * self._runner.scale
        return (here[0] + move, here[1] + move) == there

    def worst(self, positions: list[int], *, grid: int) -> Reach | None:
        """The largest reach over `positions`."""
        context = 0
        for position in positions:
            touched = self.touched(position)
            if touched is None:
                return None
            first, last = (pixel // self._runner.scale for pixel in touched)
            context = max(context, position - first, last - position)
        return Reach(context, grid)

    def _run(self, position: int) -> tuple[int, int] | None:
        along = torch.isnan(self._marked(position)).flatten(0, -2).any(0).nonzero().flatten()
        if len(along) == 0:
            raise CheckpointError(
                "The network hides not-a-number values, so its context cannot be measured."
            )
        first, last = int(along[0]), int(along[-1])
        if first < self._runner.scale or last >= (self.length - 1) * self._runner.scale:
            return None
        return first, last

    def _marked(self, position: int) -> Tensor:
        """The output for a mark at `position`, its last axis along the strip."""
        x = torch.full((1, self._runner.channels, self._breadth, self.length), 0.5)
        x[..., position] = math.nan
        y = self._runner(x.mT if self._transposed else x)
        return y.mT if self._transposed else y


@contextmanager
def _plain_convolutions() -> Iterator[None]:
    """Without Winograd, which spreads not-a-number over whole blocks of output."""
    with warnings.catch_warnings():
        # Entering mkldnn's flags warns of Intel cards, whatever the machine.
        warnings.simplefilter("ignore", UserWarning)
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
            yield
