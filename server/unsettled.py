"""Paid calls at remote providers whose requests have ended without knowing what they came to: the
server died, or gave up. Asked for once the server runs again: stopped where they still go on, and
what they cost is booked.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from upscale import logs
from upscale.errors import RecordsFault
from upscale.providers.registry import Providers
from upscale.providers.task import RemoteJob
from upscale.server.owed import Owed
from upscale.server.recording import Recorder
from upscale.server.records.rows import Row
from upscale.server.remote_run import booked
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
            try:
                await self._look(row)
            except RecordsFault:  # logged; looked again
                return
            except Exception:  # no reason to leave all others unsettled for ever
                log.exception("a paid call cannot be settled", extra=logs.fields(request=row.id))

    async def _look(self, row: Row) -> None:
        owed = Owed.from_json(row.remote_job)
        jobs = {
            index: job if job.billed != "maybe" else await self._providers.abandon(job)
            for index, job in owed.jobs.items()
        }
        looks = self._looks.get(row.id, 0) + 1
        open_calls = [
            j for j in jobs.values() if j.billed == "maybe" and self._providers.can_ask(j)
        ]
        if open_calls and looks < _LOOKS:
            self._looks[row.id] = looks
            return
        self._looks.pop(row.id, None)
        await whole(lambda: self._settle(row, replace(owed, jobs=jobs)))

    def _settle(self, row: Row, found: Owed) -> None:
        attempts = [*row.remote_attempts]
        for job in found.jobs.values():
            attempts = _told(attempts, job)
        cost = found.spent_micros + sum(
            booked(
                self._providers, job.provider, job.billed, job.cost_micros, found.quoted.get(i, 0)
            )
            for i, job in found.jobs.items()
        )
        log.warning(
            "a paid call outlived its request",
            extra=logs.fields(request=row.id, cost_micros=cost, attempts=attempts),
        )
        facts: dict[str, Any] = {"cost_micros": cost, "remote_attempts": attempts}
        if all(attempt.get("billed") == "no" for attempt in attempts):  # a repeat may try anew
            facts["idempotency_kept"] = False
        self._recorder.settle(row.id, **facts)


def _told(attempts: list[dict[str, Any]], job: RemoteJob) -> list[dict[str, Any]]:
    """The attempts with what is known of the job now: in the one that made it, else a new one."""
    for index, attempt in enumerate(attempts):
        same = attempt.get("job") in (None, job.id) and attempt["provider"] == job.provider
        if same and attempt.get("billed") == "maybe":
            return [*attempts[:index], attempt | _known(job), *attempts[index + 1 :]]
    if any(a.get("job") == job.id and a["provider"] == job.provider for a in attempts if job.id):
        return attempts
    return [*attempts, _attempt(job)]


def _attempt(job: RemoteJob) -> dict[str, Any]:
    return {
        "provider": job.provider,
        "endpoint": job.endpoint,
        "error": "interrupted",
        "message": "The request ended before its result came.",
        **_known(job),
    }


def _known(job: RemoteJob) -> dict[str, Any]:
    told = {"job": job.id or None, "billed": job.billed, "cost_micros": job.cost_micros}
    return {name: value for name, value in told.items() if value is not None}
