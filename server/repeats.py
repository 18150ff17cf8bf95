"""A request that came before, by its idempotency key: answered like the first, without work."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import JSONResponse, Response

from upscale.errors import InvalidRequest, JobCancelled, NotFound, ServerFault, UpscaleError
from upscale.server.background import accepted_reply
from upscale.server.records.requests import Existing
from upscale.server.records.rows import Row
from upscale.server.replies import inlined
from upscale.server.services import Services
from upscale.server.spool import RequestFolder
from upscale.server.threads import asked
from upscale.server.wishes import another_body

_LOOK_SECONDS = 0.25


async def replayed(ours: Services, earlier: Existing, folder: RequestFolder) -> Response:
    """The reply of the earlier request, once it has one. Raises what that failed with,
    NotFound where that was purged, InvalidRequest where its body was another.
    """
    if not earlier.same:
        raise another_body()
    row = earlier.row
    if row.background:
        return await accepted_reply(ours, row)
    while not row.ended:
        await asyncio.sleep(_LOOK_SECONDS)
        found = await asked(ours.recorder.log.get, row.id)
        if found is None:
            raise JobCancelled("The earlier request with this Idempotency-Key is gone.")
        row = found
    if row.purged:
        raise NotFound("The reply of the request that this one repeats was deleted.")
    if row.status != "completed" or row.reply is None:
        raise _ended_badly(row)
    return await kept_reply(ours, row, json.loads(row.reply), folder)


async def kept_reply(ours: Services, row: Row, body: Any, folder: RequestFolder) -> Response:
    """`body`, which holds the recorded reply of `row`, with the file filled in where it is asked
    for in base64. Raises NotFound where that has expired.
    """
    if not row.reply or '"b64_json": null' not in row.reply:
        return JSONResponse(body)
    target = folder.path / "kept"
    found = [
        await asyncio.to_thread(ours.media.copy, name, target, folder.take)
        for name in row.media[:1]
    ]
    if not any(found):
        raise NotFound("The result of this request has expired.")
    file = target.open("rb")
    folder.lend(file, target.stat().st_size)
    return inlined(body, file)


def _ended_badly(row: Row) -> UpscaleError:
    message = f"The request that this one repeats has failed: {row.error_message}"
    blamed = row.error_status is not None and row.error_status < 500
    return InvalidRequest(message) if blamed else ServerFault(message)
