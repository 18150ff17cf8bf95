"""The work of one background job: planned anew, upscaled in its turn, its result stored."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.receipt import Progress
from upscale.errors import ModelDisabled, OutputFault, RecordsFault, SpoolFull
from upscale.server.endings import Endings, cancelled
from upscale.server.job import Accepted, Job
from upscale.server.job_folders import on_disk
from upscale.server.records.queue import JobQueue
from upscale.server.records.requests import RequestLog
from upscale.server.remote_plan import RemoteWish
from upscale.server.remote_run import Earlier, about, told_at_the_end, told_of
from upscale.server.replies import Executed, metadata, result
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
    """Results that lie in the job's folder, one for all or one for each; `about` is the metadata of
    the reply, `facts` go into the record.
    """

    files: tuple[Path, ...]
    size: tuple[int, int]
    format: str
    about: dict[str, Any]
    facts: dict[str, Any]


async def make(ours: Services, job: Job, source: Path, queue: JobQueue) -> Made:
    """Wait for the job's turn and make its result. Raises what the upscale raises."""
    accepted = Accepted.from_json(job.row.order or "")
    if not await asyncio.to_thread(source.exists):
        raise OutputFault("The picture of this job is not on the server's disk any more.")
    if accepted.remote is not None:
        return await _remotely(ours, job, accepted.remote, source, queue)
    return await _here(ours, job, accepted, source, queue)


async def _here(
    ours: Services, job: Job, accepted: Accepted, source: Path, queue: JobQueue
) -> Made:
    row = job.row
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
    async with _room(ours.spool, most_bytes(plan)):
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
    executed, cost = Executed.here(plan.network.name), row.quote_micros or 0
    return Made(
        (target,),
        (plan.width, plan.height),
        plan.output.format,
        metadata(accepted.model, executed, cost, receipt.to_json()),
        {"executed_model": executed.model, "cost_micros": cost},
    )


async def _remotely(
    ours: Services, job: Job, wish: RemoteWish, source: Path, queue: JobQueue
) -> Made:
    """By a provider; what an earlier process has paid for is gone on with."""
    row, folder = job.row, source.parent
    earlier = Earlier.of(row)
    if earlier.owed.jobs:  # paid for: it was priced then
        wish = replace(wish, priced=False)
    asked: list[tuple[str, int]] = []
    try:
        plan = await ours.remote.decide(wish, source, await ours.pool.probe(source), folder, asked)
    finally:
        job.facts = told_of(asked)
    feed = ours.recorder.feeds.open(row.id)

    async def keep(fields: dict[str, Any], must: bool) -> None:
        change = ours.recorder.log.change
        kept = await whole(lambda: change(row.id, durable=must, early=must, **fields))
        if must and not kept:
            raise cancelled()

    async with _room(ours.spool, plan.most_bytes):
        if not await whole(lambda: queue.begin(row.id)):
            job.leave()  # it has ended, or is another process's, whose call must not be ended here
            raise asyncio.CancelledError
        job.begun = True
        feed.tell("state", {"status": "processing", "attempt": row.attempts + 1})
        run = ours.remote.run(
            row.id,
            plan,
            folder,
            seconds=ours.settings.provider_seconds,
            keep=keep,
            progress=feed.report,
            leaves=lambda: job.left,
            earlier=earlier,
        )
        try:
            images = await run.results()
        finally:
            job.facts = run.facts
    returned = images[0].returned
    return Made(
        tuple(image.path for image in images),
        (returned.width, returned.height),
        wish.output_format,
        about(plan, run, images),
        told_at_the_end(run, images),
    )


async def store(ours: Services, job: Job, made: Made, endings: Endings) -> None:
    """Put the results behind links, and end the job well. Raises OutputFault, MediaFull."""
    accepted = Accepted.from_json(job.row.order or "")
    names = []
    for file in made.files:
        with storing("the result"):
            await asyncio.to_thread(on_disk, file)  # before its record says so
        names.append(await asyncio.to_thread(ours.media.adopt, file, made.format, of_job=True))
    urls = None if accepted.inline else [f"{accepted.base_url}/media/{name}" for name in names]
    body = json.dumps(result(made.size, accepted.n, urls, made.about))
    ended = await endings.end(
        job.row,
        "completed",
        reply=body,
        media=names,
        response_size_bytes=len(body),
        **made.facts,
    )
    if not ended:  # cancelled in the last moment
        for name in names:
            await asyncio.to_thread(ours.media.discard, name)


async def _plan(ours: Services, accepted: Accepted, source: Path) -> tuple[Plan, float]:
    """The Plan, made anew: device, network and settings may have changed since."""
    network = await asyncio.to_thread(ours.store.find, accepted.network)
    if network is None:
        raise ModelDisabled(f"The network '{accepted.network}' is not installed any more.")
    if network.blend_path is not None:
        network = replace(network, blend=accepted.blend)
    probe = await ours.pool.probe(source)
    assert accepted.wish is not None
    planned = await ours.engine.plan(probe, network, accepted.wish)
    corrected = await expected(planned, ours.speeds)
    return corrected.plan, corrected.factor


@contextlib.asynccontextmanager
async def _room(spool: Spool, size: int) -> AsyncIterator[None]:
    """Wait until the requests at work leave that many bytes of the spool, and take them. Raises
    what says that they never will.
    """
    while True:
        try:
            spool.check(size, parked=True)
            break
        except SpoolFull:
            await asyncio.sleep(_ROOM_SECONDS)
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
