"""Background jobs that wait for their turn. Knows nothing of processes that have died (`recovery`).

A job that a process has taken stays pending, at position 0, until the device begins with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
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
from upscale.server.records.rows import UNFINISHED, Row, storable
from upscale.server.records.tables import keys, requests, turns
from upscale.server.records.times import now_ms

LOCAL = "local"  # the provider of what runs on this machine
TAKING = 0x74616B65  # the number under which jobs are taken one at a time
# Every so many jobs one is taken of whoever was served longest ago, so that a stream of jobs of a
# higher priority starves nobody.
_EVEN_EVERY = 4

_table = requests.c
_caller_key = keys.c.id == _table.key_id


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
            self._database.serialise(connection, TAKING)
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
            token = self._database.owner.token()
            return requeue_in(connection, request_id, place=self.place, token=token, counted=False)

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


def requeue_in(
    connection: Connection, request_id: str, *, place: str, token: str, counted: bool
) -> bool:
    """Let a job wait again that the process `token` has taken, or any that has died where that it
    was begun is `counted` as an attempt. It stays in the care of `token` where it is of `place`.
    """
    begun = _table.status == "processing"
    waiting = connection.execute(
        update(requests)
        .where(_table.id == request_id, _table.status.in_(UNFINISHED), _table.background)
        .where(or_(begun, _table.position.is_not(None)))
        .where(true() if counted else _table.owner == token)
        .values(
            status="pending",
            position=None,
            owner=case((_table.place == place, token), else_=None),
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
