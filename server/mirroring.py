"""Pictures behind other people's links, kept behind links of ours: a reply that was passed through
then leads nobody out of the house.
"""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request

from upscale import logs
from upscale.errors import UpscaleError
from upscale.imaging.limits import FORMATS
from upscale.server.services import Services, base_url
from upscale.server.spool import RequestFolder

log = logs.get("server")


async def mirrored(
    request: Request, ours: Services, folder: RequestFolder, content: bytes
) -> tuple[bytes, tuple[str, ...]]:
    """A reply whose links lead to this server, and the names of what lies behind them; a link that
    cannot be followed stays as it is.
    """
    try:
        body = json.loads(content)
        entries = [entry for entry in body["data"] if isinstance(entry.get("url"), str)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return content, ()
    names: list[str] = []
    for index, entry in enumerate(entries):
        file = folder.path / f"mirrored-{index}"
        try:
            await ours.fetcher.fetch(entry["url"], file, folder.take)
            probe = await ours.pool.probe(file)
            if probe.format not in FORMATS:
                continue
            name = await asyncio.to_thread(ours.media.adopt, file, probe.format)
        except UpscaleError as fault:
            log.warning("a link could not be mirrored", extra=logs.fields(why=fault.message))
            continue
        names.append(name)
        entry["url"] = f"{base_url(request, ours.settings)}/media/{name}"
    return (json.dumps(body).encode() if names else content), tuple(names)
