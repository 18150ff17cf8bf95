"""Background jobs: accepted into the records, run in turn, and finished whatever happens meanwhile.

A job is a row of the records and a folder with its picture. What this process has begun when it
dies is run again, once, by the next; what only waited is run as if nothing had been.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from upscale import logs
from upscale.engine.shares import refusal
from upscale.errors import (
    Draining,
    QueueFull,
    RecordsFault,
    ServerFault,
    SpoolFull,
    UpscaleError,
)
from upscale.server import audit
from upscale.server.endings import Endings, cancelled
from upscale.server.job import Accepted, Job
from upscale.server.job_folders import JobFolders
from upscale.server.making import make, store
from upscale.server.recording import Recorder, Recording, error_fields, status_of
from upscale.server.records.database import Database
from upscale.server.records.queue import JobQueue, is_remote
from upscale.server.records.recovery import recover
from upscale.server.records.rows import Row
from upscale.server.running import Running
from upscale.server.shown import position_of, request_body
from upscale.server.spool import Spool
from upscale.server.strays import Strays
from upscale.server.threads import asked, whole
from upscale.server.uncut import uncut

if TYPE_CHECKING:
    from upscale.server.services import Services
    from upscale.server.webhooks import Webhooks

log = logs.get("server")

# Jobs of ours in front of the device at once: one that runs and one that follows at once.
_AT_ONCE = 2
# And one of each key that has none there, so many at most: jobs of another key may have to wait for
# more than the device, for that key's requests in the foreground.
_BESIDE = 4
# Jobs of ours at remote providers at once; they wait for no device, and for none of the others.
_REMOTE_AT_ONCE = 8
# How often it is looked for what other processes, and the operator, have done.
_LOOK_SECONDS = 2.0
# How old positions in the queue may be.
_POSITION_SECONDS = 0.2


class Background:
    """The jobs whose pictures lie in `folder`. Belongs to the event loop."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        recorder: Recorder,
        running: Running,
        spool: Spool,
        limit: int,
        webhooks: Webhooks,
    ) -> None:
        self._folders = JobFolders(folder, spool)
        self._database, self._recorder = database, recorder
        self._webhooks = webhooks
        self._running, self._spool, self._limit = running, spool, limit
        self._endings = Endings(recorder, running, webhooks, self._folders)
        self._queue: JobQueue | None = None
        self._news = asyncio.Event()
        self._taken: dict[str, Job] = {}
        self._closing = False
        self._claiming: asyncio.Task[Any] | None = None
        self._positions: dict[str, int] = {}
        self._positions_until = 0.0

    def open(self) -> None:
        """Take over what earlier processes have left. Blocks. Raises RecordsFault, OutputFault."""
        self._queue = JobQueue(self._database, self._folders.open())
        found = recover(self._database, self._queue.place)
        for request_id in (*found.cancelled, *found.failed):
            if (row := self._recorder.log.get(request_id)) is not None:
                audit.tell(row)
        for name in ("cancelled", "requeued", "failed"):
            ids = getattr(found, name)
            if ids:
                log.warning("left by a server that died", extra=logs.fields(**{name: len(ids)}))
        # A server beside this one may be accepting a job: its folder is there after its record, and
        # before that says that it is a job's.
        folders = self._folders.found()
        unfinished = self._queue.unfinished() + self._queue.unfinished(background=False)
        callers = {row.id: row.caller for row in unfinished}
        for request_id in folders:
            if request_id in callers:
                self._folders.hold(request_id, callers[request_id])
            else:
                self._folders.forget(request_id)

    async def accept(self, record: Recording, work: Accepted, source: Path) -> Row:
        """Make a job of a request; its picture is moved into the job's folder. When this returns,
        nothing but a cancellation keeps it from being done.

        Raises QueueFull and SpoolFull where too many wait, or too large ones, and what storing
        raises.
        """
        size = (await asyncio.to_thread(source.stat)).st_size
        await self._check_room(record.share, size)
        self._folders.reserve(record.id, record.share, size)
        fields = {"order": work.to_json(), "source": self._folders.path(record.id).name}
        fields |= self._webhooks.fields
        try:
            await whole(lambda: self._folders.keep(record.id, source))
            row, cut = await uncut(whole(lambda: self._jobs.add(record.id, **fields)))
            if row is None:
                raise cancelled()
        except BaseException:
            await asyncio.to_thread(self._folders.forget, record.id)
            raise
        record.hand_over()
        self._news.set()
        if cut:  # whoever has gone away may ask again, and finds what became a job all the same
            raise asyncio.CancelledError
        return row

    async def run_forever(self, ours: Services) -> None:
        """Run jobs as they come until cancelled."""
        self._claiming = asyncio.current_task()
        strays = Strays(self._database, self._jobs, self._recorder, self._endings, self._folders)
        look_at = 0.0
        while not self._closing:
            self._news.clear()
            try:
                if (now := asyncio.get_running_loop().time()) >= look_at:
                    look_at = now + _LOOK_SECONDS
                    await strays.look()
                await self._take_some(ours)
            except RecordsFault:  # logged; looked again soon
                pass
            except Exception:  # no reason to leave all others waiting for ever
                log.exception("background jobs")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()

    async def close(self, seconds: float) -> None:
        """Take no more jobs and give those that are begun `seconds`; all others wait again, for the
        next process. A result that is there is stored in any case.
        """
        self._closing = True
        self._news.set()
        if self._claiming is not None:
            await asyncio.wait((self._claiming,))
        jobs = list(self._taken.values())
        for job in jobs:
            if not job.begun:
                job.leave()
        begun = [job.task for job in jobs if job.begun]
        if begun:
            await asyncio.wait(begun, timeout=seconds)
        for job in jobs:
            if not job.made and not job.work.done():
                job.leave()
        if jobs:
            await asyncio.wait([job.task for job in jobs])

    async def cancel(self, row: Row) -> bool:
        """Cancel a request; see `Endings.cancel`."""
        return await self._endings.cancel(row)

    @property
    def place(self) -> str:
        """The name of the folder in the records of its jobs."""
        return self._jobs.place

    def has_taken(self, request_id: str) -> bool:
        """Whether a job stands in front of the device, or is at work, in this process."""
        return request_id in self._taken

    async def position(self, row: Row) -> int:
        """How many jobs run before one that waits and was not taken here."""
        if row.position is not None:  # a server beside this one has taken it
            return row.position
        now = asyncio.get_running_loop().time()
        # However many ask for theirs; but one that came just now is not known yet.
        if now >= self._positions_until or row.id not in self._positions:
            self._positions_until = now + _POSITION_SECONDS
            lines = await asked(self._jobs.lines)
            self._positions = {each: place for line in lines for place, each in enumerate(line)}
        # One that waits for nobody is being taken in this moment.
        return self._positions.get(row.id, 0) + len(self._at_work(is_remote(row)))

    @property
    def _jobs(self) -> JobQueue:
        if self._queue is None:
            raise RuntimeError("the background is not open")
        return self._queue

    async def _check_room(self, caller: str, size: int) -> None:
        """Raise what stands against one job more, with a picture of `size` bytes."""
        mine, all = self._folders.held_by(caller), self._folders.held_by()
        too_many = refusal(mine.jobs, all.jobs, self._limit)
        # As `refusal` gives others a third more, all together fill what is meant for them.
        too_large = refusal(mine.bytes, all.bytes, self._spool.parking * 3 // 4, size)
        if too_many is None and too_large is None:
            return
        wait = await asked(self._jobs.expected_seconds)
        about = f"{all.jobs} background jobs are waiting, about {wait:.0f} s of work"
        retry_after = round(wait / max(1, all.jobs)) + 1
        if too_many is not None:
            raise QueueFull(f"{about}; {too_many}. Try again later.", retry_after=retry_after)
        raise SpoolFull(
            f"{about}, with pictures of {all.bytes:,} bytes; {too_large} bytes. Try again later.",
            retry_after=retry_after,
        )

    async def _take_some(self, ours: Services) -> None:
        """Take jobs while there is room for them in front of the device, and at providers."""
        for remote, room in ((False, _AT_ONCE + _BESIDE), (True, _REMOTE_AT_ONCE)):
            while len(at_work := self._at_work(remote)) < room and not self._closing:
                callers = {job.row.caller for job in at_work}
                shared = remote or len(at_work) < _AT_ONCE
                row = await self._claim(set() if shared else callers, remote)
                if row is None:
                    break
                self._begin(ours, Job(row, remote))

    def _at_work(self, remote: bool) -> list[Job]:
        return [job for job in self._taken.values() if job.remote == remote]

    def _begin(self, ours: Services, job: Job) -> None:
        self._taken[job.row.id] = job
        job.work = asyncio.ensure_future(self._upscale(ours, job))
        job.task = asyncio.create_task(self._see_to(job), name=job.row.id)
        job.task.add_done_callback(self._done)

    async def _claim(self, without: set[str], remote: bool) -> Row | None:
        """The next job, of other callers than those. One that is taken when the server begins to
        shut down waits again.
        """
        ended = self._recorder.owed
        row, cut = await uncut(asked(lambda: self._jobs.claim(without, ended, remote=remote)))
        if cut:
            if row is not None:
                await whole(lambda: self._jobs.requeue(row.id))
            raise asyncio.CancelledError
        return row

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._taken[task.get_name()]
        self._news.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("background job", exc_info=task.exception())

    async def _upscale(self, ours: Services, job: Job) -> None:
        made = await make(ours, job, self._folders.path(job.row.id), self._jobs)
        job.made = True
        # Whoever cancels it now finds that it has ended, or has ended it himself.
        await uncut(store(ours, job, made, self._endings))

    async def _see_to(self, job: Job) -> None:
        """One job, until it has ended or waits again."""
        row = job.row
        with self._running.holding(row.id, job.work):
            await asyncio.wait((job.work,))
        fault = cancelled() if job.work.cancelled() else job.work.exception()
        # A fault of the records is not the job's, and nothing was made.
        if (job.work.cancelled() and job.left) or isinstance(fault, (Draining, RecordsFault)):
            await self._wait_again(row)
        elif fault is not None:
            error = fault
            if not isinstance(fault, UpscaleError):
                log.error("unexpected failure", exc_info=fault, extra=logs.fields(request=row.id))
                error = ServerFault("Something unexpected went wrong. The server's log has it.")
            assert isinstance(error, UpscaleError)
            await self._endings.end(row, status_of(error), **job.facts, **error_fields(error))

    async def _wait_again(self, row: Row) -> None:
        """Let a job that was taken wait for another turn, as soon as the records take it. At an
        orderly stop they are asked once: the next start sets it right.
        """
        while True:
            try:
                await whole(lambda: self._jobs.requeue(row.id))
                break
            except RecordsFault:  # logged
                if self._closing:
                    break
                await asyncio.sleep(_LOOK_SECONDS)
        self._recorder.feeds.leave(row.id)


async def accepted_reply(ours: Services, row: Row) -> Response:
    """202 with the request object, and where to ask for it (RFC 7240, section 4.1)."""
    position = None
    with contextlib.suppress(RecordsFault):  # what is accepted is accepted
        position = await position_of(ours, row)
    body = request_body(ours, row, position)
    headers = {"Location": f"/v1/requests/{row.id}", "Preference-Applied": "respond-async"}
    return JSONResponse(body, status_code=202, headers=headers)
