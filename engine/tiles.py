"""Where tiles lie. Pure geometry in input pixels; nothing here knows pixels, networks or devices.

An axis is cut into cores that cover it without gap. A tile is a core with its margin on each side,
clipped at the picture's edge, beginning on a multiple of the grid. Tiles of one axis have one
length, so that they batch; the last may be longer by less than the grid, to end where the picture
ends. Where tiles blend, each gives `feather` pixels beyond its core, and neighbours cross-fade.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A tile along one axis: it reads [start, stop) and owns [core_start, core_stop)."""

    start: int
    stop: int
    core_start: int
    core_stop: int

    @property
    def length(self) -> int:
        """Pixels read."""
        return self.stop - self.start

    @property
    def core_length(self) -> int:
        """Pixels owned."""
        return self.core_stop - self.core_start


@dataclass(frozen=True)
class Tile:
    """A rectangle of input with its context; `row` and `column` count from 0."""

    row: int
    column: int
    y: Span
    x: Span


def spans(length: int, core: int, margin: int, grid: int, least: int = 1) -> tuple[Span, ...]:
    """The tiles of an axis of `length` pixels, with cores of at most `core` (a multiple of `grid`).

    Cores are equal but for the last, which is the shorter: a few equal tiles rather than a sliver.
    None but the last is shorter than `least`, so that cross-fades on its two sides do not meet.
    Raises ValueError on a core that is no positive multiple of the grid.
    """
    if core < 1 or core % grid or margin < 0:
        raise ValueError(f"core {core} must be a positive multiple of the grid {grid}")
    count = -(-length // core)
    core = max(round_up(-(-length // count), grid), min(core, round_up(least, grid)))
    bounds = [(at, min(length, at + core)) for at in range(0, length, core)]
    reads = [_read(a, b, margin, grid, length) for a, b in bounds]
    uniform = round_up(max(stop - start for start, stop in reads), grid)
    return tuple(
        Span(*_widened(start, stop, uniform, length, grid), a, b)
        for (start, stop), (a, b) in zip(reads, bounds, strict=True)
    )


def tiles(rows: tuple[Span, ...], columns: tuple[Span, ...]) -> Iterator[Tile]:
    """All tiles, row by row."""
    for row, y in enumerate(rows):
        for column, x in enumerate(columns):
            yield Tile(row, column, y, x)


def halves(span: Span, margin: int, grid: int, length: int) -> tuple[Span, ...]:
    """The same core as two smaller tiles, for when memory ran out; one where it cannot be cut.

    `length` is that of the whole axis.
    """
    middle = round_up((span.core_start + span.core_stop) // 2, grid)
    if not span.core_start < middle < span.core_stop:
        return (span,)
    parts = ((span.core_start, middle), (middle, span.core_stop))
    return tuple(Span(*_read(a, b, margin, grid, length), a, b) for a, b in parts)


def _read(start: int, stop: int, margin: int, grid: int, length: int) -> tuple[int, int]:
    """What the tile of the core [start, stop) reads: its margins, out to the grid or the edge."""
    return round_down(max(0, start - margin), grid), min(length, round_up(stop + margin, grid))


def _widened(start: int, stop: int, uniform: int, length: int, grid: int) -> tuple[int, int]:
    """The read widened to the common length: to the right first, then to the left at the edge."""
    stop = min(length, start + uniform)
    if stop - start < uniform:
        start = round_down(max(0, stop - uniform), grid)
    return start, stop


def round_up(value: int, grid: int) -> int:
    """The next multiple of `grid`."""
    return -(-value // grid) * grid


def round_down(value: int, grid: int) -> int:
    """The multiple of `grid` before."""
    return value // grid * grid
