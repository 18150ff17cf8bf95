"""Server-sent events of one request: its states and its progress.

An event's id names a feed and a number in it. Who comes back with the last one gets what followed
it; with an id of another feed (another attempt, a server that was started again) all that is known.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse

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

    204 tells a browser that there will be none any more. Raises RateLimited.
    """
    if row.ended and last_id.strip() == _END:
        return Response(status_code=204)
    ours.recorder.feeds.check()
    return StreamingResponse(
        _counted(ours, row, last_id.strip()), media_type="text/event-stream", headers=_HEADERS
    )


async def _counted(ours: Services, row: Row, last_id: str) -> AsyncIterator[str]:
    with ours.recorder.feeds.watching():
        async for event in _events(ours, row, last_id):
            yield event


async def _events(ours: Services, row: Row, last_id: str) -> AsyncIterator[str]:
    feeds = ours.recorder.feeds
    if not row.ended:
        feed = feeds.open(row.id)
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
                break
            if (place := await position_of(ours, row)) != position:
                position = place
                yield _written("state", {"status": row.status, "position": position})
            elif quiet % _BEAT_SECONDS == 0:
                yield ": still here\n\n"
        row = await _again(ours, row)
    yield _written("state", request_body(ours, row), _END)


async def _again(ours: Services, row: Row) -> Row:
    """The record as it is now; as it was where it is gone."""
    return await asked(ours.recorder.log.get, row.id) or row


def _written(kind: str, data: dict[str, Any], number: str | None = None) -> str:
    head = f"event: {kind}\n" if number is None else f"id: {number}\nevent: {kind}\n"
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"
