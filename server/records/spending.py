"""What keys spend: reserved before the work, settled or released after it, exactly once.

A request holds at most one reservation, and its own row says what became of it; each step is one
transaction that changes row and key together, so a crash leaves both before or both after it.
"""

from __future__ import annotations

from sqlalchemy import Connection, or_, select, update

from upscale.errors import InsufficientBalance, NotFound
from upscale.server.records.database import Database
from upscale.server.records.rows import UNFINISHED
from upscale.server.records.tables import keys, requests


class Spending:
    """Reservations in `database`. Amounts are in millionths of a dollar."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(self, request_id: str, key_id: str | None, micros: int) -> None:
        """Put `micros` of what the key may spend aside for an unfinished request.

        Does nothing where the request has its reservation already. Without a key nothing limits it.
        Raises InsufficientBalance, and NotFound for a request that is not there or has ended.
        """
        if micros < 0:
            raise ValueError("a reservation below zero")
        with self._database.write() as connection:
            marked = connection.execute(
                update(requests)
                .where(requests.c.id == request_id, requests.c.status.in_(UNFINISHED))
                .where(requests.c.reserve_state == "none")
                .values(reserve_state="reserved", reserved_micros=micros)
            ).rowcount
            if marked:
                _set_aside(connection, key_id, micros)
            elif not _has_one(connection, request_id):
                raise NotFound(f"No unfinished request {request_id}.")


def settle_in(connection: Connection, request_id: str, micros: int) -> bool:
    """Book `micros` as spent, whatever was reserved, in a transaction that does more; False where
    that was done before, or the reservation was released.
    """
    if micros < 0:
        raise ValueError("a cost below zero")
    booked = connection.execute(
        update(requests)
        .where(requests.c.id == request_id, requests.c.reserve_state.in_(("none", "reserved")))
        .values(reserve_state="settled", cost_micros=micros)
        .returning(requests.c.key_id, requests.c.reserved_micros)
    ).first()
    if booked is None:
        return False
    connection.execute(
        update(keys)
        .where(keys.c.id == booked.key_id)
        .values(
            spent_micros=keys.c.spent_micros + micros,
            reserved_micros=keys.c.reserved_micros - booked.reserved_micros,
        )
    )
    return True


def release_in(connection: Connection, request_id: str) -> bool:
    """Give the reservation back, in a transaction that does more; False where there is none any
    more.
    """
    freed = connection.execute(
        update(requests)
        .where(requests.c.id == request_id, requests.c.reserve_state == "reserved")
        .values(reserve_state="released")
        .returning(requests.c.key_id, requests.c.reserved_micros)
    ).first()
    if freed is None:
        return False
    connection.execute(
        update(keys)
        .where(keys.c.id == freed.key_id)
        .values(reserved_micros=keys.c.reserved_micros - freed.reserved_micros)
    )
    return True


def _set_aside(connection: Connection, key_id: str | None, micros: int) -> None:
    """One UPDATE that has its condition in it, so that two cannot both take the last cent."""
    if key_id is None:
        return
    taken = keys.c.spent_micros + keys.c.reserved_micros
    limit = keys.c.spending_limit_micros
    fitted = connection.execute(
        update(keys)
        .where(keys.c.id == key_id, or_(limit.is_(None), taken + micros <= limit))
        .values(reserved_micros=keys.c.reserved_micros + micros)
    ).rowcount
    if not fitted:
        left = connection.scalar(select(limit - taken).where(keys.c.id == key_id))
        if left is None:
            raise NotFound(f"No key {key_id}.")
        raise InsufficientBalance(required=micros, available=max(0, left))


def _has_one(connection: Connection, request_id: str) -> bool:
    asked = select(requests.c.id).where(
        requests.c.id == request_id, requests.c.reserve_state == "reserved"
    )
    return connection.scalar(asked) is not None
