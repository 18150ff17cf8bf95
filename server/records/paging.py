"""Pages of requests, newest first, and sums over them.

The order is by time of arrival and, within a millisecond, by id: two pages never share a request,
and none falls between them, however many arrive meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, select, tuple_

from upscale.errors import InvalidParameter
from upscale.server.records.rows import ENDED, UNFINISHED, Row, Status
from upscale.server.records.tables import requests

MOST = 100
_order = tuple_(requests.c.created_at, requests.c.id)


@dataclass(frozen=True)
class Chosen:
    """Which requests; what is None lets all pass. Times in milliseconds, both ends left out.

    `caller` is a key's id or '', for those of nobody.
    """

    key_id: str | None = None
    caller: str | None = None
    status: Status | None = None
    created_after: int | None = None
    created_before: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """For a WHERE."""
        table, found = requests.c, []
        if self.key_id is not None:
            found.append(table.key_id == self.key_id)
        if self.caller is not None:
            found.append(table.caller == self.caller)
        if self.status is not None:
            found.append(table.status == self.status)
        if self.created_after is not None:
            found.append(table.created_at > self.created_after)
        if self.created_before is not None:
            found.append(table.created_at < self.created_before)
        return found


@dataclass(frozen=True)
class Page:
    """Requests, newest first, and whether there are more of them before and after."""

    rows: tuple[Row, ...]
    newer: bool
    older: bool


@dataclass(frozen=True)
class Summary:
    """Sums; `statuses` has a number for each status, `mean_duration_ms` is of those completed."""

    requests: int
    statuses: dict[str, int]
    cost_micros: int
    sent_bytes: int
    mean_duration_ms: float | None


def read_page(
    connection: Connection,
    chosen: Chosen,
    limit: int,
    starting_after: str | None,
    ending_before: str | None,
) -> Page:
    """`RequestLog.page`, in a transaction."""
    if not 1 <= limit <= MOST:
        raise InvalidParameter("limit", limit, f"a whole number from 1 to {MOST}")
    if starting_after is not None and ending_before is not None:
        raise InvalidParameter("ending_before", ending_before, "one of the two cursors, not both")
    asked = select(requests).where(*chosen.conditions())
    upwards = ending_before is not None
    cursor = None
    if ending_before is not None:
        cursor = _place(connection, chosen, "ending_before", ending_before)
        asked = asked.where(_order > cursor)
    elif starting_after is not None:
        cursor = _place(connection, chosen, "starting_after", starting_after)
        asked = asked.where(_order < cursor)
    directions = [column.asc() if upwards else column.desc() for column in _columns()]
    found = connection.execute(asked.order_by(*directions).limit(limit + 1)).all()
    rows = [Row.of(row) for row in found[:limit]]
    more = len(found) > limit
    # Behind us lies at least the cursor itself, unless it does not pass the filters.
    behind = cursor is not None and _any_behind(connection, chosen, cursor, upwards)
    if upwards:
        return Page(tuple(reversed(rows)), newer=more, older=behind)
    return Page(tuple(rows), newer=behind, older=more)


def read_summary(connection: Connection, chosen: Chosen) -> Summary:
    """`RequestLog.summary`, in a transaction."""
    table = requests.c
    groups = connection.execute(
        select(
            table.status,
            func.count(),
            func.coalesce(func.sum(table.cost_micros), 0),
            func.coalesce(func.sum(table.sent_bytes), 0),
            func.avg(table.duration_ms),
        )
        .where(*chosen.conditions())
        .group_by(table.status)
    ).all()
    statuses: dict[str, int] = dict.fromkeys((*UNFINISHED, *ENDED), 0)
    mean = None
    for status, count, _, _, duration in groups:
        statuses[status] = count
        if status == "completed" and duration is not None:
            mean = float(duration)
    cost, sent = (sum(int(group[column]) for group in groups) for column in (2, 3))
    return Summary(sum(statuses.values()), statuses, cost, sent, mean)


def _columns() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return requests.c.created_at, requests.c.id


def _place(connection: Connection, chosen: Chosen, field: str, request_id: str) -> Any:
    """Where a cursor stands. One of another key is unknown."""
    asked = select(*_columns()).where(requests.c.id == request_id)
    if chosen.key_id is not None:
        asked = asked.where(requests.c.key_id == chosen.key_id)
    if chosen.caller is not None:
        asked = asked.where(requests.c.caller == chosen.caller)
    found = connection.execute(asked).first()
    if found is None:
        raise InvalidParameter(field, request_id, "the id of a request in this list")
    return tuple_(found.created_at, found.id)


def _any_behind(connection: Connection, chosen: Chosen, cursor: Any, upwards: bool) -> bool:
    side = _order <= cursor if upwards else _order >= cursor
    return bool(connection.scalar(select(exists().where(*chosen.conditions(), side))))
