"""What is still to be told of background jobs that have ended."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text, tuple_

from upscale.server.records.database import Database
from upscale.server.records.rows import ENDED
from upscale.server.records.tables import requests


@dataclass(frozen=True)
class Untold:
    """A job whose end was not told yet; `ended` in milliseconds since 1970."""

    ended: int
    id: str


class Deliveries:
    """Those in `database` that the servers at `place` tell."""

    def __init__(self, database: Database, place: str = "") -> None:
        self._database, self._place = database, place

    def untold(self, after: Untold | None = None, *, limit: int) -> list[Untold]:
        """The oldest of them that follow `after`, at most `limit`."""
        ended, id = requests.c.finished_at, requests.c.id
        asked = (
            select(ended, id)
            # As the index has it: a value that is bound is not looked into for that.
            .where(text("webhook_state = 'pending'"), requests.c.status.in_(ENDED))
            .where(requests.c.place == self._place)
            .order_by(ended, id)
            .limit(limit)
        )
        if after is not None:
            asked = asked.where(tuple_(ended, id) > (after.ended, after.id))
        with self._database.read() as connection:
            return [Untold(row.finished_at, row.id) for row in connection.execute(asked)]
