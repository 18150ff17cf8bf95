"""A day of requests, read forwards and backwards: each once, in order, whatever the filters."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from tests.records.conftest import opened
from tests.records.making import PATH, arrived
from upscale.errors import InvalidParameter
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.paging import Chosen
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival, Row, columns_of
from upscale.server.records.tables import requests

COUNT = 3000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RequestLog, list[Row]]]:
    """Requests of two keys and of none, many of them at the same millisecond; newest first."""
    folder: Path = tmp_path_factory.mktemp("day")
    with opened(f"sqlite:///{folder}/records.db") as database:
        yield filled(database, COUNT)


def filled(database: Database, count: int) -> tuple[RequestLog, list[Row]]:
    ring, draw = KeyRing(database), random.Random(7)
    callers = [ring.create("a")[0].id, ring.create("b")[0].id, None]
    names = [f"req_{n:05d}" for n in range(count)]
    draw.shuffle(names)
    rows = []
    for name in names:
        arrival = Arrival(
            name, PATH, key_id=draw.choice(callers), created_at=draw.randrange(count // 5)
        )
        row = columns_of(arrival, 0)
        row |= {"status": draw.choice(["completed", "rejected"]), "cost_micros": 10}
        rows.append(row)
    with database.write() as connection:
        connection.execute(insert(requests), rows)
        found = [Row.of(row) for row in connection.execute(select(requests))]
    newest = sorted(found, key=lambda row: (row.created_at, row.id), reverse=True)
    return RequestLog(database), newest


def forwards(log: RequestLog, chosen: Chosen, limit: int) -> list[Row]:
    """All pages from the newest to the oldest."""
    page = log.page(chosen, limit=limit)
    assert not page.newer
    found = list(page.rows)
    while page.older:
        page = log.page(chosen, limit=limit, starting_after=found[-1].id)
        assert page.newer
        assert 0 < len(page.rows) <= limit
        found += page.rows
    return found


def backwards(log: RequestLog, chosen: Chosen, limit: int, last: str) -> list[Row]:
    """All pages before `last`, from there to the newest."""
    found: list[Row] = []
    while True:
        cursor = found[0].id if found else last
        page = log.page(chosen, limit=limit, ending_before=cursor)
        assert page.older
        found = [*page.rows, *found]
        if not page.newer:
            return found


@pytest.mark.parametrize("limit", [41, 100])
def test_a_day_is_paged_both_ways(day: tuple[RequestLog, list[Row]], limit: int) -> None:
    log, every = day
    assert forwards(log, Chosen(), limit) == every
    assert backwards(log, Chosen(), limit, every[-1].id) == every[:-1]


def test_both_databases_page_alike(database: Database) -> None:
    log, every = filled(database, 300)
    assert forwards(log, Chosen(), 19) == every
    assert backwards(log, Chosen(), 19, every[-1].id) == every[:-1]


@settings(max_examples=30, deadline=None)
@given(
    key=st.sampled_from(["a", "b", None]),
    status=st.sampled_from(["completed", "rejected", None]),
    after=st.none() | st.integers(0, COUNT // 5),
    before=st.none() | st.integers(0, COUNT // 5),
    limit=st.integers(1, 100),
)
def test_filters_choose_what_they_say(
    day: tuple[RequestLog, list[Row]], key: str, status: str, after: int, before: int, limit: int
) -> None:
    log, every = day
    key_id = KeyRing(log._database).get(key).id if key else None
    chosen = Chosen(key_id, None, status, after, before)  # type: ignore[arg-type]
    wanted = [
        row
        for row in every
        if (key_id is None or row.key_id == key_id)
        and (status is None or row.status == status)
        and (after is None or row.created_at > after)
        and (before is None or row.created_at < before)
    ]
    page = log.page(chosen, limit=limit)
    assert list(page.rows) == wanted[:limit]
    assert page.older == (len(wanted) > limit)
    if page.older:
        rest = log.page(chosen, limit=limit, starting_after=page.rows[-1].id)
        assert list(rest.rows) == wanted[limit : 2 * limit]
        back = log.page(chosen, limit=limit, ending_before=rest.rows[0].id)
        assert back.rows == page.rows
        assert (back.newer, back.older) == (False, True)
    sums = log.summary(chosen)
    assert sums.requests == len(wanted)
    assert sums.cost_micros == 10 * len(wanted)
    assert sums.statuses["completed"] == sum(row.status == "completed" for row in wanted)


def test_requests_that_arrive_meanwhile_change_no_page(sqlite: Database) -> None:
    log = RequestLog(sqlite)
    old = [arrived(log, created_at=1) for _ in range(5)]
    page = log.page(limit=2)
    arrived(log, created_at=2)
    rest = log.page(limit=10, starting_after=page.rows[-1].id)
    assert [row.id for row in (*page.rows, *rest.rows)] == sorted(old, reverse=True)
    assert rest.newer


def test_cursors_and_limits_are_checked(database: Database) -> None:
    log, ring = RequestLog(database), KeyRing(database)
    mine, other = ring.create("mine")[0].id, ring.create("other")[0].id
    request = arrived(log, key_id=other)
    wrong = [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"starting_after": request, "ending_before": request}, "ending_before"),
        ({"starting_after": "req_none"}, "starting_after"),
        ({"ending_before": request, "chosen": Chosen(key_id=mine)}, "ending_before"),
    ]
    for call, field in wrong:
        with pytest.raises(InvalidParameter) as refused:
            log.page(**call)  # type: ignore[arg-type]
        assert refused.value.field == field
    assert log.page(starting_after=request).rows == ()
    assert log.page(starting_after=request).newer


def test_the_mean_duration_is_that_of_what_completed(database: Database) -> None:
    log = RequestLog(database)
    assert log.summary().mean_duration_ms is None
    for status, took in (("completed", 100), ("completed", 300), ("cancelled", 9000)):
        log.finish(arrived(log), status, duration_ms=took)  # type: ignore[arg-type]
    sums = log.summary()
    assert sums.mean_duration_ms == 200
    assert sums.statuses["cancelled"] == 1
    assert sums.statuses["pending"] == 0
