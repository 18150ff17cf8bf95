"""Background jobs: accepted into the records, run in turn, and finished whatever happens meanwhile.

A job is a row of the records and a folder with its picture. What this process has claimed when it
dies is run again, once, by the next; what only waited is run as if nothing had been.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from upscale import logs
from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.plan import Request as PlanRequest
from upscale.engine.receipt import Progress
from upscale.errors import (
    Draining,
    JobCancelled,
    ModelDisabled,
    QueueFull,
    RecordsFault,
    ServerFault,
    SpoolFull,
    UpscaleError,
)
from upscale.server.job_folders import JobFolders, on_disk
from upscale.server.recording import Recorder, Recording, error_fields, status_of
from upscale.server.records.database import Database
from upscale.server.records.queue import JobQueue
from upscale.server.records.rows import Row
from upscale.server.replies import metadata, result
from upscale.server.running import Running
from upscale.server.shown import position_of, request_body
from upscale.server.spool import Spool, storing
from upscale.server.threads import asked, whole
from upscale.server.work import Turn, expected, most_bytes, run

if TYPE_CHECKING:
    from upscale.server.services import Services, UpscaleEngine
    from upscale.server.webhooks import Webhooks

log = logs.get("server")

# Jobs of ours in front of the device at once: one that runs and one that follows at once.
_AT_ONCE = 2
# And one of each key that has none there, so many at most: jobs of another key may have to wait for
# more than the device, for that key's requests in the foreground.
_BESIDE = 4
# How often it is looked for jobs that another process has accepted.
_LOOK_SECONDS = 2.0
# How old positions in the queue may be.
_POSITION_SECONDS = 0.2
# How often progress is written down; a job that somebody else has ended is noticed then.
_NOTE_SECONDS = 2.0
_MOST_RETRY_AFTER = 60


@dataclass(frozen=True)
class Accepted:
    """What a job needs to run, besides its picture: names in replies, the network, the wish."""

    model: str
    network: str
    blend: float
    wish: PlanRequest
    n: int
    inline: bool
    base_url: str

    def to_json(self) -> str:
        """As a record has it."""
        return json.dumps({**asdict(self), "wish": asdict(self.wish)}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Accepted:
        """The inverse of `to_json`."""
        data = json.loads(text)
        wish = {**data["wish"], "scale_factor": Decimal(data["wish"]["scale_factor"])}
        return cls(**{**data, "wish": PlanRequest(**wish)})


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
        self._queue: JobQueue | None = None
        self._news = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._callers: dict[str, str] = {}
        self._closing = False
        self._claiming: asyncio.Task[Any] | None = None
        self._positions: list[str] = []
        self._positions_until = 0.0

    def open(self) -> None:
        """Take over what earlier processes have left. Blocks. Raises RecordsFault, OutputFault."""
        self._queue = JobQueue(self._database, self._folders.open())
        found = self._queue.recover()
        for name in ("cancelled", "requeued", "failed"):
            ids = getattr(found, name)
            if ids:
                log.warning("left by a server that died", extra=logs.fields(**{name: len(ids)}))
        # A server beside this one may be accepting a job: its folder is there after its record, and
        # before that says that it is a job's.
        folders = self._folders.found()
        unfinished = self._queue.unfinished() + self._queue.unfinished(background=False)
        waiting = {row.id for row in unfinished}
        for request_id in folders:
            if request_id in waiting:
                self._folders.hold(request_id)
            else:
                self._folders.forget(request_id)

    async def accept(self, record: Recording, work: Accepted, source: Path) -> Row:
        """Make a job of a request; its picture is moved into the job's folder. When this returns,
        nothing but a cancellation keeps it from being done.

        Raises QueueFull where too many wait, and what storing raises.
        """
        waiting = len(self._folders)
        if waiting >= self._limit:
            wait = await whole(self._jobs.expected_seconds)
            raise QueueFull(
                f"{waiting} background jobs are waiting, about {wait:.0f} s of work. "
                "Try again later.",
                retry_after=min(_MOST_RETRY_AFTER, round(wait / waiting) + 1),
            )
        self._folders.reserve(record.id)
        try:
            await whole(lambda: self._folders.keep(record.id, source))
            self._folders.hold(record.id)
            change = asyncio.ensure_future(
                record.change(
                    durable=True,
                    background=True,
                    order=work.to_json(),
                    source=self._folders.path(record.id).name,
                    place=self._jobs.place,
                    **self._webhooks.fields,
                )
            )
            try:
                await asyncio.shield(change)
            except asyncio.CancelledError:
                # Whoever has gone away may ask again, and finds what became a job all the same.
                await asyncio.wait((change,))
                if change.exception() is not None:
                    raise
                record.hand_over()
                self._news.set()
                raise
        except BaseException:
            if not record.handed_over:
                await asyncio.to_thread(self._folders.forget, record.id)
            raise
        record.hand_over()
        self._news.set()
        row = await whole(lambda: self._recorder.log.get(record.id))
        if row is None:
            raise ServerFault("The job's record is gone.")
        return row

    async def run_forever(self, ours: Services) -> None:
        """Run jobs as they come until cancelled."""
        self._claiming = asyncio.current_task()
        while not self._closing:
            self._news.clear()
            try:
                while len(self._tasks) < _AT_ONCE + _BESIDE and not self._closing:
                    full = len(self._tasks) >= _AT_ONCE
                    row = await self._claim(set(self._callers.values()) if full else set())
                    if row is None:
                        break
                    task = asyncio.create_task(self._do(ours, row), name=row.id)
                    self._tasks[row.id] = task
                    self._callers[row.id] = row.caller
                    task.add_done_callback(self._done)
            except RecordsFault:  # logged; looked again soon
                pass
            except Exception:  # no reason to leave all others waiting for ever
                log.exception("background jobs")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._news.wait()

    async def close(self, engine: UpscaleEngine, seconds: float) -> None:
        """Take no more jobs and give the one that runs `seconds`; all others wait again, for the
        next process.
        """
        self._closing = True
        self._news.set()
        if self._claiming is not None:
            await asyncio.wait((self._claiming,))
        tasks = list(self._tasks.items())
        running = [task for request_id, task in tasks if engine.position(request_id) == 0]
        waiting = [task for _, task in tasks if task not in running]
        for task in waiting:
            task.cancel()
        if running:
            _, late = await asyncio.wait(running, timeout=seconds)
            for task in late:
                task.cancel()
        if tasks:
            await asyncio.wait([task for _, task in tasks])

    async def cancel(self, row: Row) -> bool:
        """Cancel a request, in the background or not, whether it waits, runs here, or runs in
        another process (which notices a job's end within seconds). False where it has ended.
        """
        # A repeat of what nobody has waited for any more tries once more.
        forgotten: dict[str, Any] = {} if row.background else {"idempotency_key": None}
        ended = await self._recorder.finish(
            row.id, "cancelled", key_id=row.key_id, **forgotten, **error_fields(_cancelled())
        )
        stopped = await self._running.cancel(row.id)
        if ended and row.webhook_url:
            self._webhooks.ended(row.id)
        if row.background and row.status == "pending" and ended and not stopped:
            await asyncio.to_thread(self._folders.forget, row.id)
        return ended

    @property
    def place(self) -> str:
        """The name of the folder in the records of its jobs."""
        return self._jobs.place

    async def positions(self) -> dict[str, int]:
        """How many jobs are before each one that waits, by id."""
        now = asyncio.get_running_loop().time()
        if now >= self._positions_until:  # however many ask for theirs
            self._positions_until = now + _POSITION_SECONDS
            self._positions = await whole(self._jobs.waiting)
        at_work = len(self._tasks)
        return {request_id: place + at_work for place, request_id in enumerate(self._positions)}

    async def _claim(self, without: set[str]) -> Row | None:
        """The next job, of other callers than those. One that is taken when the server begins to
        shut down waits again.
        """
        claim = asyncio.ensure_future(asked(lambda: self._jobs.claim(without)))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            await asyncio.wait((claim,))
            row = None if claim.exception() is not None else claim.result()
            if row is not None:
                await whole(lambda: self._jobs.requeue(row.id, counted=False))
            raise

    async def _wait_again(self, request_id: str) -> None:
        """Let a job that was claimed wait for another turn, as soon as the records take it."""
        while True:
            try:
                await whole(lambda: self._jobs.requeue(request_id, counted=False))
                return
            except RecordsFault:  # logged
                await asyncio.sleep(_LOOK_SECONDS)

    @property
    def _jobs(self) -> JobQueue:
        if self._queue is None:
            raise RuntimeError("the background is not open")
        return self._queue

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task.get_name()], self._callers[task.get_name()]
        self._webhooks.ended(task.get_name())
        self._news.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("background job", exc_info=task.exception())

    async def _do(self, ours: Services, row: Row) -> None:
        """One job, to its end."""
        work = asyncio.ensure_future(self._upscale(ours, row))
        error: UpscaleError
        try:
            with self._running.holding(row.id, work):
                await asyncio.wait((work,))
            if work.cancelled():
                raise _cancelled()
            work.result()
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait((work,))
            await whole(lambda: self._jobs.requeue(row.id, counted=False))
            raise
        except Draining:
            await whole(lambda: self._jobs.requeue(row.id, counted=False))
            return
        except RecordsFault:  # logged; not the job's fault, and nothing was made
            await self._wait_again(row.id)
            return
        except UpscaleError as fault:
            error = fault
        except Exception:
            log.exception("unexpected failure", extra=logs.fields(request=row.id))
            error = ServerFault("Something unexpected went wrong. The server's log has it.")
        else:
            await self._tidy(row.id)
            return
        await self._recorder.finish(
            row.id,
            status_of(error),
            key_id=row.key_id,
            model=row.model,
            executed_model=row.executed_model,
            **error_fields(error),
        )
        await self._tidy(row.id)

    async def _upscale(self, ours: Services, row: Row) -> None:
        feed = self._recorder.feeds.open(row.id)
        feed.tell("state", {"status": "processing", "attempt": row.attempts})
        accepted = Accepted.from_json(row.order or "")
        source = self._folders.path(row.id)
        target = source.with_name("result")
        plan, factor = await self._plan(ours, accepted, source)
        note = _Notes(self._recorder, row.id)

        def advance(progress: Progress) -> None:
            feed.advance(progress, plan)
            note.take(feed.progress)

        size = most_bytes(plan)
        await self._room_for(size)
        self._spool.count(size, ahead=size)
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
            self._spool.count(-size, ahead=-size)
            await note.close()
        with storing("the result"):
            await asyncio.to_thread(on_disk, target)  # before its record says so
        name = await asyncio.to_thread(ours.media.adopt, target, plan.output.format)
        cost = row.quote_micros or 0
        about = metadata(accepted.model, plan, cost, receipt)
        url = None if accepted.inline else f"{accepted.base_url}/media/{name}"
        body = json.dumps(result(plan, accepted.n, url, about))
        ended = await self._recorder.finish(
            row.id,
            "completed",
            key_id=row.key_id,
            model=row.model,
            executed_model=f"local/{plan.network.name}",
            cost_micros=cost,
            reply=body,
            media=[name],
            response_size_bytes=len(body),
        )
        if not ended:  # cancelled in the last moment
            await asyncio.to_thread(ours.media.discard, name)

    async def _room_for(self, size: int) -> None:
        """Wait until the requests at work leave that many bytes of the spool. Raises what says that
        they never will.
        """
        while True:
            try:
                return self._spool.check(size)
            except SpoolFull:
                await asyncio.sleep(1.0)

    async def _plan(self, ours: Services, accepted: Accepted, source: Path) -> tuple[Plan, float]:
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

    async def _tidy(self, request_id: str) -> None:
        """Remove a job's folder once its end is written: until then another process may have to
        run it again.
        """
        if not self._recorder.owes(request_id, lambda: self._folders.forget(request_id)):
            await asyncio.to_thread(self._folders.forget, request_id)


class _Notes:
    """Writes progress down now and then, and hears that the job was ended by another process."""

    def __init__(self, recorder: Recorder, request_id: str) -> None:
        self._recorder, self._id = recorder, request_id
        self._next = 0.0
        self._owner = asyncio.current_task()
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
        with contextlib.suppress(RecordsFault):  # logged; the next will tell
            at_work = await whole(lambda: self._recorder.log.change(self._id, progress=text))
            if not at_work and self._owner is not None:
                self._owner.cancel()


async def accepted_reply(ours: Services, row: Row) -> Response:
    """202 with the request object, and where to ask for it (RFC 7240, section 4.1)."""
    body = request_body(ours, row, await position_of(ours, row))
    headers = {"Location": f"/v1/requests/{row.id}", "Preference-Applied": "respond-async"}
    return JSONResponse(body, status_code=202, headers=headers)


def _cancelled() -> JobCancelled:
    return JobCancelled("The request was cancelled.")
