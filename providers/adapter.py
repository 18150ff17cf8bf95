"""What every adapter does the same way: judging before sending, the paid call with its note before
and after, doubt, waiting, stopping. Knows nothing of any one provider.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, ClassVar

from upscale import logs
from upscale.errors import OutputFault
from upscale.models.quote import MICROS
from upscale.providers import mapping
from upscale.providers.body import Body
from upscale.providers.clock import Clock
from upscale.providers.outcome import Billed, Failure, Kind
from upscale.providers.site import host_of, plain_url
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import Reply, Transport

log = logs.get("providers")

_SHORT_WAIT = 10.0
_LOOK_UPS = (0.5, 2.0, 5.0)
_FIRST_POLL, _POLL_GROWTH, _LONGEST_POLL = 0.5, 1.5, 5.0
_LAST_LOOK = 2.0
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Seen:
    """What a poll showed. `done` ends the waiting; `data` is the provider's own words."""

    done: bool
    state: str
    fraction: float | None = None
    wait: float | None = None
    data: dict[str, Any] = field(default_factory=dict)


class Adapter(ABC):
    """One provider. `n` is emulated: a task is one result, several are several tasks."""

    provider: ClassVar[str]
    name: ClassVar[str]
    sends: ClassVar[int] = 3
    """How often a create is sent where the provider says that it did nothing."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.clock: Clock = transport.clock
        self.site = transport.site

    def fits(self, task: RemoteTask) -> str | None:
        """Why the task cannot be served, judged before anything is sent; None where it can."""
        return mapping.bars(task)

    async def estimate(self, task: RemoteTask) -> int | None:
        """What the provider says that the task will cost, in millionths of a dollar, free of
        charge and without the picture; None where it does not say.
        """
        return None

    @abstractmethod
    async def run(self, task: RemoteTask) -> RemoteResult:
        """Have it done. Raises Failure; where it is cancelled, the job is stopped first."""

    async def find(self, job: RemoteJob) -> RemoteJob | None:
        """The job of a paid call whose reply was lost, where the provider can be asked."""
        return None

    async def resume(self, task: RemoteTask, job: RemoteJob) -> RemoteResult:
        """Wait for a job whose id is known and fetch its result, as after a crash."""
        raise Failure(
            Kind.IN_DOUBT, "what became of the request cannot be asked.", job=job.id, billed="maybe"
        )

    async def cancel(self, job: RemoteJob) -> bool:
        """Ask to stop a job, once; whether the provider agreed."""
        return False

    async def aclose(self) -> None:
        """Close what is open."""
        await self.transport.aclose()

    # What adapters are made of.

    async def create(
        self,
        task: RemoteTask,
        url: str,
        body: Body,
        job: RemoteJob,
        *,
        headers: dict[str, str] | None = None,
        first_byte: float = 30.0,
        max_bytes: int = 4 << 20,
    ) -> Reply:
        """The paid call: noted, sent once, and again only where the provider did nothing. A reply
        that refuses becomes the Failure that it is.
        """
        if self.clock.now() >= task.deadline:
            raise Failure(Kind.TOO_LATE, "there was no time left to ask.", billed="no")
        await task.note(job)
        for attempt in range(self.sends):
            try:
                reply = await self.transport.paid(
                    url, body, headers=headers, first_byte=first_byte, max_bytes=max_bytes
                )
            except Failure as failure:
                if failure.billed == "no":
                    await task.note(job.now("unsent", billed="no"))
                raise
            task.trail.sent(_host(url))
            if reply.good or self.job_id(reply):
                return reply
            pause = self._idle(reply, attempt)
            left = task.deadline - self.clock.now()
            if pause is None or attempt == self.sends - 1 or pause > min(_SHORT_WAIT, left):
                break
            await self.clock.sleep(pause)
        refusal = self.refusal(reply)
        if refusal.billed == "no":
            await task.note(job.now("unsent", billed="no"))
        raise refusal

    def job_id(self, reply: Reply) -> str:
        """The id of the job that a reply to a create tells, in its body or its headers."""
        return ""

    def _idle(self, reply: Reply, attempt: int) -> float | None:
        """How long to wait after a reply that says that nothing was done; None for others."""
        if reply.status not in (425, 429, 503):
            return None
        asked = self.asked_wait(reply)
        if asked is not None:
            return max(0.05, asked)
        return None if reply.status == 503 else self.clock.spread(2.0**attempt)

    def asked_wait(self, reply: Reply) -> float | None:
        """Seconds that a reply asks to wait."""
        return reply.retry_after(self.clock.wall())

    def refusal(self, reply: Reply) -> Failure:
        """The Failure that a reply to a create is."""
        words = self.words(reply)
        kind = self.kind_of(reply)
        return Failure(
            kind,
            f"{words} (HTTP {reply.status})" if words else f"it answered HTTP {reply.status}.",
            http=reply.status,
            retry_after=self.asked_wait(reply),
        )

    def kind_of(self, reply: Reply) -> Kind:
        """What kind of failure a reply to a create is."""
        kinds = {401: Kind.KEY, 402: Kind.BALANCE, 403: Kind.KEY, 404: Kind.GONE}
        kinds |= {412: Kind.BALANCE, 425: Kind.BUSY, 429: Kind.BUSY}
        if reply.status in kinds:
            return kinds[reply.status]
        if reply.status >= 500 or reply.status in (408, 409) or 300 <= reply.status < 400:
            return Kind.BROKEN
        return Kind.INPUT

    def words(self, reply: Reply) -> str:
        """What a reply says, for people."""
        data = reply.json()
        for name in ("detail", "message", "error", "title"):
            value = data.get(name)
            if isinstance(value, dict):
                value = value.get("message")
            if isinstance(value, str) and value:
                return self.site.scrub(value)
        plain = "json" not in reply.headers.get("content-type", "")
        return self.site.scrub(reply.text.strip()) if plain and "<" not in reply.text[:200] else ""

    def micros(self, units: Decimal | None, price: Decimal | None) -> int | None:
        """A number of units at a price in USD, in millionths of a dollar."""
        if units is None or price is None:
            return None
        return round(units * price * MICROS)

    def job_of(self, task: RemoteTask, mark: str) -> RemoteJob:
        """The job of a task, before its paid call; `mark` is what it could be found by."""
        return RemoteJob(
            self.provider, mapping.endpoint(task), mark=mark, created=self.clock.wall()
        )


class BlockingAdapter(Adapter):
    """A provider whose reply to the create is the result: nothing to poll, to look up, to stop."""

    seconds: ClassVar[float] = 180.0

    async def ask(
        self,
        task: RemoteTask,
        url: str,
        body: Body,
        job: RemoteJob,
        *,
        headers: dict[str, str] | None = None,
        max_bytes: int = 4 << 20,
    ) -> Reply:
        """The paid call, up to its whole reply."""
        left = max(1.0, task.deadline - self.clock.now())
        task.progress(None, "running")
        try:
            reply = await self.create(
                task,
                url,
                body,
                job,
                headers=headers,
                first_byte=min(self.seconds, left),
                max_bytes=max_bytes,
            )
        except asyncio.CancelledError:
            await _quietly(task.note(job.now("cancelled", billed="maybe")))
            raise
        if reply.cut:
            raise Failure(Kind.IN_DOUBT, "its reply broke off.", http=reply.status)
        return reply

    def kind_of(self, reply: Reply) -> Kind:
        """As usual; a reply that something in between gave up waiting for leaves doubt."""
        return Kind.IN_DOUBT if reply.status == 504 else super().kind_of(reply)

    async def finish(self, task: RemoteTask, result: RemoteResult) -> RemoteResult:
        """Note that it is done."""
        await task.note(result.job)
        fields = logs.fields(
            provider=self.provider, endpoint=result.job.endpoint, job=result.job.id
        )
        log.info("remote job done", extra=fields)
        return result

    async def spoilt(self, task: RemoteTask, job: RemoteJob, failure: Failure) -> Failure:
        """Note that it was paid for and came to nothing."""
        failure.job = failure.job or job.id
        failure.cost_micros = failure.cost_micros or job.cost_micros
        known = {"billed": failure.billed, "cost_micros": failure.cost_micros}
        await task.note(job.now("done", **known))
        return failure


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
            await _quietly(self._abandon(task, creating))
            raise
        return await self.resume(task, job)

    async def resume(self, task: RemoteTask, job: RemoteJob) -> RemoteResult:
        """Wait for it and fetch its result."""
        if not job.id:
            found = await self.find(job)
            if found is None:
                raise Failure(
                    Kind.IN_DOUBT, "no job is known there for this request.", billed="maybe"
                )
            job = found
            await task.note(job)
        began = self.clock.now()
        try:
            seen = await self._wait(task, job)
            result = await self.collect(task, job, seen)
        except asyncio.CancelledError:
            await _quietly(self._stop(task, job))
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

    async def _create(self, task: RemoteTask, noted: list[RemoteJob]) -> RemoteJob:
        async def note(job: RemoteJob) -> None:
            noted[:] = [job]
            await task.note(job)

        try:
            job, reply = await self.submit(replace(task, note=note))
        except Failure as failure:
            unclear = failure.kind is Kind.IN_DOUBT or failure.http in (500, 502, 504)
            if not (unclear and noted):
                raise
            # A 500 is the provider's own word; what stands in between knows less.
            pauses = _LOOK_UPS[:1] if failure.http == 500 else _LOOK_UPS
            found = await self._look(task, noted[0], pauses)
            if found is None:
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
        """Whether the job exists, asked a few times: it may not be listed at once."""
        for pause in pauses:
            if self.clock.now() + pause > task.deadline:
                break
            await self.clock.sleep(pause)
            with contextlib.suppress(Failure):
                found = await self.find(job)
                if found is not None:
                    return found
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

    async def _abandon(self, task: RemoteTask, creating: asyncio.Task[RemoteJob]) -> None:
        """The caller went away during the create: what it made is stopped when it is known."""
        done, _ = await asyncio.wait({creating}, timeout=_GRACE_SECONDS)
        if not done:
            creating.cancel()
            return
        if creating.cancelled() or creating.exception() is not None:
            return
        await self._stop(task, creating.result())

    async def _stop(self, task: RemoteTask, job: RemoteJob) -> tuple[Billed, int | None]:
        """Cancel once, look once more, note what it cost."""
        billed: Billed = "maybe"
        cost: int | None = None
        with contextlib.suppress(Failure):
            await self.cancel(job)
        await self.clock.sleep(_LAST_LOOK)
        with contextlib.suppress(Failure):
            seen = await self.poll(job)
            if seen is not None and seen.done:
                billed, cost = await self.bill(job, seen)
        await task.note(job.now("cancelled", billed=billed, cost_micros=cost))
        return billed, cost


async def _quietly(work: Awaitable[object]) -> None:
    """Finish `work` although the task that waits for it is being cancelled, again perhaps."""
    running = asyncio.ensure_future(work)
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    if not running.cancelled() and running.exception() is not None:
        fault = type(running.exception()).__name__
        log.warning("a job could not be stopped", extra=logs.fields(error=fault))


def _host(url: str) -> str:
    parsed = plain_url(url)
    return host_of(parsed) if parsed is not None else ""
