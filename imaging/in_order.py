"""Work on a few threads whose results are taken in the order in which it was given.

Knows nothing of what the work is. At most one piece more than there are threads is in flight, so
memory does not grow with their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """`take` gets each result, on the thread that calls `put` or `finish`."""

    def __init__(self, threads: int, name: str, take: Callable[[T], None]) -> None:
        self._threads, self._take = max(1, threads), take
        self._flying: deque[Future[T]] = deque()
        self._pool = ThreadPoolExecutor(self._threads, name)

    def put(self, work: Callable[[], T]) -> None:
        """Begin `work`, after taking the oldest result if enough is in flight.

        Raises what that work raised.
        """
        if len(self._flying) > self._threads:
            self._take(self._flying.popleft().result())
        self._flying.append(self._pool.submit(work))

    def finish(self) -> None:
        """Take what is left; raises what the work raised."""
        while self._flying:
            self._take(self._flying.popleft().result())
        self._pool.shutdown()

    def abort(self) -> None:
        """Give up what has not begun and wait for the rest; never raises."""
        self._pool.shutdown(wait=True, cancel_futures=True)
