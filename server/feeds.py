"""What happens to requests at work, for those who watch: states and progress, numbered, so that who
was cut off can go on. In memory; what has to outlive the process stands in the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from upscale.engine.plan import Plan
from upscale.engine.receipt import Progress
from upscale.errors import RateLimited

# Events that are kept for those who come back; progress comes at most twice a second.
_KEPT = 1000
_PROGRESS_EVERY = 0.5
_WATCHERS = 200


@dataclass(frozen=True)
class Event:
    """`number` counts from 1 within a feed, `kind` is state or progress, none follows the last."""

    number: int
    kind: str
    data: dict[str, Any]
    last: bool = False


class Feed:
    """The events of one request. Belongs to the event loop."""

    def __init__(self) -> None:
        # Events of another process, or of another attempt, are not taken for these.
        self.name = secrets.token_hex(4)
        self.progress: dict[str, Any] | None = None
        self.ended = False
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._count = 0
        self._news = asyncio.Event()
        self._begun: float | None = None
        self._next = 0.0

    def tell(self, kind: str, data: dict[str, Any], *, last: bool = False) -> None:
        """One more event; none follows the last."""
        if self.ended:
            return
        self._count += 1
        self._events.append(Event(self._count, kind, data, last))
        self.ended = last
        self._news.set()
        self._news = asyncio.Event()

    def advance(self, progress: Progress, plan: Plan) -> None:
        """Where its Job stands; told now and then."""
        now = time.monotonic()
        if progress.tiles_done == 0 or self._begun is None:
            self._begun = now
        self.progress = described(progress, plan, now - self._begun)
        if now >= self._next or progress.tiles_done >= progress.tiles_total:
            self._next = now + _PROGRESS_EVERY
            self.tell("progress", self.progress)

    async def after(self, number: int) -> AsyncIterator[Event | None]:
        """Events behind `number`, as they come, until the last; None for each second without."""
        while True:
            news = self._news
            for event in [event for event in self._events if event.number > number]:
                number = event.number
                yield event
            if self.ended:
                return
            try:
                async with asyncio.timeout(1.0):
                    await news.wait()
            except TimeoutError:
                yield None


class Feeds:
    """The feeds of the requests at work in this process, and how many watch.

    `closing`: the server is about to end, and whoever watches should come back to the next one.
    """

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self.closing = False
        self._watchers = 0

    def close(self) -> None:
        """End all streams soon: the server is about to end."""
        self.closing = True

    def check(self) -> None:
        """Raise RateLimited where as many watch as may."""
        if self._watchers >= _WATCHERS:
            raise RateLimited(f"{_WATCHERS} streams are open. Try again later.", retry_after=10)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Meanwhile one more watches."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    def get(self, request_id: str) -> Feed | None:
        """The feed of a request that is at work or waits here."""
        return self._feeds.get(request_id)

    def open(self, request_id: str) -> Feed:
        """The feed of a request, made where there is none."""
        return self._feeds.setdefault(request_id, Feed())

    def end(self, request_id: str, status: str) -> None:
        """The last event of a request; those who watch get it still."""
        feed = self._feeds.pop(request_id, None)
        if feed is not None:
            feed.tell("state", {"status": status}, last=True)


def described(progress: Progress, plan: Plan, seconds: float) -> dict[str, Any]:
    """Progress for callers: `seconds` since its first tile was begun."""
    done, total = progress.tiles_done, progress.tiles_total
    left = plan.expected_seconds if not done else seconds / done * (total - done)
    return {
        "stage": progress.stage,
        "tiles_done": done,
        "tiles_total": total,
        "megapixels_per_second": round(progress.megapixels / seconds, 3) if seconds > 0 else None,
        "seconds_left": round(left, 1),
    }
