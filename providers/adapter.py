"""What every adapter does the same way: judging before sending, the paid call with its note before
it is made, what refusals mean. Knows nothing of any one provider.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from typing import ClassVar

from upscale import logs
from upscale.providers import answers, mapping, numbers
from upscale.providers.body import Body
from upscale.providers.clock import Clock
from upscale.providers.outcome import Billed, Failure, Kind
from upscale.providers.site import host_of, plain_url
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import Reply, Transport

log = logs.get("providers")

_SHORT_WAIT = 10.0
LATE_SECONDS = 10.0
"""What was begun in time may end so much later."""


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

    async def abandon(self, job: RemoteJob) -> RemoteJob:
        """Stop a job whose caller is gone for good, and look once what it came to; as it was where
        that cannot be told. Raises Failure.
        """
        return job

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
        # Who gets the picture is known before it goes: a call that is cut has sent it all the same.
        known = list(task.trail.sent_to)
        task.trail.sent(host_in(url))
        for attempt in range(self.sends):
            try:
                reply = await self.transport.paid(
                    url,
                    body,
                    headers=headers,
                    first_byte=first_byte,
                    max_bytes=max_bytes,
                    within=max(0.0, task.deadline - self.clock.now()) + LATE_SECONDS,
                    handed_over=task.trail.opened,
                )
            except Failure as failure:
                if failure.billed == "no":
                    task.trail.sent_to[:] = known
                    await task.note(job.now("unsent", billed="no"))
                raise
            if reply.good or self.job_id(reply):
                return reply
            known = list(task.trail.sent_to)  # it answered, so it was sent
            pause = self._idle(reply, attempt)
            task.trail.open = pause is None
            left = task.deadline - self.clock.now()
            if pause is None or attempt == self.sends - 1 or pause > min(_SHORT_WAIT, left):
                break
            await self.clock.sleep(pause)
        refusal = self.refusal(reply)
        if self.settled(refusal):
            await task.note(job.now("unsent", billed="no"))
        raise refusal

    def settled(self, failure: Failure) -> bool:
        """Whether a failed create certainly made no job."""
        return failure.billed == "no"

    @contextlib.asynccontextmanager
    async def in_time(self, task: RemoteTask, billed: Billed) -> AsyncIterator[None]:
        """What is awaited within ends a little after the task's time, however slowly a provider
        trickles. Raises Failure (TOO_LATE) then.
        """
        left = max(0.0, task.deadline - self.clock.now())
        try:
            async with asyncio.timeout(left + LATE_SECONDS):
                yield
        except TimeoutError:
            raise Failure(Kind.TOO_LATE, "it was too slow to answer.", billed=billed) from None

    def job_id(self, reply: Reply) -> str:
        """The id of the job that a reply to a create tells, in its body or its headers."""
        return ""

    def _idle(self, reply: Reply, attempt: int) -> float | None:
        """How long to wait after a reply that says that nothing was done; None for others."""
        if reply.status not in answers.IDLE:
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

    def unready(self, reply: Reply, *, of_model: bool = False) -> Failure:
        """The Failure that a reply to a free call before the create is: nothing is in doubt yet,
        and a path that is gone is not the model, unless that was asked for.
        """
        failure = self.refusal(reply)
        if failure.kind is Kind.IN_DOUBT or (failure.kind is Kind.GONE and not of_model):
            failure.kind = Kind.BROKEN
        failure.billed = "no"
        return failure

    def kind_of(self, reply: Reply) -> Kind:
        """What kind of failure a reply to a create is."""
        return answers.kind_of(reply.status, self.is_own(reply))

    def is_own(self, reply: Reply) -> bool:
        """Whether a reply is in the provider's own words: what stands in between answers in its
        place with a page, or with nothing.
        """
        return bool(reply.json())

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
        return numbers.micros(units * price)

    def job_of(self, task: RemoteTask, mark: str) -> RemoteJob:
        """The job of a task, before its paid call; `mark` is what it could be found by."""
        return RemoteJob(
            self.provider, mapping.endpoint(task), mark=mark, created=self.clock.wall()
        )


async def quietly(work: Awaitable[object]) -> None:
    """Finish `work` although the task that waits for it is being cancelled, again perhaps."""
    running = asyncio.ensure_future(work)
    while not running.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({running})
    if not running.cancelled() and running.exception() is not None:
        fault = type(running.exception()).__name__
        log.warning("a job could not be stopped", extra=logs.fields(error=fault))


def host_in(url: str) -> str:
    """The host of a URL; '' where it has none."""
    parsed = plain_url(url)
    return host_of(parsed) if parsed is not None else ""
