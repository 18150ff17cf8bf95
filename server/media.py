"""Results behind links: unguessable names in a private folder, gone after their time.

A link is all that is needed to read a result, so names are random and appear in no log.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from starlette.responses import FileResponse, Response

from upscale import logs
from upscale.errors import NotFound
from upscale.imaging.limits import FORMATS
from upscale.server.ids import random_token
from upscale.server.spool import private_folder, storing

log = logs.get("server")

_NAME = re.compile(r"[0-9A-Za-z]{27}\.[a-z]{3,4}")
_LINK = re.compile(r"https?://[^/?#]+(?:/[^?#]*)?/media/([0-9A-Za-z]{27}\.[a-z]{3,4})", re.I)
_TYPES = {facts.extension: facts.mime for facts in FORMATS.values()}
_MAX_SWEEP_SECONDS = 60.0


class MediaStore:
    """The folder `folder`; what lies in it lives `ttl` seconds."""

    def __init__(self, folder: Path, ttl: int) -> None:
        self._folder, self._ttl = folder, ttl

    def open(self) -> None:
        """Make the folder and remove what has expired."""
        private_folder(self._folder)
        self.sweep()

    def adopt(self, result: Path, format: str) -> str:
        """Move a finished result here; returns its name. Raises OutputFault."""
        name = random_token() + FORMATS[format].extension
        with storing("the result"):
            result.chmod(0o600)
            os.utime(result)
            result.replace(self._folder / name)
        return name

    def find(self, name: str) -> Path | None:
        """The file of that name, None where there is none or its time is over."""
        return self._folder / name if self._alive(name) is not None else None

    def response(self, name: str) -> Response:
        """The file as a reply, with ranges and HEAD. Raises NotFound."""
        path, facts = self._folder / name, self._alive(name)
        if facts is None:
            raise NotFound("There is no such media link, or it has expired.")
        left = int(facts.st_mtime + self._ttl - time.time())
        return FileResponse(
            path,
            stat_result=facts,
            media_type=_TYPES[path.suffix],
            headers={
                "Cache-Control": f"private, max-age={left}",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def _alive(self, name: str) -> os.stat_result | None:
        if not _NAME.fullmatch(name):
            return None
        try:
            facts = (self._folder / name).stat()
        except OSError:
            return None
        return facts if facts.st_mtime + self._ttl > time.time() else None

    def sweep(self) -> None:
        """Remove what has expired."""
        over = time.time() - self._ttl
        for path in self._folder.iterdir():
            try:
                if path.stat().st_mtime <= over:
                    path.unlink()
            except OSError as fault:
                log.warning("media not removed", extra=logs.fields(reason=fault.strerror))

    async def sweep_forever(self) -> None:
        """Sweep now and then until cancelled."""
        while True:
            await asyncio.sleep(min(_MAX_SWEEP_SECONDS, self._ttl / 2))
            try:
                await asyncio.to_thread(self.sweep)
            except OSError as fault:
                log.warning("media not swept", extra=logs.fields(reason=fault.strerror))


def linked_name(url: str) -> str | None:
    """The name in a media link, whichever the host; None for any other URL."""
    match = _LINK.fullmatch(url.split("?")[0].split("#")[0])
    return match[1] if match else None
