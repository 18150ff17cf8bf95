"""Background jobs that wait for their turn, and what a dead process left behind.

A job that a process has taken stays pending, at position 0, until the device begins with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    func,
    or_,
    select,
    true,
    update,
)

from upscale.server.records.database import Database
from upscale.server.records.rows import ENDED, OF_WORK, UNFINISHED, Row, storable
from upscale.server.records.spending import release_in
from upscale.server.records.tables import keys, requests, turns
from upscale.server.records.times import now_ms

# A job that was running twice when its process died is not tried again.
ATTEMPTS = 2
LOCAL = "local"  # the provider of what runs on this machine
_TAKING = 0x74616B65  # the number under which jobs are taken one at a time
# Every so many jobs one is taken of whoever was served longest ago, so that a stream of jobs of a
# higher priority starves nobody.
_EVEN_EVERY = 4

_table = requests.c
_caller_key = keys.c.id == _table.key_id


@dataclass(frozen=True)
class Recovered:
    """Ids of what was set right: foreground requests that nobody answers any more, background jobs
    that wait again, jobs given up, and requests whose reservation was still there.
    """

    cancelled: tuple[str, ...]
    requeued: tuple[str, ...]
    failed: tuple[str, ...]
    released: tuple[str, ...]


def is_remote(row: Row) -> bool:
    """Whether a job goes to a remote provider."""
    return (row.provider or LOCAL) != LOCAL


class JobQueue:
    """The background jobs in `database` whose files are at `place`."""

    def __init__(self, database: Database, place: str = "") -> None:
        self._database = database
        self.place = place

    def add(self, request_id: str, **fields: Any) -> Row | None:
        """Make a background job of a request that waits; its row. None where it has ended. On the
        disk when this returns.
        """
        with self._database.write(durable=True) as connection:
            made = connection.execute(
                update(requests)
                .where(_table.id == request_id, _table.status == "pending")
                .values({**storable(fields), "background": True, "place": self.place})
                .returning(*requests.c)
            ).first()
            return None if made is None else Row.of(made)

    def lines(self) -> tuple[list[str], list[str]]:
        """Ids of the jobs that wait for the device, and of those that go to providers."""
        return self.waiting(), self.waiting(remote=True)

    def waiting(self, *, remote: bool = False) -> list[str]:
        """Ids of the waiting jobs in the order in which `claim` would take them now."""
        asked = self._waiting(remote, _table.id, _table.caller, _table.priority).order_by(
            _table.priority.desc(), _table.created_at, _table.id
        )
        with self._database.read() as connection:
            rows = connection.execute(asked).all()
            served = self._served(connection, remote)
        lines: dict[str, deque[tuple[int, int, str]]] = {}
        for arrival, row in enumerate(rows):
            lines.setdefault(row.caller, deque()).append((-row.priority, arrival, row.id))
        order: list[str] = []
        last = max(served.values(), default=0)

        def rank(caller: str) -> tuple[int, ...]:
            priority, arrival, _ = lines[caller][0]
            turn = served.get(caller, 0)
            return (turn, priority, arrival) if _is_even(last + 1) else (priority, turn, arrival)

        while lines:
            caller = min(lines, key=rank)
            order.append(lines[caller].popleft()[2])
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

    def claim(
        self,
        without: Collection[str] = (),
        ended: Collection[str] = (),
        *,
        remote: bool = False,
    ) -> Row | None:
        """Take the next waiting job for this process, of other callers than those `without` and
        none of `ended`; None where none waits. `remote`: of those that go to providers, which wait
        for no device; else of the others.

        The highest priority comes first; keys of the same priority take turns, then the earlier
        arrival counts. One job of four goes to the key that was served longest ago, whatever its
        priority. Requests without a key count as one.
        """
        waiting = self._waiting(remote, _table.id, _table.caller).where(
            _table.caller.not_in(without), _table.id.not_in(ended)
        )
        with self._database.read() as connection:  # a look costs no lock
            if connection.execute(waiting.limit(1)).first() is None:
                return None
        with self._database.write() as connection:
            self._database.serialise(connection, _TAKING)
            turn = max(self._served(connection, remote).values(), default=0) + 1
            served, urgent = func.coalesce(turns.c.served, 0), _table.priority.desc()
            first = (served, urgent) if _is_even(turn) else (urgent, served)
            theirs = turns.c.caller == self._line(remote) + _table.caller
            found = connection.execute(
                waiting.join_from(requests, turns, theirs, isouter=True)
                .order_by(*first, _table.created_at, _table.id)
                .limit(1)
            ).first()
            if found is None:
                return None
            self._count_turn(connection, self._line(remote) + found.caller, turn)
            taken = connection.execute(
                update(requests)
                .where(_table.id == found.id)
                .values(owner=self._database.owner.token(), position=0)
                .returning(*requests.c)
            ).one()
            return Row.of(taken)

    def begin(self, request_id: str) -> bool:
        """The device begins with a job that this process has taken: one more attempt. False where
        it has ended, or is another process's.
        """
        with self._database.write() as connection:
            begun = connection.execute(
                update(requests)
                .where(_table.id == request_id, _table.status == "pending", _table.background)
                .where(_table.position == 0, _table.owner == self._database.owner.token())
                .values(
                    status="processing",
                    attempts=_table.attempts + 1,
                    started_at=now_ms(),
                    position=None,
                )
            )
            return bool(begun.rowcount)

    def requeue(self, request_id: str) -> bool:
        """Let a job that was taken wait again; that it was begun is no attempt. False where it is
        not at work.
        """
        with self._database.write(durable=True) as connection:
            return self._requeue(connection, request_id, counted=False)

    def unfinished(self, *, background: bool = True) -> list[Row]:
        """Requests that wait or are at work, by priority and arrival."""
        asked = (
            select(requests)
            .where(_table.status.in_(UNFINISHED), _table.background == background)
            .order_by(_table.priority.desc(), _table.created_at, _table.id)
        )
        with self._database.read() as connection:
            return [Row.of(row) for row in connection.execute(asked)]

    def keyless(self) -> list[Row]:
        """Waiting jobs whose key was revoked or has expired: nobody takes them any more."""
        asked = (
            select(requests)
            .join_from(requests, keys, _caller_key)
            .where(self._waits, _is_over())
            .order_by(_table.created_at, _table.id)
        )
        with self._database.read() as connection:
            return [Row.of(row) for row in connection.execute(asked)]

    def lost(self, before: int) -> list[Row]:
        """Jobs at other places, accepted before that time (milliseconds), which no living server
        has in its care.
        """
        asked = (
            select(requests)
            .where(_table.status.in_(UNFINISHED), _table.background, _table.place != self.place)
            .where(_table.created_at < before)
        )
        with self._database.read() as connection:
            if connection.execute(asked.limit(1)).first() is None:
                return []
        owner = self._database.owner
        with self._database.write() as connection:
            rows = [Row.of(row) for row in connection.execute(asked)]
            cared = {
                token
                for token in {row.owner for row in rows}
                if token is not None and owner.alive(connection, token)
            }
        return [row for row in rows if row.owner not in cared]

    def recover(self) -> Recovered:
        """Once at start: set right what processes left that have died; others' work is left alone.

        Foreground requests become cancelled, since their connections are gone. Background jobs
        wait again, with their reservations, or fail after ATTEMPTS. What was taken and had not
        begun is not to blame, and counts as no attempt; nor is what a provider works on. Those that
        wait here are in this process's care.
        """
        owner = self._database.owner
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
        with self._database.write(durable=True) as connection:
            self._database.serialise(connection, _TAKING)
            at_work = connection.execute(asked.where(_table.status.in_(UNFINISHED))).all()
            owners = {row.owner for row in at_work if row.owner is not None}
            dead = {token for token in owners if not owner.alive(connection, token)}
            for row in at_work:
                # Nobody's are those that a server elsewhere has set right.
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
                    self._requeue(connection, row.id, counted=True)
                    requeued.append(row.id)
                elif row.place == self.place:
                    token = owner.token()
                    connection.execute(
                        update(requests).where(_table.id == row.id).values(owner=token)
                    )
            released = _release_ended(connection)
        with self._database.faults():
            owner.sweep()
        return Recovered(tuple(cancelled), tuple(requeued), tuple(failed), released)

    @property
    def _waits(self) -> ColumnElement[bool]:
        """Not taken by any process."""
        return and_(
            _table.background,
            _table.status == "pending",
            _table.position.is_(None),
            _table.place == self.place,
        )

    def _waiting(self, remote: bool, *columns: ColumnElement[Any]) -> Select[Any]:
        over = select(keys.c.id).where(_caller_key, _is_over())
        elsewhere = func.coalesce(_table.provider, LOCAL) != LOCAL
        lane = elsewhere if remote else ~elsewhere
        return select(*columns).where(self._waits, ~over.exists(), lane)

    def _line(self, remote: bool) -> str:
        """Begins the names of callers in `turns`: each line has its own, since the turns of one say
        nothing of who has waited in another.
        """
        return f"{self.place}/{'remote' if remote else LOCAL}/"

    def _served(self, connection: Connection, remote: bool) -> dict[str, int]:
        """The last turn of each caller in a line."""
        line = self._line(remote)
        asked = select(turns).where(turns.c.caller.startswith(line, autoescape=True))
        return {row.caller.removeprefix(line): row.served for row in connection.execute(asked)}

    def _count_turn(self, connection: Connection, caller: str, turn: int) -> None:
        one = self._database.insert(turns).values(caller=caller, served=turn)
        connection.execute(
            one.on_conflict_do_update(index_elements=["caller"], set_={"served": turn})
        )

    def _requeue(self, connection: Connection, request_id: str, *, counted: bool) -> bool:
        """`counted`: that it was begun was an attempt, of a process that has died."""
        begun, token = _table.status == "processing", self._database.owner.token()
        waiting = connection.execute(
            update(requests)
            .where(_table.id == request_id, _table.status.in_(UNFINISHED), _table.background)
            .where(or_(begun, _table.position.is_not(None)))
            .where(_table.owner == token if not counted else true())
            .values(
                status="pending",
                position=None,
                owner=case((_table.place == self.place, token), else_=None),
                started_at=None,
                progress=None,
                attempts=_table.attempts - case((begun, 0 if counted else 1), else_=0),
            )
        )
        return bool(waiting.rowcount)


def _is_even(turn: int) -> bool:
    """Whether that turn is one in which no priority counts."""
    return turn % _EVEN_EVERY == 0


def _is_over() -> ColumnElement[bool]:
    """Whether a key is revoked or has expired."""
    return or_(keys.c.revoked_at.is_not(None), keys.c.expires_at <= now_ms())


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
