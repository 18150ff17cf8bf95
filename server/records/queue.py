"""Background jobs that wait for their turn, and what a dead process left behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from upscale.server.records.database import Database
from upscale.server.records.rows import ENDED, UNFINISHED, Row
from upscale.server.records.spending import release_in
from upscale.server.records.tables import requests, turns
from upscale.server.records.times import now_ms

# A job that was running twice when its process died is not tried again.
ATTEMPTS = 2
_TAKING = 0x74616B65  # the number under which jobs are taken one at a time

_table = requests.c


@dataclass(frozen=True)
class Recovered:
    """Ids of what was set right: foreground requests that nobody answers any more, background jobs
    that wait again, jobs given up, and requests whose reservation was still there.
    """

    cancelled: tuple[str, ...]
    requeued: tuple[str, ...]
    failed: tuple[str, ...]
    released: tuple[str, ...]


class JobQueue:
    """The background jobs in `database` whose files are at `place`."""

    def __init__(self, database: Database, place: str = "") -> None:
        self._database = database
        self.place = place

    def waiting(self) -> list[str]:
        """Ids of the waiting jobs in the order in which `claim` would take them now."""
        asked = (
            select(_table.id, _table.caller)
            .where(_table.background, _table.status == "pending", _table.place == self.place)
            .order_by(_table.priority.desc(), _table.created_at, _table.id)
        )
        with self._database.read() as connection:
            rows = connection.execute(asked).all()
            served = {row.caller: row.served for row in connection.execute(select(turns))}
        lines: dict[str, deque[str]] = {}
        for row in rows:
            lines.setdefault(row.caller, deque()).append(row.id)
        order: list[str] = []
        last = max(served.values(), default=0)
        while lines:
            caller = min(lines, key=lambda each: served.get(each, 0))
            order.append(lines[caller].popleft())
            last += 1
            served[caller] = last
            if not lines[caller]:
                del lines[caller]
        return order

    def expected_seconds(self) -> float:
        """Expected work of all background jobs that wait or are at work."""
        work = select(func.sum(_table.expected_seconds)).where(
            _table.status.in_(UNFINISHED), _table.background, _table.place == self.place
        )
        with self._database.read() as connection:
            return float(connection.scalar(work) or 0.0)

    def claim(self, without: Collection[str] = ()) -> Row | None:
        """Take the next waiting job for this process, of other callers than those `without`; None
        where none waits.

        Keys take turns: first the one that was served longest ago, then the higher priority, then
        the earlier arrival. Requests without a key count as one.
        """
        served = func.coalesce(turns.c.served, 0)
        next_one = (
            select(_table.id, _table.caller)
            .join_from(requests, turns, turns.c.caller == _table.caller, isouter=True)
            .where(_table.background, _table.status == "pending", _table.place == self.place)
            .where(_table.caller.not_in(without))
            .order_by(served, _table.priority.desc(), _table.created_at, _table.id)
            .limit(1)
        )
        with self._database.read() as connection:  # a look costs no lock
            if connection.execute(next_one).first() is None:
                return None
        with self._database.write() as connection:
            self._database.serialise(connection, _TAKING)
            found = connection.execute(next_one).first()
            if found is None:
                return None
            self._count_turn(connection, found.caller)
            taken = connection.execute(
                update(requests)
                .where(_table.id == found.id, _table.status == "pending")
                .values(
                    status="processing",
                    owner=self._database.owner.token(),
                    attempts=_table.attempts + 1,
                    started_at=now_ms(),
                    position=None,
                )
                .returning(*requests.c)
            ).first()
            return None if taken is None else Row.of(taken)

    def requeue(self, request_id: str, *, counted: bool = True) -> bool:
        """Let a job that was claimed wait again; `counted=False` where that was no attempt (the
        server is shutting down in order). False where it is not at work.
        """
        with self._database.write(durable=True) as connection:
            return _requeue(connection, request_id, 0 if counted else 1)

    def unfinished(self, *, background: bool = True) -> list[Row]:
        """Requests that wait or are at work, by priority and arrival."""
        asked = (
            select(requests)
            .where(_table.status.in_(UNFINISHED), _table.background == background)
            .order_by(_table.priority.desc(), _table.created_at, _table.id)
        )
        with self._database.read() as connection:
            return [Row.of(row) for row in connection.execute(asked)]

    def recover(self) -> Recovered:
        """Once at start: set right what processes left that have died; others' work is left alone.

        Foreground requests become cancelled, since their connections are gone. Background jobs
        wait again, with their reservations, or fail after ATTEMPTS. What was taken and had not
        begun (it has told of no progress) is not to blame, and counts as no attempt.
        """
        owner = self._database.owner
        asked = select(
            _table.id,
            _table.owner,
            _table.background,
            _table.status,
            _table.attempts,
            _table.progress.is_not(None).label("begun"),
        )
        cancelled, requeued, failed = [], [], []
        with self._database.write(durable=True) as connection:
            self._database.serialise(connection, _TAKING)
            at_work = connection.execute(asked.where(_table.status.in_(UNFINISHED))).all()
            owners = {row.owner for row in at_work if row.owner is not None}
            dead = {token for token in owners if not owner.alive(connection, token)}
            for row in at_work:
                if row.owner not in dead:
                    continue
                if not row.background:
                    _end(connection, row.id, _INTERRUPTED)
                    cancelled.append(row.id)
                elif row.status == "processing" and row.begun and row.attempts >= ATTEMPTS:
                    _end(connection, row.id, _GIVEN_UP)
                    failed.append(row.id)
                elif row.status == "processing":
                    _requeue(connection, row.id, 0 if row.begun else 1)
                    requeued.append(row.id)
            released = _release_ended(connection)
        with self._database.faults():
            owner.sweep()
        return Recovered(tuple(cancelled), tuple(requeued), tuple(failed), released)

    def _count_turn(self, connection: Connection, caller: str) -> None:
        last = connection.scalar(select(func.max(turns.c.served))) or 0
        one = self._database.insert(turns).values(caller=caller, served=last + 1)
        connection.execute(
            one.on_conflict_do_update(index_elements=["caller"], set_={"served": last + 1})
        )


_INTERRUPTED: dict[Any, Any] = {
    "status": "cancelled",
    "idempotency_key": None,
    "error_status": 503,
    "error_code": "REQUEST_INTERRUPTED",
    "error_message": "The server stopped while this request was at work.",
}
_GIVEN_UP: dict[Any, Any] = {
    "status": "upstream_failure",
    "error_status": 500,
    "error_code": "INTERNAL_ERROR",
    "error_message": f"The server stopped {ATTEMPTS} times while it ran this job.",
}


def _end(connection: Connection, request_id: str, how: dict[Any, Any]) -> None:
    """When it really ended is not known: it has no duration."""
    connection.execute(
        update(requests)
        .where(_table.id == request_id, _table.status.in_(UNFINISHED))
        .values({**how, "finished_at": now_ms(), "position": None})
    )
    release_in(connection, request_id)


def _requeue(connection: Connection, request_id: str, taken_back: int) -> bool:
    waiting = connection.execute(
        update(requests)
        .where(_table.id == request_id, _table.status == "processing", _table.background)
        .values(
            status="pending",
            owner=None,
            started_at=None,
            progress=None,
            attempts=_table.attempts - taken_back,
        )
    )
    return bool(waiting.rowcount)


def _release_ended(connection: Connection) -> tuple[str, ...]:
    kept = select(_table.id).where(_table.status.in_(ENDED), _table.reserve_state == "reserved")
    ids = tuple(connection.scalars(kept))
    for request_id in ids:
        release_in(connection, request_id)
    return ids
