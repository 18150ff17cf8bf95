"""A request as the one who made it sees it: the gateway's object, and what is at work besides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from upscale.server.records.queue import is_remote
from upscale.server.records.rows import Row, remote_facts, to_public
from upscale.server.records.times import iso, now_ms

if TYPE_CHECKING:
    from upscale.server.services import Services


def request_body(ours: Services, row: Row, position: int | None = None) -> dict[str, Any]:
    """The object of `GET /v1/requests/{id}`. `position`: how many jobs run before it.

    `response` is the normal reply, once there is one; `expected_end` is an estimate.
    """
    feed = ours.recorder.feeds.get(row.id)
    progress = feed.progress if feed is not None else None
    if progress is None and row.progress is not None:
        progress = json.loads(row.progress)
    return {
        **to_public(row),
        "background": row.background,
        "position": position if row.status == "pending" else None,
        "progress": None if row.ended else progress,
        "expected_seconds": row.expected_seconds,
        "expected_end": None if row.ended else _expected_end(ours, row, progress, position),
        "attempts": row.attempts,
        **remote_facts(row),
        "response": json.loads(row.reply) if row.reply is not None else None,
    }


async def position_of(ours: Services, row: Row) -> int | None:
    """How many jobs run before a request that waits; None for others."""
    if row.status != "pending":
        return None
    if row.background and not ours.background.has_taken(row.id):
        return await ours.background.position(row)
    place = ours.engine.position(row.id)
    if place is not None or not row.background:
        return place
    # One that was taken a moment ago is on its way, to a device behind all that stand there.
    return 0 if is_remote(row) else ours.engine.waiting


def _expected_end(
    ours: Services, row: Row, progress: dict[str, Any] | None, position: int | None
) -> str | None:
    """When it will be there as far as can be told: not before its turn is known."""
    if row.status == "processing":
        left = row.expected_seconds if progress is None else progress["seconds_left"]
    elif position is not None and row.expected_seconds is not None:
        # Jobs before it that wait in the records are taken to be like it.
        left = max(ours.engine.backlog, row.expected_seconds * position) + row.expected_seconds
    else:
        left = None
    return None if left is None else iso(now_ms() + round(left * 1000))
