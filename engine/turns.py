"""Whose Job a device runs next: shares take turns, by the work they ask for.

A share is whoever Jobs are counted for together (a key; all without one are one share). Each has a
clock that advances by the seconds of its Jobs, slower with a higher priority, and the share whose
clock is furthest behind is next; who comes anew begins at the time at which the running Job began
(start-time fair queueing: Goyal, Vin and Cheng 1996). So a share with a hundred Jobs waiting delays
another by one Job, no priority starves anybody, and within a share Jobs run in the order of their
arrival. What a Job that is ended early has not done is given back to its share.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_DOUBLING = 25
"""So many steps of priority double a share's part: of keys, which have -100 to 100, the highest has
sixteen times that of one without, and 256 times that of the lowest."""

# A Job that is expected to take no time still has to wait for its turn.
_LEAST_SECONDS = 0.05


@dataclass(eq=False)
class _Ticket:
    id: str
    share: str
    stride: float
    expected: float
    turn: asyncio.Future[None] = field(default_factory=lambda: asyncio.Future())


class Turns:
    """The queue in front of one device, which runs one Job at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: _Ticket | None = None
        self._waiting: list[_Ticket] = []
        self._clocks: dict[str, float] = {}
        self._time = 0.0

    def __len__(self) -> int:
        """Jobs that wait or run."""
        return len(self._waiting) + (self._running is not None)

    @property
    def seconds(self) -> float:
        """Expected work of all that wait or run."""
        running = 0.0 if self._running is None else self._running.expected
        return running + sum(ticket.expected for ticket in self._waiting)

    def of(self, share: str) -> int:
        """Jobs of one share that wait or run."""
        running = [] if self._running is None else [self._running]
        return sum(ticket.share == share for ticket in (*self._waiting, *running))

    @contextlib.asynccontextmanager
    async def turn(
        self, id: str, *, share: str, priority: int, expected: float
    ) -> AsyncIterator[None]:
        """Wait for the turn of Job `id`; it lasts as long as the context. `expected` in seconds."""
        ticket = _Ticket(id, share, _stride(priority, expected), expected)
        # Who has not waited for a while has saved up nothing.
        self._clocks[share] = max(self._clocks.get(share, 0.0), self._time)
        self._waiting.append(ticket)
        self._next()
        begun = None
        try:
            await ticket.turn
            begun = asyncio.get_running_loop().time()
            yield
        except BaseException:
            took = 0.0 if begun is None else asyncio.get_running_loop().time() - begun
            if self._running is ticket:
                self._give_back(ticket, took)
            raise
        finally:
            if self._running is ticket:
                self._running = None
            else:
                self._waiting.remove(ticket)
            self._next()

    def position(self, id: str) -> int | None:
        """How many Jobs run before `id`, the one that runs now among them; None: it is not here."""
        if self._running is not None and self._running.id == id:
            return 0
        clocks, waiting = dict(self._clocks), list(self._waiting)
        for place in range(len(waiting)):
            ticket = _first(waiting, clocks)
            if ticket.id == id:
                return place + (self._running is not None)
            _count(ticket, clocks)
            waiting.remove(ticket)
        return None

    def _give_back(self, ticket: _Ticket, took: float) -> None:
        """What the running Job would still have done; `took` in seconds."""
        done = min(1.0, took / max(_LEAST_SECONDS, ticket.expected))
        self._clocks[ticket.share] -= ticket.stride * (1.0 - done)

    def _next(self) -> None:
        if self._running is None and self._waiting:
            ticket = _first(self._waiting, self._clocks)
            self._waiting.remove(ticket)
            self._running = ticket
            self._time = self._clocks[ticket.share]
            _count(ticket, self._clocks)
            if not ticket.turn.done():
                ticket.turn.set_result(None)
        if len(self) == 0:
            self._clocks.clear()
            self._time = 0.0


def _stride(priority: int, expected: float) -> float:
    return float(max(_LEAST_SECONDS, expected) / 2.0 ** (priority / _DOUBLING))


def _first(waiting: list[_Ticket], clocks: dict[str, float]) -> _Ticket:
    """The first to come of the share that is furthest behind."""
    return min(waiting, key=lambda ticket: clocks[ticket.share])


def _count(ticket: _Ticket, clocks: dict[str, float]) -> None:
    clocks[ticket.share] += ticket.stride
