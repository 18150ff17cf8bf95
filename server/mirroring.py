"""Pictures behind other people's links, kept behind links of ours: a reply that was passed through
then leads nobody out of the house.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from starlette.requests import Request

from upscale import logs
from upscale.errors import UpscaleError
from upscale.imaging.limits import FORMATS, check_input
from upscale.server.services import Services, base_url
from upscale.server.spool import RequestFolder

log = logs.get("server")

MOST_BYTES = 64 << 20
"""Replies up to this size are looked into for links."""
# No model makes more pictures at once.
_MOST_LINKS = 16


def may_hold_links(headers: dict[str, str]) -> bool:
    """Whether a reply with these headers is worth to be waited for: not an event stream."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    length = headers.get("content-length", "")
    return kind == "application/json" and not (length.isdecimal() and int(length) > MOST_BYTES)


async def mirrored(
    request: Request, ours: Services, folder: RequestFolder, content: bytes
) -> tuple[bytes, tuple[str, ...]]:
    """A reply whose links lead to this server, and the names of what lies behind them; a link that
    cannot be followed stays as it is.
    """
    body = await asyncio.to_thread(_read, content)
    try:
        entries = [entry for entry in body["data"] if isinstance(entry.get("url"), str)]
    except (KeyError, TypeError, AttributeError):
        return content, ()
    names: list[str] = []
    for index, entry in enumerate(entries[:_MOST_LINKS]):
        try:
            name = await _kept(ours, folder, entry["url"], folder.path / f"mirrored-{index}")
        except UpscaleError as fault:
            log.warning("a link could not be mirrored", extra=logs.fields(why=fault.message))
            continue
        if name is not None:
            names.append(name)
            entry["url"] = f"{base_url(request, ours.settings)}/media/{name}"
    if not names:
        return content, ()
    return (await asyncio.to_thread(json.dumps, body)).encode(), tuple(names)


async def _kept(ours: Services, folder: RequestFolder, url: str, file: Path) -> str | None:
    """The name of the picture behind `url`; None where it is none that we serve."""
    await ours.fetcher.fetch(url, file, folder.take)
    probe = await ours.pool.probe(file)
    if probe.format not in FORMATS:
        return None
    check_input(probe, ours.settings.max_input_pixels)
    await ours.pool.check_whole(file, probe)  # nothing that ends too soon stands behind our name
    return await asyncio.to_thread(ours.media.adopt, file, probe.format)


def _read(content: bytes) -> Any:
    """The JSON that it is; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
