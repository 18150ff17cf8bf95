"""Background jobs that are nobody's any more: their key is over, a server beside this one has done
them, or the server that had them never came back.
"""

from __future__ import annotations

import asyncio

from upscale import logs
from upscale.errors import JobCancelled, OutputFault
from upscale.server.endings import Endings
from upscale.server.job_folders import JobFolders
from upscale.server.recording import Recorder, error_fields, status_of
from upscale.server.records.database import Database
from upscale.server.records.queue import JobQueue
from upscale.server.records.recovery import lost
from upscale.server.records.times import now_ms
from upscale.server.threads import asked, whole

log = logs.get("server")

_LOST_DAYS = 7
_DAY_MS = 86_400_000
_LOST_LOOK_SECONDS = 3600.0


class Strays:
    """Looks for them, and ends what has to be ended. Belongs to the event loop."""

    def __init__(
        self,
        database: Database,
        queue: JobQueue,
        recorder: Recorder,
        endings: Endings,
        folders: JobFolders,
    ) -> None:
        self._database, self._queue, self._recorder = database, queue, recorder
        self._endings, self._folders = endings, folders
        self._look_for_lost_at = 0.0

    async def look(self) -> None:
        """Raises RecordsFault; looked again then."""
        await self._end_keyless()
        await self._let_go_of_done()
        now = asyncio.get_running_loop().time()
        if now >= self._look_for_lost_at:
            await self._end_lost()
            self._look_for_lost_at = now + _LOST_LOOK_SECONDS

    async def _end_keyless(self) -> None:
        over = JobCancelled("The key of this job was revoked or expired before its turn came.")
        for row in await asked(self._queue.keyless):
            await self._endings.end(row, status_of(over), **error_fields(over))

    async def _let_go_of_done(self) -> None:
        """Neither count nor watch what was accepted here and done by a server beside this one."""
        for request_id in await asyncio.to_thread(self._folders.gone):
            row = await asked(self._recorder.log.get, request_id)
            if row is not None and row.ended:
                self._recorder.feeds.end(request_id, row.status)
            await asyncio.to_thread(self._folders.forget, request_id)

    async def _end_lost(self) -> None:
        away = OutputFault(
            f"The server that holds this job's picture has been away for {_LOST_DAYS} days."
        )
        before = now_ms() - _LOST_DAYS * _DAY_MS
        for row in await whole(lambda: lost(self._database, self._queue.place, before)):
            log.warning("job lost", extra=logs.fields(request=row.id))
            # Here is where its end is told.
            await self._endings.end(
                row, status_of(away), place=self._queue.place, **error_fields(away)
            )
