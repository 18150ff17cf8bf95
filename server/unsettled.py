"""Paid calls at remote providers whose requests have ended without knowing what they came to: the
server died, or gave up. Asked for once the server runs again: stopped where they still go on, and
what they cost is booked.
"""

from __future__ import annotations

import asyncio
from typing import Any

from upscale import logs
from upscale.providers.registry import Providers
from upscale.providers.task import RemoteJob
from upscale.server.recording import Recorder
from upscale.server.records.rows import Row
from upscale.server.remote_run import known_jobs
from upscale.server.running import Running
from upscale.server.threads import asked, whole

log = logs.get("server")

LOOK_SECONDS = 60.0
# After so many looks what nobody could tell stays in doubt, and the reservation is given back.
_LOOKS = 3


class Unsettled:
    """Looks for them. Belongs to the event loop."""

    def __init__(self, providers: Providers, recorder: Recorder, running: Running) -> None:
        self._providers, self._recorder, self._running = providers, recorder, running
        self._looks: dict[str, int] = {}

    async def settle_forever(self) -> None:
        """Look now and then until cancelled."""
        while True:
            await self.look(await asked(self._recorder.log.unsettled))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self, rows: list[Row]) -> None:
        """Settle those that can be settled now, and those that nobody can tell of."""
        for row in rows:
            if self._running.holds(row.id):
                continue  # it tells itself what its call comes to
            jobs = [
                job if job.billed in ("yes", "no") else await self._providers.abandon(job)
                for job in known_jobs(row.remote_job).values()
            ]
            looks = self._looks.get(row.id, 0) + 1
            if any(job.billed == "maybe" and self._askable(job) for job in jobs) and looks < _LOOKS:
                self._looks[row.id] = looks
                continue
            self._looks.pop(row.id, None)
            await whole(lambda row=row, jobs=jobs: self._settle(row, jobs))  # type: ignore[misc]

    def _askable(self, job: RemoteJob) -> bool:
        """Whether another look may tell more of it."""
        return bool(job.id or job.mark) and job.provider in self._providers.adapters

    def _settle(self, row: Row, jobs: list[RemoteJob]) -> None:
        attempts = [*row.remote_attempts, *(_attempt(job) for job in jobs)]
        cost = sum(_cost(job, row) for job in jobs)
        log.warning(
            "a paid call outlived its request",
            extra=logs.fields(request=row.id, cost_micros=cost, attempts=attempts),
        )
        self._recorder.settle(row.id, cost_micros=cost, remote_attempts=attempts)


def _attempt(job: RemoteJob) -> dict[str, Any]:
    told: dict[str, Any] = {
        "provider": job.provider,
        "endpoint": job.endpoint,
        "error": "interrupted",
        "message": "The request ended before its result came.",
        "job": job.id or None,
        "billed": job.billed,
        "cost_micros": job.cost_micros,
    }
    return {name: value for name, value in told.items() if value is not None}


def _cost(job: RemoteJob, row: Row) -> int:
    """As the provider says, else as it was quoted."""
    if job.billed != "yes":
        return 0
    return job.cost_micros if job.cost_micros is not None else row.quote_micros or 0
