"""Server-sent events of one request: its states and its progress.

An event's id names a feed and a number in it. Who comes back with the last one gets what followed
it; with an id of another feed (another attempt, a server that was started again) all that is known.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from upscale.server.feeds import Feed
from upscale.server.records.rows import Row
from upscale.server.services import Services
from upscale.server.shown import position_of, request_body
from upscale.server.threads import asked

# The id of the last event of a request, whichever process sends it.
_END = "end"
# A comment after so many seconds without an event, so that no proxy takes the line for dead.
_BEAT_SECONDS = 15
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_stream(ours: Services, row: Row, last_id: str) -> Response:
    """The events behind `last_id`, as they come; the last one holds the whole request object.

    204 tells a browser that there will be none any more. The response raises RateLimited where too
    many are open.
    """
    if row.ended and last_id.strip() == _END:
        return Response(status_code=204)
    return _Stream(ours, row, last_id.strip())


class _Stream(StreamingResponse):
    """Counted from before its first byte until it is over, whoever ends it."""

    def __init__(self, ours: Services, row: Row, last_id: str) -> None:
        super().__init__(self._events(last_id), media_type="text/event-stream", headers=_HEADERS)
        self._ours, self._row = ours, row
        self._feed = Feed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Raises RateLimited before anything is sent."""
        feeds, row = self._ours.recorder.feeds, self._row
        with feeds.place(row.caller), feeds.watched(row.id) as self._feed:
            await super().__call__(scope, receive, send)

    async def _events(self, last_id: str) -> AsyncIterator[str]:
        ours, row = self._ours, self._row
        if not row.ended:
            async for event in _of(ours, self._feed, row, last_id):
                yield event
            row = await _again(ours, row)
            if not row.ended:  # the server ends, or its records do not say it yet: come back
                return
        yield _written("state", request_body(ours, row), _END)


async def _of(ours: Services, feed: Feed, row: Row, last_id: str) -> AsyncIterator[str]:
    """All but the last one."""
    feeds = ours.recorder.feeds
    name, _, number = last_id.rpartition(".")
    seen = int(number) if name == feed.name and number.isdecimal() else 0
    quiet, position = 0, None
    async for event in feed.after(seen):
        if feeds.closing:
            return
        if event is not None:
            quiet = 0
            if not event.last:
                yield _written(event.kind, event.data, f"{feed.name}.{event.number}")
            continue
        quiet += 1
        row = await _again(ours, row)
        if row.ended:  # by another process
            feeds.end(row.id, row.status)
            return
        if (place := await position_of(ours, row)) != position:
            position = place
            yield _written("state", {"status": row.status, "position": position})
        elif quiet % _BEAT_SECONDS == 0:
            yield ": still here\n\n"


async def _again(ours: Services, row: Row) -> Row:
    """The record as it is now; as it was where it is gone."""
    return await asked(ours.recorder.log.get, row.id) or row


def _written(kind: str, data: dict[str, Any], number: str | None = None) -> str:
    head = f"event: {kind}\n" if number is None else f"id: {number}\nevent: {kind}\n"
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"
