"""The record of each request: made when it arrives, changed with its state, kept for a while.

What may follow what stands in the condition of each UPDATE, so that of two that end a request one
does, and a late word about it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, delete, select, update

from upscale.errors import InvalidRequest
from upscale.server.records.database import Database
from upscale.server.records.paging import Chosen, Page, Summary, read_page, read_summary
from upscale.server.records.rows import (
    ENDED,
    OF_WORK,
    UNFINISHED,
    Arrival,
    Row,
    Status,
    columns_of,
    storable,
)
from upscale.server.records.spending import release_in, settle_in
from upscale.server.records.tables import requests
from upscale.server.records.times import now_ms

_ALL = Chosen()
_AT_A_TIME = 500

# What may be told of a request while it is at work, and what still after its end.
_EARLY = {
    "model",
    "executed_model",
    "provider",
    "dry_run",
    "background",
    "quote_micros",
    "session_id",
    "user",
    "request_size_bytes",
    "fingerprint",
    "priority",
    "position",
    "expected_seconds",
    "progress",
    "order",
    "source",
    "place",
    "webhook_url",
}
_LATE = {
    "response_size_bytes",
    "sent_to",
    "sent_bytes",
    "remote_attempts",
    "remote_job",
    "idempotency_key",
    "idempotency_kept",
    "media",
    "webhook_state",
}
_AT_END = {"error_status", "error_code", "error_message", "duration_ms", "reply"}


# A name that is given up, but where a repeat would be paid for again.
FREED = case((requests.c.idempotency_kept, requests.c.idempotency_key), else_=None)
_OF_JOBS = case((requests.c.background, requests.c.idempotency_key), else_=None)
# The same by what is told along with it.
_FREED = {None: FREED, True: requests.c.idempotency_key, False: None}


@dataclass(frozen=True)
class Existing:
    """An earlier request with the same idempotency key; `same`: its body was the same, too."""

    row: Row
    same: bool


@dataclass(frozen=True)
class Leftovers:
    """What the caller must delete, as far as it is still there. `already`: asked for before."""

    media: tuple[str, ...]
    files: tuple[str, ...]
    count: int
    already: bool = False


class RequestLog:
    """The requests in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def arrive(self, arrival: Arrival) -> Existing | None:
        """Record a request as pending, owned by this process; or tell of the earlier one whose
        idempotency key (of the same caller) it repeats.
        """
        row = columns_of(arrival, now_ms())
        with self._database.write(durable=arrival.background) as connection:
            row["owner"] = self._database.owner.token()
            one = self._database.insert(requests).values(row)
            unique = ["caller", "idempotency_key"]
            one = one.on_conflict_do_nothing(index_elements=unique).returning(requests.c.id)
            if connection.scalar(one) is not None:
                return None
            earlier = connection.execute(
                select(requests).where(
                    requests.c.caller == row["caller"],
                    requests.c.idempotency_key == row["idempotency_key"],
                )
            ).one()
            found = Row.of(earlier)
            return Existing(found, found.fingerprint == row["fingerprint"])

    def change(
        self, request_id: str, *, durable: bool = False, early: bool = False, **fields: Any
    ) -> bool:
        """Set fields of a request, among them `status="processing"`; False where that is too late.
        `durable`: see `Database.write`.

        After the end only what concerns the reply's way, or a paid call, may change (`_LATE`), and
        where it has to be `early` nothing.
        """
        unknown = set(fields) - _EARLY - _LATE - {"status"}
        if unknown:
            raise TypeError(f"not to be changed: {', '.join(sorted(unknown))}")
        values: dict[Any, Any] = storable(fields)
        allowed: tuple[Status, ...] = UNFINISHED
        if "status" in fields:
            if fields["status"] != "processing":
                raise ValueError("requests end by `finish`, and wait again by `requeue`")
            values["started_at"] = now_ms()
            allowed = ("pending",)
        elif set(fields) <= _LATE and not early:
            allowed = (*UNFINISHED, *ENDED)
        with self._database.write(durable=durable) as connection:
            changed = connection.execute(
                update(requests)
                .where(requests.c.id == request_id, requests.c.status.in_(allowed))
                .values(values)
            )
            return bool(changed.rowcount)

    def finish(
        self, request_id: str, status: Status, *, cost_micros: int = 0, **fields: Any
    ) -> Row | None:
        """End a request, and settle its cost or release its reservation in the same transaction;
        the request as it has ended.

        Costs are booked where it completed, or where there are some. A rejected one frees its
        idempotency key, and so does one that is told to, but where `idempotency_kept` says that a
        repeat would be paid for again. None, and nothing is booked, where it has ended
        before.
        """
        if status not in ENDED:
            raise ValueError(f"{status} is no end")
        unknown = set(fields) - _EARLY - _LATE - _AT_END
        if unknown:
            raise TypeError(f"not to be changed: {', '.join(sorted(unknown))}")
        now = now_ms()
        took = case((requests.c.created_at < now, now - requests.c.created_at), else_=0)
        values: dict[Any, Any] = {"duration_ms": took, **storable(fields)}
        values |= {"status": status, "finished_at": now} | dict.fromkeys(OF_WORK)
        if status == "rejected" or "idempotency_key" in fields:
            told = fields.get("idempotency_kept")
            values["idempotency_key"] = _FREED[told]
        with self._database.write(durable=status != "rejected") as connection:
            ended = connection.execute(
                update(requests)
                .where(requests.c.id == request_id, requests.c.status.in_(UNFINISHED))
                .values(values)
            ).rowcount
            if not ended:
                return None
            found = Row.of(connection.execute(_one(request_id)).one())
            if found.remote_job is not None:
                return found  # a paid call is still going on: see `settle`
            _book(connection, request_id, cost_micros, completed=status == "completed")
            return Row.of(connection.execute(_one(request_id)).one())

    def settle(self, request_id: str, *, cost_micros: int = 0, **fields: Any) -> Row | None:
        """Book what the paid call came to that a request has left behind by its end; once. None
        where there is none. Its idempotency key is free where it is told to cost nothing after all
        (`idempotency_kept`), but jobs in the background keep theirs.
        """
        unknown = set(fields) - _LATE
        if unknown:
            raise TypeError(f"not to be changed: {', '.join(sorted(unknown))}")
        values: dict[Any, Any] = {**storable(fields), "remote_job": None}
        if fields.get("idempotency_kept") is False:
            values["idempotency_key"] = _OF_JOBS
        with self._database.write(durable=True) as connection:
            settled = connection.execute(
                update(requests)
                .where(requests.c.id == request_id, requests.c.status.in_(ENDED))
                .where(requests.c.remote_job.is_not(None))
                .values(values)
            ).rowcount
            if not settled:
                return None
            _book(connection, request_id, cost_micros, completed=False)
            return Row.of(connection.execute(_one(request_id)).one())

    def unsettled(self) -> list[Row]:
        """Requests that have ended and whose paid call may still be going on, oldest first."""
        asked = (
            select(requests)
            .where(requests.c.remote_job.is_not(None), requests.c.finished_at.is_not(None))
            .order_by(requests.c.finished_at)
        )
        with self._database.read() as connection:
            return [Row.of(row) for row in connection.execute(asked.limit(_AT_A_TIME))]

    def get(self, request_id: str, *, key_id: str | None = None) -> Row | None:
        """A request; for a `key_id`, only if it is that key's."""
        asked = select(requests).where(requests.c.id == request_id)
        if key_id is not None:
            asked = asked.where(requests.c.key_id == key_id)
        with self._database.read() as connection:
            row = connection.execute(asked).first()
        return None if row is None else Row.of(row)

    def page(
        self,
        chosen: Chosen = _ALL,
        *,
        limit: int = 20,
        starting_after: str | None = None,
        ending_before: str | None = None,
    ) -> Page:
        """At most `limit` (1 to 100) requests, newest first: those that follow `starting_after`, or
        precede `ending_before`. Raises InvalidParameter.
        """
        with self._database.read() as connection:
            return read_page(connection, chosen, limit, starting_after, ending_before)

    def summary(self, chosen: Chosen = _ALL) -> Summary:
        """Numbers, costs and mean duration of the same requests."""
        with self._database.read() as connection:
            return read_summary(connection, chosen)

    def purge(self, request_id: str) -> Leftovers | None:
        """Delete what a request sent and got, but not that there was one; None for an unknown id.

        The names of media and source stay in the record, and are told again when asked again: files
        that outlive a crash between the two can still be deleted. Raises InvalidRequest while it
        is at work.
        """
        emptied = {"order": None, "reply": None, "progress": None, "purged": True}
        with self._database.write(durable=True) as connection:
            row = connection.execute(select(requests).where(requests.c.id == request_id)).first()
            if row is None:
                return None
            found = Row.of(row)
            if not found.ended:
                raise InvalidRequest(f"The request {request_id} is still at work. Cancel it first.")
            connection.execute(update(requests).where(requests.c.id == request_id).values(emptied))
        self._database.scrub()
        return _leftovers([found], already=found.purged)

    def expire(self, older_than: int) -> Leftovers:
        """Delete the records of requests that ended and arrived before `older_than` (milliseconds);
        in small steps, so that others can write between them.
        """
        gone: list[Row] = []
        old = and_(requests.c.created_at < older_than, requests.c.status.in_(ENDED))
        while rows := self._expire_some(old):
            gone += rows
        return _leftovers(gone)

    def _expire_some(self, old: ColumnElement[bool]) -> list[Row]:
        some = select(requests.c.id).where(old).limit(_AT_A_TIME)
        with self._database.write() as connection:
            deleted = connection.execute(
                delete(requests).where(requests.c.id.in_(some)).returning(requests)
            )
            return [Row.of(row) for row in deleted]


def _one(request_id: str) -> Select[Any]:
    return select(requests).where(requests.c.id == request_id)


def _book(connection: Connection, request_id: str, cost_micros: int, *, completed: bool) -> None:
    if completed or cost_micros:
        settle_in(connection, request_id, cost_micros)
    else:
        release_in(connection, request_id)


def _leftovers(rows: list[Row], *, already: bool = False) -> Leftovers:
    media = tuple(name for row in rows for name in row.media)
    files = tuple(row.source for row in rows if row.source is not None)
    return Leftovers(media, files, len(rows), already)
