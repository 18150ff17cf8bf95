"""Providers with jobs: created, looked up where the reply was lost, polled, collected, stopped.
Knows nothing of any one provider.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from upscale import logs
from upscale.errors import OutputFault
from upscale.providers import answers
from upscale.providers.adapter import Adapter, quietly
from upscale.providers.outcome import Billed, Failure, Kind
from upscale.providers.site import bare
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import Reply

log = logs.get("providers")

_LOOK_UPS = (0.5, 2.0, 5.0)
_FIRST_POLL, _POLL_GROWTH, _LONGEST_POLL = 0.5, 1.5, 5.0
_LAST_LOOK = 2.0
_GRACE_SECONDS = 10.0
_CANCEL_SECONDS = 5.0
_MOST_PAGES = 50


@dataclass(frozen=True)
class Seen:
    """What a poll showed. `done` ends the waiting; `data` is the provider's own words."""

    done: bool
    state: str
    fraction: float | None = None
    wait: float | None = None
    data: dict[str, Any] = field(default_factory=dict)


def has_input(job: RemoteJob, url: object) -> bool:
    """Whether the URL of a listed job's input is what was uploaded for `job`."""
    return bool(job.mark) and bare(url) == job.mark


class QueueAdapter(Adapter):
    """A provider with jobs: create, poll, collect."""

    async def run(self, task: RemoteTask) -> RemoteResult:
        """Create, wait, collect."""
        noted: list[RemoteJob] = []
        creating = asyncio.ensure_future(self._create(task, noted))
        try:
            job = await asyncio.shield(creating)
        except asyncio.CancelledError:
            if not noted:  # nothing was paid for yet
                creating.cancel()
            await quietly(self._leave(task, creating))
            raise
        return await self.resume(task, job)

    async def resume(self, task: RemoteTask, job: RemoteJob) -> RemoteResult:
        """Wait for it and fetch its result."""
        if not job.id:
            found = await self._look(task, job, (0.0, *_LOOK_UPS))
            if found is None:
                raise Failure(
                    Kind.IN_DOUBT, "no job is known there for this request.", billed="maybe"
                )
            job = found
            await task.note(job)
        began = self.clock.now()
        try:
            async with self.in_time(task, "maybe"):
                seen = await self._wait(task, job)
                result = await self.collect(task, job, seen)
        except asyncio.CancelledError:
            if not task.leaves():
                await quietly(self._stop(task, job))
            raise
        except OutputFault:
            await task.note(job.now("done", billed="yes"))
            raise
        except Failure as failure:
            failure.job = failure.job or job.id
            if failure.kind is Kind.TOO_LATE:
                failure.billed, failure.cost_micros = await self._stop(task, job)
            else:
                known = {"billed": failure.billed, "cost_micros": failure.cost_micros}
                bad = failure.kind is Kind.BAD_RESULT
                await task.note(job.now("done" if bad else "failed", **known))
            raise
        await task.note(result.job)
        log.info(
            "remote job done",
            extra=logs.fields(
                provider=self.provider,
                endpoint=job.endpoint,
                job=job.id,
                seconds=round(self.clock.now() - began, 2),
            ),
        )
        return result

    @abstractmethod
    async def submit(self, task: RemoteTask) -> tuple[RemoteJob, Reply]:
        """Upload and create: the job as it was noted, and the reply."""

    @abstractmethod
    def opened(self, job: RemoteJob, reply: Reply) -> RemoteJob:
        """The job, running, as the reply to its create tells it."""

    def first_wait(self, job: RemoteJob) -> float | None:
        """Seconds before the first poll, where the provider tells how long it will take."""
        return None

    @abstractmethod
    async def poll(self, job: RemoteJob) -> Seen | None:
        """One look at the job; None where it could not be had."""

    @abstractmethod
    async def collect(self, task: RemoteTask, job: RemoteJob, seen: Seen) -> RemoteResult:
        """Fetch the result of a job that ended. Raises Failure where it failed."""

    @abstractmethod
    async def bill(self, job: RemoteJob, seen: Seen) -> tuple[Billed, int | None]:
        """Whether a job that was to be stopped is billed, and what it cost where that is known."""

    async def status(self, url: str) -> tuple[str, dict[str, Any]] | None:
        """What a provider says of a job: its `status`, and all of it; None where it could not be
        had. Never worth a second try: the next poll comes soon.
        """
        try:
            reply = await self.transport.free("GET", url, tries=1)
        except Failure:
            return None
        data = reply.json()
        status = data.get("status")
        return (status, data) if reply.good and isinstance(status, str) else None

    async def pages(
        self, url: str, following: Callable[[dict[str, Any]], str | None]
    ) -> AsyncIterator[dict[str, Any]]:
        """A provider's list of its jobs, page by page; `following` tells the URL of the next one.
        Raises Failure where a page cannot be had, or there is no end of them: what is not found
        then may be there.
        """
        for _ in range(_MOST_PAGES):
            reply = await self.transport.free("GET", url)
            if not reply.good:
                raise Failure(Kind.BROKEN, f"it did not list its jobs (HTTP {reply.status}).")
            data = reply.json()
            yield data
            then = following(data)
            if then is None:
                return
            url = then
        raise Failure(Kind.BROKEN, "its list of jobs has no end.")

    def settled(self, failure: Failure) -> bool:
        """As usual; where the job can be asked for, not before it was."""
        return super().settled(failure) and failure.http not in answers.FAILED

    async def _create(self, task: RemoteTask, noted: list[RemoteJob]) -> RemoteJob:
        async def note(job: RemoteJob) -> None:
            noted[:] = [job]
            await task.note(job)

        try:
            job, reply = await self.submit(replace(task, note=note))
        except Failure as failure:
            failed = failure.billed == "no" and failure.http in answers.FAILED
            if not noted or not (failed or failure.kind is Kind.IN_DOUBT):
                raise
            # A 500 is the provider's own word; what stands in between knows less.
            pauses = _LOOK_UPS[:1] if failed and failure.http == 500 else _LOOK_UPS
            found = await self._look(task, noted[0], pauses)
            if found is None:
                if failed:  # else its job may come to be listed yet
                    await task.note(noted[0].now("unsent", billed="no"))
                raise
            await task.note(found)
            return found
        identity = self.job_id(reply)
        if identity:
            job = self.opened(job, reply)
        else:
            found = await self._look(task, job)
            if found is None:
                raise Failure(Kind.IN_DOUBT, "its reply to the request broke off, or has no id.")
            job = found
        await task.note(job)
        return job

    async def _look(
        self, task: RemoteTask, job: RemoteJob, pauses: Sequence[float] = _LOOK_UPS
    ) -> RemoteJob | None:
        """Whether the job exists, asked a few times: it may not be listed at once. Raises Failure
        where nobody could be asked: that the job is not there is not known then.
        """
        asked = False
        for number, pause in enumerate(pauses):
            if number and self.clock.now() + pause > task.deadline:
                break
            await self.clock.sleep(pause)
            with contextlib.suppress(Failure, TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    found = await self.find(job)
                asked = True
                if found is not None:
                    return found
        if not asked:
            raise Failure(Kind.IN_DOUBT, "no reply came, and it could not be asked for the job.")
        return None

    async def _wait(self, task: RemoteTask, job: RemoteJob) -> Seen:
        pause = _FIRST_POLL
        ask = self.first_wait(job)
        while True:
            rest = task.deadline - self.clock.now()
            if rest <= 0:
                raise Failure(Kind.TOO_LATE, "the job was not done in time.")
            await self.clock.sleep(min(self.clock.spread(ask if ask is not None else pause), rest))
            seen = await self.poll(job)
            pause = min(_LONGEST_POLL, pause * _POLL_GROWTH)
            if seen is None:
                continue
            ask = seen.wait
            if seen.done:
                return seen
            task.progress(seen.fraction, seen.state)

    async def _leave(self, task: RemoteTask, creating: asyncio.Task[RemoteJob]) -> None:
        """The caller went away during the create: what it made is stopped when it is known, unless
        somebody comes back for it.
        """
        done, _ = await asyncio.wait({creating}, timeout=_GRACE_SECONDS)
        if not done:
            creating.cancel()
            return
        if creating.cancelled() or creating.exception() is not None:
            return
        if not task.leaves():
            await self._stop(task, creating.result())

    async def abandon(self, job: RemoteJob) -> RemoteJob:
        """Find it where only its mark is known, then as with a caller that goes away."""
        if not job.id:
            found = await self.find(job)
            if found is None:
                return job
            job = found
        with contextlib.suppress(Failure):
            seen = await self.poll(job)
            if seen is not None and seen.done:  # there is nothing left to stop
                billed, cost = await self.bill(job, seen)
                return job.now("done", billed=billed, cost_micros=cost)
        billed, cost = await self._ended(job)
        return job.now("cancelled", billed=billed, cost_micros=cost)

    async def _stop(self, task: RemoteTask, job: RemoteJob) -> tuple[Billed, int | None]:
        """Cancel once, look once more, note what it cost."""
        billed, cost = await self._ended(job)
        await task.note(job.now("cancelled", billed=billed, cost_micros=cost))
        return billed, cost

    async def _ended(self, job: RemoteJob) -> tuple[Billed, int | None]:
        """What a job cost that was asked to stop."""
        billed: Billed = "maybe"
        cost: int | None = None
        # Whoever waits for the end of it does not wait for a provider that hangs.
        with contextlib.suppress(Failure, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self.cancel(job)
        with contextlib.suppress(Failure, TimeoutError):
            async with asyncio.timeout(_GRACE_SECONDS):
                await self.clock.sleep(_LAST_LOOK)
                seen = await self.poll(job)
                if seen is not None and seen.done:
                    billed, cost = await self.bill(job, seen)
        return billed, cost
