"""The server's end of the device worker: a bounded queue in front of it, and its replacement.

Torch-free and asynchronous. Jobs run one at a time, those of different callers in turns; paths and
Plans go over the pipe, never pixels. A worker that dies is replaced and its Job is run again once;
one that decodes for too long is ended, and its Job with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from upscale import logs
from upscale.engine.device import DeviceProfile
from upscale.engine.order import JobOrder
from upscale.engine.pipe import WorkerGone, WorkerPipe
from upscale.engine.plan import NetworkRef, Plan, PlanLimits, Request, make_plan
from upscale.engine.receipt import Progress, Receipt
from upscale.engine.shares import refusal
from upscale.engine.turns import Turns
from upscale.engine.watch import DecodeWatch
from upscale.errors import (
    CheckpointError,
    Draining,
    QueueFull,
    ServerFault,
    UnreadableImage,
    WorkerDied,
)
from upscale.imaging.probe import Probe
from upscale.models.contract import Contract
from upscale.models.facts import Facts, FactsCache
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.weights.store import Network

log = logs.get("engine")

_ATTEMPTS = 2

OnProgress = Callable[[Progress], None]


class Engine:
    """One device, behind a queue. All methods belong to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = PlanLimits.of(settings)
        self._cache = FactsCache(settings.cache_folder / "networks")
        self._facts: dict[str, Facts] = {}
        self._worker: WorkerPipe | None = None
        self._turns = Turns()
        self._starting = asyncio.Lock()
        self._draining = self._closed = False
        self._measuring: dict[str, asyncio.Task[Facts]] = {}
        self._unusable: dict[str, CheckpointError] = {}

    @property
    def waiting(self) -> int:
        """Jobs in the queue, the running one included."""
        return len(self._turns)

    @property
    def backlog(self) -> float:
        """Expected work of all Jobs in the queue, in seconds."""
        return self._turns.seconds

    def position(self, id: str) -> int | None:
        """How many Jobs run before the Job `id`; 0: it runs; None: it is not in the queue."""
        return self._turns.position(id)

    @property
    def alive(self) -> bool:
        """Whether a worker process is there."""
        return self._worker is not None and self._worker.alive

    async def start(self) -> None:
        """Start the worker process; it goes on getting ready when this returns."""
        async with self._starting:
            if self._closed:
                raise Draining("The server is shutting down; try again in a minute.")
            if not self.alive:
                self._worker = await WorkerPipe.spawn(self._settings)

    async def close(self, drain_seconds: float = 0.0) -> None:
        """Take no more Jobs, give the accepted ones `drain_seconds`, then stop the worker."""
        self._draining = True
        if self.waiting:
            log.info("draining", extra=logs.fields(jobs=self.waiting, seconds=drain_seconds))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain_seconds):
                    while self.waiting:
                        await asyncio.sleep(0.05)
        async with self._starting:
            self._closed = True
            if self._worker is not None:
                await self._worker.stop()

    async def device(self) -> DeviceProfile:
        """The device, once the worker has looked at it; raises what kept it from starting."""
        return await (await self._ready_worker()).ready()

    async def facts(self, network: Network) -> Facts:
        """Contract and proofs; from the disk where known, else the worker measures now.

        Raises CheckpointError when the file cannot be used.
        """
        ref = NetworkRef.of(network)
        device = await self.device()
        known = self._facts.get(ref.key) or self._cache.load(ref.key)
        if known is None or device.key not in known.proofs:
            known = await self._measured(ref)
        self._facts[ref.key] = known
        return known

    async def contract(self, network: Network) -> Contract:
        """What the engine must know of `network`; see `facts`."""
        return (await self.facts(network)).contract

    async def plan(self, probe: Probe, network: Network, request: Request) -> Plan:
        """The Plan of a request; see `engine.plan.make_plan` for what it raises."""
        facts = await self.facts(network)
        ref = NetworkRef.of(network)
        return make_plan(probe, facts, ref, request, await self.device(), self._limits)

    async def run(
        self,
        job: JobOrder,
        progress: OnProgress | None = None,
        *,
        share: str = "",
        priority: int = 0,
        patient: bool = False,
    ) -> Receipt:
        """Wait for the Job's turn and run it; the result is at `job.target` afterwards.

        `share` says whose Job it is: shares take turns, with a part by `priority` (see `turns`).
        Raises QueueFull at once when too many wait, of this share or of all, unless `patient`;
        Draining at shutdown, WorkerDied after a second death, UnreadableImage where decoding takes
        too long or ends the process twice, and what the Job itself raises. Cancelling the caller
        cancels the Job within a tile.
        """
        if self._draining:
            raise Draining("The server is shutting down; try again in a minute.")
        why = refusal(self._turns.of(share), self.waiting, self._settings.queue_limit)
        if why is not None and not patient:
            wait = self.backlog
            raise QueueFull(
                f"{self.waiting} jobs are waiting, about {wait:.0f} s of work; {why}. "
                "Try again later.",
                retry_after=round(wait / self.waiting) + 1,
            )
        expected = job.plan.expected_seconds
        async with self._turns.turn(job.id, share=share, priority=priority, expected=expected):
            return await self._run(job, progress)

    async def _run(self, job: JobOrder, progress: OnProgress | None) -> Receipt:
        for attempt in range(1, _ATTEMPTS + 1):
            worker = await self._ready_worker()
            watch = DecodeWatch(worker.kill, self._settings.decode_timeout_seconds, progress)
            call = worker.call("run", on_progress=watch.hear, order=job.to_json())
            # Until the worker is done with it, even if the caller is not there any more.
            call.future.add_done_callback(watch.end)
            try:
                result = await asyncio.shield(call.future)
                return Receipt.from_json({**result, "attempts": attempt})
            except asyncio.CancelledError:
                worker.cancel(call.id)
                call.future.add_done_callback(lambda future: _forget(future, job))
                raise
            except WorkerGone as gone:
                # What it left half-written has no other owner.
                job.scratch_path.unlink(missing_ok=True)
                log.error(
                    "worker died",
                    extra=logs.fields(
                        job=job.id, attempt=attempt, exit=gone.code, stage=watch.stage or "queued"
                    ),
                )
                if watch.expired:
                    raise watch.refusal() from None
        if watch.stage == "decode":
            raise UnreadableImage(
                "The process that decodes the image file died of it twice: the file is broken, or "
                "needs more memory than there is."
            )
        raise WorkerDied(
            "The worker process died twice on this job (often: out of memory). "
            "It was not tried a third time."
        )

    async def _measured(self, ref: NetworkRef) -> Facts:
        """What the worker measures; once for all who ask meanwhile, and never again for a file
        that cannot be used. Both are bounded by the networks installed."""
        if ref.key in self._unusable:
            raise self._unusable[ref.key]
        if ref.key not in self._measuring:
            self._measuring[ref.key] = asyncio.create_task(self._measure(ref))
        task = self._measuring[ref.key]
        try:
            return await asyncio.shield(task)
        except CheckpointError as error:
            self._unusable[ref.key] = error
            raise
        finally:
            if task.done():
                self._measuring.pop(ref.key, None)

    async def _measure(self, ref: NetworkRef) -> Facts:
        for _ in range(_ATTEMPTS):
            worker = await self._ready_worker()
            with contextlib.suppress(WorkerGone):
                result = await worker.call("facts", network=vars(ref)).future
                return Facts.from_json(result)
        raise WorkerDied("The worker process died twice while it looked at this network.")

    async def _ready_worker(self) -> WorkerPipe:
        for _ in range(_ATTEMPTS):
            await self.start()
            assert self._worker is not None
            with contextlib.suppress(WorkerGone):
                await self._worker.ready()
                return self._worker
        raise ServerFault("The worker process does not start; see the log.")


def _forget(future: asyncio.Future[dict[str, object]], job: JobOrder) -> None:
    """A cancelled Job's end: nobody will fetch its result, should it have got that far."""
    if future.cancelled() or future.exception() is not None:
        job.scratch_path.unlink(missing_ok=True)
        return
    job.target.unlink(missing_ok=True)
