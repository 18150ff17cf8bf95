"""How a request ends: in its record, for those who watch and those who are told, at work, and on
the disk, in that order. The one home for every end of a background job, and for whoever cancels a
request.
"""

from __future__ import annotations

import asyncio
from typing import Any

from upscale.errors import JobCancelled
from upscale.server.job_folders import JobFolders
from upscale.server.recording import Recorder, error_fields
from upscale.server.records.rows import Row, Status
from upscale.server.running import Running
from upscale.server.webhooks import Webhooks


class Endings:
    """Ends requests of one server. Belongs to the event loop."""

    def __init__(
        self, recorder: Recorder, running: Running, webhooks: Webhooks, folders: JobFolders
    ) -> None:
        self._recorder, self._running = recorder, running
        self._webhooks, self._folders = webhooks, folders

    async def end(self, row: Row, status: Status, **fields: Any) -> bool:
        """End a job that nobody works on any more. False where it has ended before."""
        ended = await self._write(row, status, fields)
        await self._tidy(row.id)
        return ended

    async def cancel(self, row: Row) -> bool:
        """Cancel a request, in the background or not, whether it waits, runs here, or runs in
        another process (which notices a job's end within seconds). False where it has ended.
        """
        fields = error_fields(cancelled())
        if not row.background:
            # A repeat of what nobody has waited for any more tries once more, where nobody paid.
            fields["idempotency_key"] = None
        ended = await self._write(row, "cancelled", fields)
        await self._running.cancel(row.id)
        await self._tidy(row.id)  # it may have become a job since `row` was read
        return ended

    async def _write(self, row: Row, status: Status, fields: dict[str, Any]) -> bool:
        ended = await self._recorder.finish(row.id, status, **fields)
        if row.background:
            self._webhooks.ended(row.id)
        return ended

    async def _tidy(self, request_id: str) -> None:
        """Remove a job's folder once its end is written: until then another process may have to
        run it again.
        """
        if not self._recorder.owes(request_id, lambda: self._folders.forget(request_id)):
            await asyncio.to_thread(self._folders.forget, request_id)


def cancelled() -> JobCancelled:
    """What a request ends with that somebody has cancelled."""
    return JobCancelled("The request was cancelled.")
