"""The record of one request, from its arrival to its end, whatever ends it.

Written in threads, since a database may make one wait, and to the end even where the caller is gone
or the server shuts down: a record that says "at work" of what is not would be a lie.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.requests import Request

from upscale import logs
from upscale.errors import JobCancelled, RecordsFault, ServerFault, UpscaleError
from upscale.server import audit
from upscale.server.access import address, is_stranger
from upscale.server.feeds import Feeds
from upscale.server.records.database import Database
from upscale.server.records.keys import Key
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival, Row, Status
from upscale.server.records.spending import Spending
from upscale.server.threads import to_its_end, whole
from upscale.server.wishes import another_body

log = logs.get("server")

_CATCH_UP_SECONDS = 5.0

# W3C Trace Context: version, trace, parent, flags.
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class Recorder:
    """Makes records in `database`, and tells `feeds` of their ends."""

    def __init__(self, database: Database, feeds: Feeds) -> None:
        self.log = RequestLog(database)
        self.spending = Spending(database)
        self.feeds = feeds
        self._owed: dict[str, Callable[[], bool]] = {}
        self._afterwards: dict[str, Callable[[], None]] = {}

    @contextlib.asynccontextmanager
    async def recording(self, request: Request, key: Key | None) -> AsyncIterator[Recording]:
        """The record of a request; what the context raises ends it, and goes on."""
        record = Recording(self, request, key)
        try:
            yield record
        except asyncio.CancelledError:
            await record.fail(JobCancelled("The server stopped this request."))
            raise
        except UpscaleError as error:
            await record.fail(error)
            raise
        except Exception:
            await record.fail(ServerFault("Something unexpected went wrong."))
            raise

    async def finish(
        self,
        request_id: str,
        status: Status,
        **fields: Any,
    ) -> bool:
        """End a request: in its record, for those who watch, in the audit. False where it has
        ended before. Done whole, even where the caller is gone meanwhile.

        Where the database cannot be written now, the end is owed, and written as soon as it can be:
        what was made is not lost to a lock. An end that is owed is one, too.
        """

        def end() -> bool:
            row = self.log.finish(request_id, status, **fields)
            if row is not None:
                audit.tell(row)
            elif "remote_attempts" in fields:  # somebody has ended it before that was known
                self.settle(request_id, **remote_only(fields))
            return row is not None

        return await to_its_end(self._finish(request_id, status, end))

    def settle(self, request_id: str, **facts: Any) -> None:
        """Book what a paid call came to whose request has ended before; once. Blocks."""
        row = self.log.settle(request_id, **facts)
        if row is not None:
            audit.tell(row, "paid call settled")

    async def _finish(self, request_id: str, status: Status, end: Callable[[], bool]) -> bool:
        ended = False
        if request_id not in self._owed:
            try:
                ended = await whole(end)
            except RecordsFault:  # logged
                # Of two that waited for the database at once, the first one counts.
                ended = self._owed.setdefault(request_id, end) is end
        self.feeds.end(request_id, status)
        return ended

    @property
    def owed(self) -> frozenset[str]:
        """Requests that have ended, and whose records do not say so yet."""
        return frozenset(self._owed)

    def owes(self, request_id: str, then: Callable[[], None]) -> bool:
        """Whether the end of a request is not written yet; `then` is called, in a thread, when it
        is.
        """
        if request_id not in self._owed:
            return False
        self._afterwards[request_id] = then
        return True

    async def catch_up_forever(self) -> None:
        """Write the ends that could not be written, until cancelled."""
        while True:
            await asyncio.sleep(_CATCH_UP_SECONDS)
            await self.catch_up()

    async def catch_up(self) -> None:
        """Write them once, as far as that can be done now."""
        for request_id, end in list(self._owed.items()):
            with contextlib.suppress(RecordsFault):  # logged; tried again
                await whole(end)
                # Gone where the server ends while this is done a second time.
                self._owed.pop(request_id, None)
                if (then := self._afterwards.pop(request_id, None)) is not None:
                    await asyncio.to_thread(then)


class Recording:
    """The record of one request. `arrive` comes first."""

    def __init__(self, recorder: Recorder, request: Request, key: Key | None) -> None:
        self._recorder, self._request = recorder, request
        self.key = key
        self.id: str = request.state.request_id
        self._arrived = self._over = False
        self.handed_over = False
        self._begun: asyncio.Future[None] | None = None
        self._facts: dict[str, Any] = {}

    async def arrive(
        self, *, idempotency_key: str | None = None, fingerprint: str | None = None
    ) -> Row | None:
        """Record that it came; or tell of the earlier one that it repeats. Raises InvalidRequest
        where the body of that was another.
        """
        return await to_its_end(self._arrive(self._arrival(idempotency_key, fingerprint)))

    async def _arrive(self, arrival: Arrival) -> Row | None:
        existing = await whole(lambda: self._recorder.log.arrive(arrival))
        if existing is not None and not existing.same:
            raise another_body()
        self._arrived = existing is None
        self._over = existing is not None
        if existing is not None:
            return existing.row
        self._recorder.feeds.open(self.id).tell("state", {"status": "pending"})
        return None

    def repeats(self, request_id: str) -> None:
        """It is answered as that request was, whose record is the one to look at."""
        log.info("repeat", extra=logs.fields(request=self.id, of=request_id))
        self._request.state.request_id = request_id

    async def change(self, **fields: Any) -> None:
        """Tell more of it. Raises JobCancelled where somebody has ended it meanwhile."""
        if not await whole(lambda: self._recorder.log.change(self.id, **fields)):
            raise JobCancelled("The request was cancelled.")

    def tell(self, **facts: Any) -> None:
        """What its end is to say however it ends, as the costs of a paid call."""
        self._facts |= facts

    @property
    def share(self) -> str:
        """Whose turn it takes; all without a key are one."""
        return self.key.id if self.key else ""

    @property
    def priority(self) -> int:
        """That of its key."""
        return self.key.priority if self.key else 0

    def begin(self) -> None:
        """Record that its turn has come; again changes nothing."""
        if self._begun is None:
            self._begun = asyncio.ensure_future(self.change(status="processing"))
            self._recorder.feeds.open(self.id).tell("state", {"status": "processing"})

    async def reserve(self, micros: int) -> None:
        """Put aside what it will cost. Raises InsufficientBalance."""
        if micros:
            key_id = self.key.id if self.key else None
            await whole(lambda: self._recorder.spending.reserve(self.id, key_id, micros))

    async def complete(self, *, cost_micros: int, **fields: Any) -> None:
        """End it well, and book its cost. Raises JobCancelled where it has ended otherwise."""
        if self._begun is not None:
            await asyncio.wait((self._begun,))
            with contextlib.suppress(RecordsFault):  # logged; the end says more, if it is written
                self._begun.result()
        ended = await self._finish("completed", cost_micros=cost_micros, **fields)
        self._over = True
        if not ended:
            raise JobCancelled("The request was cancelled.")

    async def fail(self, error: UpscaleError) -> None:
        """End it with an error. Its idempotency key is free again, so that a repeat tries anew, but
        where a paid call keeps it.
        """
        if self._over:
            return
        self._over = True
        if self._begun is not None:
            await asyncio.wait((self._begun,))
            self._begun.exception()  # told by the end that follows
        if not self._arrived:
            if isinstance(error, RecordsFault):
                return  # it was not to be written a moment ago: the caller has waited enough
            arrival = self._arrival(None, None)
            await whole(lambda: self._recorder.log.arrive(arrival))
        told = {**self._facts, **error_fields(error), "idempotency_key": None}
        await self._finish(status_of(error), **told)

    def hand_over(self) -> None:
        """From now on it is a background job's."""
        self._over = self.handed_over = True

    async def _finish(self, status: Status, **fields: Any) -> bool:
        return await self._recorder.finish(self.id, status, **fields)

    def _scoped(self, name: str | None) -> str | None:
        """An idempotency key as it is kept: strangers to each other do not share their names."""
        if name is None or not is_stranger(self._request):
            return name
        return f"{address(self._request)} {name}"

    def _arrival(self, idempotency_key: str | None, fingerprint: str | None) -> Arrival:
        headers = self._request.headers
        length = headers.get("content-length", "")
        trace = _TRACE.fullmatch(headers.get("traceparent", "").strip().lower())
        return Arrival(
            id=self.id,
            endpoint=self._request.url.path,
            key_id=self.key.id if self.key else None,
            session_id=headers.get("x-session-id"),
            trace_id=trace[1] if trace else None,
            client=address(self._request) or None,
            request_size_bytes=int(length) if length.isdecimal() and len(length) < 16 else None,
            idempotency_key=self._scoped(idempotency_key),
            fingerprint=fingerprint,
            priority=self.priority,
        )


def status_of(error: UpscaleError) -> Status:
    """How a request ends that ends with this error."""
    if isinstance(error, JobCancelled):
        return "cancelled"
    return "rejected" if error.status < 500 else "upstream_failure"


def remote_only(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of what an end says that which concerns paid calls."""
    names = ("cost_micros", "sent_to", "sent_bytes", "remote_attempts", "idempotency_kept")
    return {name: fields[name] for name in names if name in fields}


def error_fields(error: UpscaleError) -> dict[str, Any]:
    """An error as a record has it."""
    return {
        "error_status": error.status,
        "error_code": error.code,
        "error_message": error.message,
    }
