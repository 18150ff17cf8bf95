"""Providers whose reply to the paid call is the result: nothing to poll, to look up, to stop. Knows
nothing of any one provider.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from upscale import logs
from upscale.providers.adapter import Adapter, quietly
from upscale.providers.body import Body
from upscale.providers.outcome import Failure, Kind
from upscale.providers.task import RemoteJob, RemoteResult, RemoteTask
from upscale.providers.transport import Reply

log = logs.get("providers")


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
            ended = job.now("cancelled") if task.trail.open else job.now("unsent", billed="no")
            await quietly(task.note(ended))
            raise
        if reply.cut:
            raise Failure(Kind.IN_DOUBT, "its reply broke off.", http=reply.status)
        return reply

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
