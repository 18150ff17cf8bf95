"""Spending: reserved, then settled or released, exactly once; the last cent goes to one."""

from __future__ import annotations

import multiprocessing
import threading
from multiprocessing.queues import Queue

import pytest

from tests.records.conftest import opened
from tests.records.making import arrived, read, waiting
from upscale.errors import InsufficientBalance, NotFound
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.recovery import recover
from upscale.server.records.requests import RequestLog
from upscale.server.records.spending import Spending, release_in, settle_in

CENT = 10_000


def test_what_is_reserved_cannot_be_spent_twice(database: Database) -> None:
    ring, log, spending = KeyRing(database), RequestLog(database), Spending(database)
    key, _ = ring.create("one", spending_limit_micros=3 * CENT)
    first, second = arrived(log, key_id=key.id), arrived(log, key_id=key.id)
    spending.reserve(first, key.id, 2 * CENT)
    spending.reserve(first, key.id, 2 * CENT)  # again is not twice
    assert ring.get("one").available_micros == CENT
    with pytest.raises(InsufficientBalance, match=r"requires \$0\.020000, \$0\.010000") as refused:
        spending.reserve(second, key.id, 2 * CENT)
    assert (refused.value.required, refused.value.available) == (2 * CENT, CENT)
    assert read(log, second).reserve_state == "none"
    spending.reserve(second, key.id, CENT)
    with database.write() as connection:
        assert settle_in(connection, first, CENT)
        assert not settle_in(connection, first, CENT)
        assert not release_in(connection, first)
        assert release_in(connection, second)
        assert not release_in(connection, second)
        assert not settle_in(connection, second, CENT)
    now = ring.get("one")
    assert (now.spent_micros, now.reserved_micros) == (CENT, 0)
    assert read(log, first).cost_micros == CENT


def test_ending_a_request_settles_or_releases(database: Database) -> None:
    ring, log, spending = KeyRing(database), RequestLog(database), Spending(database)
    key, _ = ring.create("one", spending_limit_micros=100 * CENT)
    ends = {
        "completed": (7, 7),
        "cancelled": (0, 7),
        "rejected": (0, 7),
        "upstream_failure": (2, 9),
    }
    for status, (cost, total) in ends.items():
        request = arrived(log, key_id=key.id)
        spending.reserve(request, key.id, 10)
        assert log.finish(request, status, cost_micros=cost)  # type: ignore[arg-type]
        assert not log.finish(request, "completed", cost_micros=5)
        now = ring.get("one")
        assert (now.spent_micros, now.reserved_micros) == (total, 0)
        with pytest.raises(NotFound):
            spending.reserve(request, key.id, 10)


def test_without_a_key_or_a_limit_nothing_stands_against_it(database: Database) -> None:
    ring, log, spending = KeyRing(database), RequestLog(database), Spending(database)
    key, _ = ring.create("one")
    mine, nobodys = arrived(log, key_id=key.id), arrived(log)
    spending.reserve(mine, key.id, 1 << 40)
    spending.reserve(nobodys, None, 1 << 40)
    assert log.finish(mine, "completed", cost_micros=1 << 40)
    assert log.finish(nobodys, "completed", cost_micros=5)
    assert ring.get("one").spent_micros == 1 << 40
    assert read(log, nobodys).cost_micros == 5
    with pytest.raises(NotFound):
        spending.reserve("req_none", key.id, 1)
    with pytest.raises(ValueError, match="below zero"):
        spending.reserve(mine, key.id, -1)
    with database.write() as connection, pytest.raises(ValueError, match="below zero"):
        settle_in(connection, mine, -1)


def test_reservations_of_the_dead_come_back_and_those_of_waiting_jobs_stay(url: str) -> None:
    with opened(url) as dying:
        ring, log, spending = KeyRing(dying), RequestLog(dying), Spending(dying)
        key, _ = ring.create("one", spending_limit_micros=CENT)
        for request in (arrived(log, key_id=key.id), waiting(log, key_id=key.id)):
            spending.reserve(request, key.id, 100)
    with opened(url) as next_one:
        recover(next_one, "")
        assert KeyRing(next_one).get("one").reserved_micros == 100


def _race(url: str, key_id: str, name: str, rounds: int, results: Queue[int]) -> None:
    """Threads that reserve and settle a cent as long as there is one; tells how many they got."""
    won: list[str] = []
    with opened(url, busy_seconds=60.0) as database:
        log, spending = RequestLog(database), Spending(database)

        def run(thread: int) -> None:
            for number in range(rounds):
                request = arrived(log, id=f"{name}-{thread}-{number}", key_id=key_id)
                try:
                    spending.reserve(request, key_id, CENT)
                except InsufficientBalance:
                    log.finish(request, "rejected")
                    continue
                if number % 3 == 0:
                    log.finish(request, "cancelled")
                else:
                    log.finish(request, "completed", cost_micros=CENT)
                    won.append(request)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    results.put(len(won))


@pytest.mark.slow
def test_a_thousand_races_for_the_last_cent(url: str) -> None:
    with opened(url) as database:
        ring = KeyRing(database)
        key, _ = ring.create("one", spending_limit_micros=100 * CENT)
        spawn = multiprocessing.get_context("spawn")
        results: Queue[int] = spawn.Queue()
        racers = [
            spawn.Process(target=_race, args=(url, key.id, f"p{n}", 125, results)) for n in range(4)
        ]
        for racer in racers:
            racer.start()
        won = sum(results.get(timeout=300) for _ in racers)
        for racer in racers:
            racer.join(30)
            assert racer.exitcode == 0
        end = ring.get("one")
        assert won == 100
        assert (end.spent_micros, end.reserved_micros) == (100 * CENT, 0)
        sums = RequestLog(database).summary()
        assert sums.requests == 1000
        assert sums.cost_micros == 100 * CENT
        assert sums.statuses["completed"] == 100
        assert sums.statuses["pending"] == 0


def test_two_at_once_for_the_one_last_cent(database: Database) -> None:
    ring, log, spending = KeyRing(database), RequestLog(database), Spending(database)
    key, _ = ring.create("one", spending_limit_micros=0)
    for round_ in range(1, 21):
        ring.limit("one", spending_limit_micros=round_ * CENT)
        pair = [arrived(log, key_id=key.id) for _ in range(2)]
        start, won = threading.Barrier(2), []

        def take(request: str, start: threading.Barrier = start, won: list[str] = won) -> None:
            start.wait()
            try:
                spending.reserve(request, key.id, CENT)
            except InsufficientBalance:
                return
            won.append(request)

        threads = [threading.Thread(target=take, args=(request,)) for request in pair]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert log.finish(won[0], "completed", cost_micros=CENT)
