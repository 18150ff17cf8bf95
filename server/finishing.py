"""The end of an edit that has run: files behind links or into the reply, the record complete."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale.server.recording import Recording
from upscale.server.replies import inlined, result
from upscale.server.services import Services, base_url
from upscale.server.spool import RequestFolder


@dataclass(frozen=True)
class Wanted:
    """How the caller wants to be answered: `n` results, `inline` in base64, `later` by a request
    object, after at most `patience` seconds. `keep`: the result outlives its reply.
    """

    n: int
    inline: bool
    later: bool
    keep: bool
    patience: float
    user: str | None


async def check_room(ours: Services, wanted: Wanted) -> None:
    """Raise MediaFull where a result that has to be stored could not be."""
    if not wanted.inline or wanted.later or wanted.keep:
        await asyncio.to_thread(ours.media.check)


async def finished(
    request: Request,
    ours: Services,
    record: Recording,
    folder: RequestFolder,
    wanted: Wanted,
    *,
    files: Sequence[Path],
    size: tuple[int, int],
    format: str,
    about: dict[str, Any],
    facts: dict[str, Any],
) -> Response:
    """The reply with `files`, which are one for all results or one for each; `facts` go into the
    record, their cost is booked.
    """
    opened = []
    if wanted.inline:
        for path in files:
            file = path.open("rb")
            folder.lend(file, path.stat().st_size)
            opened.append(file)
    names: list[str] = []
    if wanted.keep or not wanted.inline:
        for path in files:
            names.append(await asyncio.to_thread(ours.media.adopt, path, format))
    base = base_url(request, ours.settings)
    urls = None if wanted.inline else [f"{base}/media/{name}" for name in names]
    body = result(size, wanted.n, urls, about)
    reply = inlined(body, opened) if wanted.inline else JSONResponse(body)
    await record.complete(
        reply=json.dumps(body),
        media=names,
        response_size_bytes=int(reply.headers["content-length"]),
        **facts,
    )
    return reply
