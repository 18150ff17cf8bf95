"""What happens to requests at work, for those who watch: states and progress, numbered, so that who
was cut off can go on. In memory; what has to outlive the process stands in the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from upscale.engine.plan import Plan
from upscale.engine.receipt import Progress
from upscale.engine.shares import refusal
from upscale.errors import RateLimited

# Events that are kept for those who come back; progress comes at most twice a second.
_KEPT = 1000
_PROGRESS_EVERY = 0.5
_WATCHERS = 200
_RETRY_SECONDS = 10


@dataclass(frozen=True)
class Event:
    """`number` counts from 1 within a feed, `kind` is state or progress, none follows the last."""

    number: int
    kind: str
    data: dict[str, Any]
    last: bool = False


class Feed:
    """The events of one request. Belongs to the event loop.

    `here`: this process is or will be at work on it, and ends it; others live while they are
    watched.
    """

    def __init__(self) -> None:
        self.here = False
        self.watchers = 0
        # Events of another process, or of another attempt, are not taken for these.
        self.name = secrets.token_hex(4)
        self.progress: dict[str, Any] | None = None
        self.ended = False
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._count = 0
        self._news = asyncio.Event()
        self._begun: float | None = None
        self._next = 0.0

    def again(self) -> None:
        """It waits once more: what was done of it is done no longer."""
        self.progress = self._begun = None
        self._next = 0.0
        self.tell("state", {"status": "pending"})

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

    def report(self, fraction: float | None, state: str) -> None:
        """Where a job at a remote provider stands: a share where it tells one, its own word."""
        self.progress = {"stage": state, "fraction": fraction, "seconds_left": None}
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
    """The feeds of requests, and who watches.

    `closing`: the server is about to end, and whoever watches should come back to the next one.
    """

    def __init__(self) -> None:
        self._feeds: dict[str, Feed] = {}
        self.closing = False
        self._watchers: Counter[str] = Counter()

    def close(self) -> None:
        """End all streams soon: the server is about to end."""
        self.closing = True

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator[None]:
        """Meanwhile one stream more of a caller is open. Raises RateLimited where as many are as
        may be.
        """
        open_now = self._watchers.total()
        if why := refusal(self._watchers[caller], open_now, _WATCHERS):
            raise RateLimited(
                f"{open_now} streams are open; {why}. Try again later.", retry_after=_RETRY_SECONDS
            )
        self._watchers[caller] += 1
        try:
            yield
        finally:
            self._watchers[caller] -= 1
            self._watchers += Counter()  # forgets those at zero

    def get(self, request_id: str) -> Feed | None:
        """The feed of a request that is at work or waits here, or is watched."""
        return self._feeds.get(request_id)

    def open(self, request_id: str) -> Feed:
        """The feed of a request that this process works on, made where there is none."""
        feed = self._feeds.setdefault(request_id, Feed())
        feed.here = True
        return feed

    @contextlib.contextmanager
    def watched(self, request_id: str) -> Iterator[Feed]:
        """The feed of a request, which may be another process's, while somebody watches it."""
        feed = self._feeds.setdefault(request_id, Feed())
        feed.watchers += 1
        try:
            yield feed
        finally:
            feed.watchers -= 1
            self._drop(request_id)

    def leave(self, request_id: str) -> None:
        """A request waits again, for whichever process takes it."""
        feed = self._feeds.get(request_id)
        if feed is not None:
            feed.again()
            feed.here = False
            self._drop(request_id)

    def end(self, request_id: str, status: str) -> None:
        """The last event of a request; those who watch get it still."""
        feed = self._feeds.pop(request_id, None)
        if feed is not None:
            feed.tell("state", {"status": status}, last=True)

    def _drop(self, request_id: str) -> None:
        feed = self._feeds.get(request_id)
        if feed is not None and not feed.here and not feed.watchers:
            del self._feeds[request_id]


def described(progress: Progress, plan: Plan, seconds: float) -> dict[str, Any]:
    """Progress for callers: `seconds` since its first tile was begun.

    The speed is that of the tiles: rows of the result are finished only when a whole line of tiles
    is.
    """
    done, total = progress.tiles_done, progress.tiles_total
    left = plan.expected_seconds if not done else seconds / done * (total - done)
    megapixels = plan.width * plan.height / 1e6 * done / total if total else 0.0
    return {
        "stage": progress.stage,
        "tiles_done": done,
        "tiles_total": total,
        "megapixels_per_second": round(megapixels / seconds, 3) if done and seconds > 0 else None,
        "seconds_left": round(left, 1),
    }
