"""Tells a URL of the operator's how background jobs end: signed as Standard Webhooks says, again
and again until it has been heard or a day has passed, across restarts.

What is still to be told stands in the records, and nowhere else; a receiver may hear it twice, each
time under the same id. Knows nothing of how jobs run.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import heapq
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

from upscale import logs
from upscale.errors import InvalidRequest, RecordsFault
from upscale.providers.addresses import resolve
from upscale.server.outgoing import Outgoing, Resolver, Unusable, host_of, parsed
from upscale.server.recording import Recorder
from upscale.server.records.deliveries import Deliveries, Untold
from upscale.server.records.rows import Row
from upscale.server.records.times import now_ms
from upscale.server.shown import request_body
from upscale.server.signing import ADVICE, read_secrets, signature
from upscale.server.threads import asked, whole
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.server.services import Services

log = logs.get("webhooks")

# Time between tries, in units of UPSCALE_WEBHOOK_RETRY_SECONDS. With the default of 5 s: 5 s, 30 s,
# 2 min, 10 min, 1 h, 2 h, 4 h, 8 h, 8 h.
_WAITS = (1, 6, 24, 120, 720, 1440, 2880, 5760, 5760)
_JITTER = 0.2
_AT_ONCE = 4
# A delivery: name, connection, and what is read of the reply's body, which nobody needs, so that
# the receiver can end in order.
_SECONDS = 10.0
_READ_SECONDS, _READ_BYTES = 1.0, 1 << 16
# How often it is looked in the records for what others have ended, and how much of it is read at
# once.
_LOOK_SECONDS = 60.0
_PAGE = 500
# Of a receiver that is away for long: so much is known here, the rest stands in the records.
_MOST = 10_000
# How often a process beside the one that tells asks whether that is still there.
_TURN_SECONDS = 5.0
# What is on its way when the server ends gets this long.
_CLOSE_SECONDS = 3.0
_TYPES = {"completed": "request.completed", "cancelled": "request.cancelled"}

_Verdict = Literal["delivered", "failed"]


@dataclass
class _Owed:
    """Something to tell: how often it was tried, when (of the loop's clock) it is to be tried next;
    `verdict` where it is over, and that is still to be written.
    """

    attempts: int
    at: float
    verdict: _Verdict | None = None


class Webhooks:
    """What one server tells. Belongs to the event loop.

    Raises InvalidRequest for settings that cannot work.
    """

    def __init__(
        self, settings: Settings, recorder: Recorder, resolver: Resolver = resolve
    ) -> None:
        self._recorder = recorder
        self._outgoing = Outgoing(settings, resolver)
        self._secrets = read_secrets(settings.webhook_secret)
        self.url = self._checked(settings.webhook_url)
        self._waits = [wait * settings.webhook_retry_seconds for wait in _WAITS]
        self._lock = settings.data_dir / "webhooks.lock"
        self._owed: dict[str, _Owed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._telling = False

    @property
    def fields(self) -> dict[str, Any]:
        """What the record of a new background job is to have."""
        return {"webhook_url": self.url, "webhook_state": "pending" if self.url else None}

    def start(self, ours: Services) -> None:
        """Tell of what has ended and will end, until `close`."""
        if self._secrets:
            self._loop = asyncio.create_task(self._run(ours))
            self._loop.add_done_callback(_report)

    def ended(self, request_id: str) -> None:
        """A request may have ended: it is told of soon, if it is one to tell of."""
        if self._telling and len(self._owed) < _MOST:
            self._owed.setdefault(request_id, _Owed(0, _now()))
            self._news.set()

    async def close(self) -> None:
        """Let what is on its way arrive, for seconds; the next process tells the rest."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait((self._loop,))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks.values(), timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _checked(self, url: str) -> str | None:
        if not url.strip():
            return None
        if not self._secrets:
            raise InvalidRequest(
                "UPSCALE_WEBHOOK_URL needs UPSCALE_WEBHOOK_SECRET, with which what is told is "
                f"signed. {ADVICE}",
                field="webhook_secret",
            )
        try:
            found = parsed(url)
            self._outgoing.check(found)
        except Unusable as fault:
            raise InvalidRequest(
                f"UPSCALE_WEBHOOK_URL cannot be used: {fault}.", field="webhook_url"
            ) from fault
        return str(found)

    async def _run(self, ours: Services) -> None:
        deliveries, look_at = Deliveries(ours.database, ours.background.place), _now()
        async with _turn(self._lock):
            self._telling = True
            try:
                while True:
                    self._news.clear()
                    if _now() >= look_at:
                        await self._look(deliveries)
                        look_at = _now() + _LOOK_SECONDS
                    self._begin(ours)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._next(look_at) - _now()):
                            await self._news.wait()
            finally:
                self._telling = False

    async def _look(self, deliveries: Deliveries) -> None:
        """Find what the records have to be told by this server, and nobody here has heard of."""
        some: list[Untold] = []
        with contextlib.suppress(RecordsFault):  # logged; looked again
            while len(self._owed) < _MOST:
                after = some[-1] if some else None
                some = await asked(lambda after=after: deliveries.untold(after, limit=_PAGE))
                for each in some:
                    self._owed.setdefault(each.id, _Owed(self._tries(each.ended), _now()))
                if len(some) < _PAGE:
                    return

    def _tries(self, ended: int) -> int:
        """How often it has been tried by now, as its age tells."""
        age = (now_ms() - ended) / 1000
        return sum(age >= due for due in accumulate(self._waits))

    def _begin(self, ours: Services) -> None:
        """Begin what is due; what was tried least comes first, so that a receiver that is gone
        does not hold up another.
        """
        free, now = _AT_ONCE - len(self._tasks), _now()
        due = (
            (owed.attempts, owed.at, request_id)
            for request_id, owed in self._owed.items()
            if owed.at <= now and request_id not in self._tasks
        )
        for _, _, request_id in heapq.nsmallest(free, due):
            task = asyncio.create_task(self._tell(ours, request_id), name=request_id)
            self._tasks[request_id] = task
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task.get_name()]
        self._news.set()
        _report(task)

    def _next(self, look_at: float) -> float:
        """When there is something to do, if nothing happens before."""
        if len(self._tasks) >= _AT_ONCE:
            return look_at
        waiting = self._owed.keys() - self._tasks.keys()
        return min([look_at, *(self._owed[request_id].at for request_id in waiting)])

    async def _tell(self, ours: Services, request_id: str) -> None:
        """One try, or the writing of what became of it."""
        owed = self._owed[request_id]
        try:
            if owed.verdict is None:
                row = await asked(self._recorder.log.get, request_id)
                if row is None or not row.ended or row.webhook_state != "pending":
                    del self._owed[request_id]
                    return
                owed.verdict = await self._try(ours, row, owed)
            if owed.verdict is not None:
                state = owed.verdict
                await whole(lambda: self._recorder.log.change(request_id, webhook_state=state))
                del self._owed[request_id]
        except RecordsFault:  # logged
            owed.at = _now() + self._waits[0]

    async def _try(self, ours: Services, row: Row, owed: _Owed) -> _Verdict | None:
        """One delivery, logged; None where it has to be tried again."""
        owed.attempts += 1
        about: dict[str, Any] = {"request": row.id, "status": row.status, "attempt": owed.attempts}
        try:
            async with asyncio.timeout(_SECONDS):
                url = parsed(row.webhook_url or "")
                about["host"] = host_of(url)
                answer = await self._post(url, row.id, _event(ours, row))
            if 200 <= answer < 300:
                log.info("told", extra=logs.fields(**about))
                return "delivered"
            why, over = f"it answered {answer}", answer == 410
        except TimeoutError:
            why, over = f"it did not answer within {_SECONDS:g} seconds", False
        except Unusable as fault:
            why, over = str(fault), False
        except httpx.HTTPError as fault:
            why, over = f"the connection failed or broke off ({type(fault).__name__})", False
        except Exception:
            log.exception("unexpected failure", extra=logs.fields(**about))
            why, over = "something unexpected went wrong", False
        if over or owed.attempts > len(self._waits):
            log.error("given up", extra=logs.fields(**about, why=why))
            return "failed"
        wait = self._waits[owed.attempts - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)
        owed.at = _now() + wait
        log.warning("not told", extra=logs.fields(**about, why=why, again_in=round(wait, 1)))
        return None

    async def _post(self, url: httpx.URL, request_id: str, body: bytes) -> int:
        """The status that came back."""
        event_id, now = _event_id(request_id), int(time.time())
        headers = {
            "Connection": "close",
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(self._secrets, event_id, now, body),
        }
        async with self._outgoing.exchange(
            "POST", url, seconds=_SECONDS, headers=headers, content=body
        ) as response:
            with contextlib.suppress(TimeoutError, httpx.HTTPError):
                async with asyncio.timeout(_READ_SECONDS):
                    await _read_some(response)
            return response.status_code


def _event_id(request_id: str) -> str:
    """A request ends once, so its event needs no number of its own."""
    return "evt_" + request_id.removeprefix("req_")


def _event(ours: Services, row: Row) -> bytes:
    event = {
        "id": _event_id(row.id),
        "object": "event",
        "type": _TYPES.get(row.status, "request.failed"),
        "created_at": (row.finished_at or row.created_at) // 1000,
        "data": request_body(ours, row),
    }
    return json.dumps(event).encode()


async def _read_some(response: httpx.Response) -> None:
    got = 0
    async for piece in response.aiter_raw():
        got += len(piece)
        if got > _READ_BYTES:
            return


@contextlib.asynccontextmanager
async def _turn(file: Path) -> AsyncIterator[None]:
    """Wait until no other process at this data folder tells; hold the turn meanwhile. A process
    that dies lets go of it.
    """
    with file.open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_TURN_SECONDS)
        yield


def _now() -> float:
    return asyncio.get_running_loop().time()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("webhooks", exc_info=task.exception())
