"""What processes leave behind that have died, and servers that never come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from upscale.server.records.database import Database
from upscale.server.records.queue import LOCAL, TAKING, requeue_in
from upscale.server.records.requests import FREED
from upscale.server.records.rows import ENDED, OF_WORK, UNFINISHED, Row
from upscale.server.records.spending import release_in
from upscale.server.records.tables import requests
from upscale.server.records.times import now_ms

# A job that was running twice when its process died is not tried again.
ATTEMPTS = 2

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


def recover(database: Database, place: str) -> Recovered:
    """Once at start of a server whose jobs are at `place`: set right what processes left that have
    died; others' work is left alone.

    Foreground requests become cancelled, since their connections are gone. Background jobs wait
    again, with their reservations, or fail after ATTEMPTS. What was taken and had not begun is not
    to blame, and counts as no attempt; nor is what a provider works on. Those that wait here are in
    this process's care.
    """
    owner = database.owner
    asked = select(
        _table.id,
        _table.owner,
        _table.background,
        _table.status,
        _table.attempts,
        _table.position,
        _table.place,
        (func.coalesce(_table.provider, LOCAL) == LOCAL).label("local"),
    )
    cancelled, requeued, failed = [], [], []
    with database.write(durable=True) as connection:
        database.serialise(connection, TAKING)
        token = owner.token()
        at_work = connection.execute(asked.where(_table.status.in_(UNFINISHED))).all()
        owners = {row.owner for row in at_work if row.owner is not None}
        dead = {token for token in owners if not owner.alive(connection, token)}
        for row in at_work:
            # A server elsewhere that sets a job of this place right leaves it without an owner.
            if row.owner is not None and row.owner not in dead:
                continue
            begun = row.status == "processing"
            if not row.background:
                _end(connection, row.id, _INTERRUPTED)
                cancelled.append(row.id)
            elif begun and row.local and row.attempts >= ATTEMPTS:
                _end(connection, row.id, _GIVEN_UP)
                failed.append(row.id)
            elif begun or row.position is not None:
                requeue_in(connection, row.id, place=place, token=token, counted=True)
                requeued.append(row.id)
            elif row.place == place:
                connection.execute(update(requests).where(_table.id == row.id).values(owner=token))
        released = _release_ended(connection)
    with database.faults():
        owner.sweep()
    return Recovered(tuple(cancelled), tuple(requeued), tuple(failed), released)


def lost(database: Database, place: str, before: int) -> list[Row]:
    """Jobs at other places than `place`, accepted before that time (milliseconds), which no living
    server has in its care.
    """
    asked = (
        select(requests)
        .where(_table.status.in_(UNFINISHED), _table.background, _table.place != place)
        .where(_table.created_at < before)
    )
    with database.read() as connection:
        if connection.execute(asked.limit(1)).first() is None:
            return []
    owner = database.owner
    with database.write() as connection:
        rows = [Row.of(row) for row in connection.execute(asked)]
        cared = {
            token
            for token in {row.owner for row in rows}
            if token is not None and owner.alive(connection, token)
        }
    return [row for row in rows if row.owner not in cared]


_INTERRUPTED: dict[Any, Any] = {
    "status": "cancelled",
    "idempotency_key": FREED,
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
    """When it really ended is not known: it has no duration. What a paid call came to that it has
    made is not known yet either: its reservation stays until somebody has asked.
    """
    connection.execute(
        update(requests)
        .where(_table.id == request_id, _table.status.in_(UNFINISHED))
        .values({**how, **dict.fromkeys(OF_WORK), "finished_at": now_ms()})
    )
    if connection.scalar(select(_table.remote_job).where(_table.id == request_id)) is None:
        release_in(connection, request_id)


def _release_ended(connection: Connection) -> tuple[str, ...]:
    kept = select(_table.id).where(
        _table.status.in_(ENDED),
        _table.reserve_state == "reserved",
        _table.remote_job.is_(None),
    )
    ids = tuple(connection.scalars(kept))
    for request_id in ids:
        release_in(connection, request_id)
    return ids
