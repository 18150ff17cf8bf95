"""The work of one background job: planned anew, upscaled in its turn, its result stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.receipt import Progress, Receipt
from upscale.errors import ModelDisabled, OutputFault, RecordsFault, SpoolFull
from upscale.server.endings import Endings
from upscale.server.job import Accepted, Job
from upscale.server.job_folders import on_disk
from upscale.server.records.queue import JobQueue
from upscale.server.records.requests import RequestLog
from upscale.server.replies import metadata, result
from upscale.server.spool import Spool, storing
from upscale.server.threads import whole
from upscale.server.work import Turn, expected, most_bytes, run

if TYPE_CHECKING:
    from upscale.server.services import Services

# How often progress is written down; a job that somebody else has ended is noticed then.
_NOTE_SECONDS = 2.0
# How often it is looked for room in the spool.
_ROOM_SECONDS = 1.0


@dataclass(frozen=True)
class Made:
    """A result that lies in the job's folder."""

    file: Path
    plan: Plan
    receipt: Receipt


async def make(ours: Services, job: Job, source: Path, queue: JobQueue) -> Made:
    """Wait for the job's turn and make its result. Raises what the upscale raises."""
    row, accepted = job.row, Accepted.from_json(job.row.order or "")
    if not await asyncio.to_thread(source.exists):
        raise OutputFault("The picture of this job is not on the server's disk any more.")
    plan, factor = await _plan(ours, accepted, source)
    feed = ours.recorder.feeds.open(row.id)
    notes = _Notes(job, queue, ours.recorder.log)

    def advance(progress: Progress) -> None:
        if not job.begun:
            job.begun = True
            feed.tell("state", {"status": "processing", "attempt": row.attempts + 1})
        feed.advance(progress, plan)
        notes.take(feed.progress)

    target = source.with_name("result")
    await _room_for(ours.spool, most_bytes(plan))
    with _counted(ours.spool, most_bytes(plan)):
        try:
            receipt = await run(
                ours.engine,
                ours.speeds,
                JobOrder(row.id, source, target, plan),
                Turn(row.caller, row.priority, patient=True),
                factor,
                advance,
            )
        finally:
            await notes.close()
    return Made(target, plan, receipt)


async def store(ours: Services, job: Job, made: Made, endings: Endings) -> None:
    """Put the result behind its link, and end the job well. Raises OutputFault, MediaFull."""
    row, plan, accepted = job.row, made.plan, Accepted.from_json(job.row.order or "")
    with storing("the result"):
        await asyncio.to_thread(on_disk, made.file)  # before its record says so
    name = await asyncio.to_thread(ours.media.adopt, made.file, plan.output.format, of_job=True)
    cost = row.quote_micros or 0
    about = metadata(accepted.model, plan, cost, made.receipt)
    url = None if accepted.inline else f"{accepted.base_url}/media/{name}"
    body = json.dumps(result(plan, accepted.n, url, about))
    ended = await endings.end(
        row,
        "completed",
        executed_model=f"local/{plan.network.name}",
        cost_micros=cost,
        reply=body,
        media=[name],
        response_size_bytes=len(body),
    )
    if not ended:  # cancelled in the last moment
        await asyncio.to_thread(ours.media.discard, name)


async def _plan(ours: Services, accepted: Accepted, source: Path) -> tuple[Plan, float]:
    """The Plan, made anew: device, network and settings may have changed since."""
    network = await asyncio.to_thread(ours.store.find, accepted.network)
    if network is None:
        raise ModelDisabled(f"The network '{accepted.network}' is not installed any more.")
    if network.blend_path is not None:
        network = replace(network, blend=accepted.blend)
    probe = await ours.pool.probe(source)
    planned = await ours.engine.plan(probe, network, accepted.wish)
    corrected = await expected(planned, ours.speeds)
    return corrected.plan, corrected.factor


async def _room_for(spool: Spool, size: int) -> None:
    """Wait until the requests at work leave that many bytes of the spool. Raises what says that
    they never will.
    """
    while True:
        try:
            return spool.check(size, parked=True)
        except SpoolFull:
            await asyncio.sleep(_ROOM_SECONDS)


@contextlib.contextmanager
def _counted(spool: Spool, size: int) -> Iterator[None]:
    spool.count(size, ahead=size)
    try:
        yield
    finally:
        spool.count(-size, ahead=-size)


class _Notes:
    """Writes down that a job is begun, and its progress now and then; hears that it was ended by
    another process.
    """

    def __init__(self, job: Job, queue: JobQueue, log: RequestLog) -> None:
        self._job, self._queue, self._log = job, queue, log
        self._begun = False
        self._next = 0.0
        self._task: asyncio.Future[None] | None = None

    def take(self, progress: dict[str, Any] | None) -> None:
        """Perhaps write `progress`."""
        now = asyncio.get_running_loop().time()
        if progress is not None and now >= self._next and (self._task is None or self._task.done()):
            self._next = now + _NOTE_SECONDS
            self._task = asyncio.ensure_future(self._write(json.dumps(progress)))

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _write(self, text: str) -> None:
        request_id = self._job.row.id
        with contextlib.suppress(RecordsFault):  # logged; the next will tell
            if not self._begun:
                self._begun = at_work = await whole(lambda: self._queue.begin(request_id))
            else:
                at_work = await whole(lambda: self._log.change(request_id, progress=text))
            if not at_work:
                self._job.leave()
