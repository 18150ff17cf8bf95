"""A request that came before, by its idempotency key: answered like the first, without work.

It is the same request sent again, and has no record of its own: its reply bears the id of the
first, whose record says what became of both.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import JSONResponse, Response

from upscale.errors import InvalidRequest, NotFound, recorded
from upscale.server.background import accepted_reply
from upscale.server.forms import Form
from upscale.server.recording import Recording
from upscale.server.records.rows import Row
from upscale.server.replies import inlined
from upscale.server.services import Services
from upscale.server.spool import RequestFolder
from upscale.server.threads import asked
from upscale.server.wishes import fingerprint

_LOOK_SECONDS = 0.25
_ANEW = "A new Idempotency-Key makes another request, which is paid for again."


async def replayed(
    ours: Services, record: Recording, name: str, form: Form, folder: RequestFolder
) -> Response | None:
    """The reply of the earlier request with the idempotency key `name`, once it has one.

    None where there is no such request, or not any more: one that is cancelled gives its name back,
    and this one becomes the first. Raises what the earlier one failed with, NotFound where that was
    purged, InvalidRequest where its body was another, or it was cut short and may have been paid
    for.
    """
    body = await asyncio.to_thread(fingerprint, form)
    while (earlier := await record.arrive(idempotency_key=name, fingerprint=body)) is not None:
        row = await _settled(ours, earlier)
        if row is None or (row.status == "cancelled" and row.idempotency_key is None):
            continue
        record.repeats(row.id)
        if row.background:
            return await accepted_reply(ours, row)
        if row.purged:
            raise NotFound("The reply of the request that this one repeats was deleted.")
        if row.status == "cancelled":
            raise cut_short(row)
        if row.status != "completed":
            message = f"The request that this one repeats has failed: {row.error_message}"
            if row.idempotency_kept:
                message = f"{message.rstrip('.')}. {_ANEW}"
            raise recorded(row.error_status, row.error_code, message)
        if row.reply is None:
            raise not_kept(row)
        return await kept_reply(ours, row, json.loads(row.reply), folder)
    return None


def not_kept(row: Row) -> InvalidRequest:
    """The error for a repeat of what was passed on: its reply went through, and is not kept."""
    return InvalidRequest(
        "A request with this Idempotency-Key was passed on before, and replies from elsewhere are "
        f"not kept: GET /v1/requests/{row.id} tells what became of it. {_ANEW}",
        field="Idempotency-Key",
    )


def cut_short(row: Row) -> InvalidRequest:
    """The error for a repeat of what ended before its result came, and was or may have been paid
    for.
    """
    return InvalidRequest(
        "The first request with this Idempotency-Key ended before its result came, and may have "
        f"been paid for: GET /v1/requests/{row.id} tells what became of it. {_ANEW}",
        field="Idempotency-Key",
    )


async def _settled(ours: Services, row: Row) -> Row | None:
    """The request once it has ended, or is a background job; None where its record is gone."""
    while not row.ended and not row.background:
        await asyncio.sleep(_LOOK_SECONDS)
        found = await asked(ours.recorder.log.get, row.id)
        if found is None:
            return None
        row = found
    return row


async def kept_reply(ours: Services, row: Row, body: Any, folder: RequestFolder) -> Response:
    """`body`, which holds the recorded reply of `row`, with the file filled in where it is asked
    for in base64. Raises NotFound where that has expired.
    """
    if not row.reply or '"b64_json": null' not in row.reply:
        return JSONResponse(body)
    files = []
    for index, name in enumerate(row.media):
        target = folder.path / f"kept-{index}"
        if not await asyncio.to_thread(ours.media.copy, name, target, folder.take):
            break
        file = target.open("rb")
        folder.lend(file, target.stat().st_size)
        files.append(file)
    if not files or len(files) < len(row.media):
        raise NotFound("The result of this request has expired.")
    return inlined(body, files)
