"""The queue of background jobs: turns, attempts, and what the dead leave behind."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update

from tests.records.conftest import opened
from tests.records.making import arrived, read, waiting
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.queue import JobQueue
from upscale.server.records.recovery import lost, recover
from upscale.server.records.requests import RequestLog
from upscale.server.records.tables import requests


def test_keys_take_turns(database: Database) -> None:
    log, ring, queue = RequestLog(database), KeyRing(database), JobQueue(database)
    a, b = ring.create("a")[0].id, ring.create("b")[0].id
    many = [waiting(log, key_id=a) for _ in range(6)]
    few = [waiting(log, key_id=b) for _ in range(2)]
    nobodys = [waiting(log) for _ in range(2)]
    taken = [queue.claim() for _ in range(10)]
    assert queue.claim() is None
    order = [row.id for row in taken if row is not None]
    assert order == [
        many[0], few[0], nobodys[0], many[1], few[1], nobodys[1], *many[2:],
    ]  # fmt: skip
    assert all(row is not None and row.position == 0 for row in taken)
    late = waiting(log, key_id=b)
    waiting(log, key_id=a)
    first = queue.claim()
    assert first is not None
    assert first.id == late


def test_callers_can_be_passed_over(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database)
    key = KeyRing(database).create("one")[0].id
    first, theirs = waiting(log), waiting(log, key_id=key)
    claimed = queue.claim(without={""})
    assert claimed is not None
    assert claimed.id == theirs
    assert queue.claim(without={"", key}) is None
    claimed = queue.claim()
    assert claimed is not None
    assert claimed.id == first


def test_within_a_key_priority_goes_before_arrival(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database)
    low, high, next_ = waiting(log), waiting(log, priority=5), waiting(log)
    arrived(log)  # a foreground request is nobody's to claim
    assert [row.id for row in queue.unfinished()] == [high, low, next_]
    assert [row.id for row in (queue.claim() for _ in range(3)) if row] == [high, low, next_]
    assert queue.claim() is None


def test_a_job_is_claimed_where_its_files_are(database: Database) -> None:
    log = RequestLog(database)
    there = waiting(log, place="b")
    assert JobQueue(database, "a").claim() is None
    found = JobQueue(database, "b").claim()
    assert found is not None
    assert found.id == there


def test_of_many_that_claim_each_job_goes_to_one(url: str) -> None:
    with opened(url) as one, opened(url) as two:
        log = RequestLog(one)
        jobs = {waiting(log) for _ in range(24)}
        taken: list[str] = []
        start = threading.Barrier(6)

        def claim(database: Database) -> None:
            start.wait()
            while (row := JobQueue(database).claim()) is not None:
                taken.append(row.id)

        threads = [threading.Thread(target=claim, args=((one, two)[n % 2],)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 24
        assert set(taken) == jobs


def take(queue: JobQueue) -> str:
    """The id of the next job, which is begun."""
    row = queue.claim()
    assert row is not None
    assert queue.begin(row.id)
    return row.id


def test_what_is_taken_waits_until_it_is_begun(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database)
    job = waiting(log)
    assert not queue.begin(job)  # nobody has taken it
    claimed = queue.claim()
    assert claimed is not None
    assert (claimed.status, claimed.position, claimed.attempts) == ("pending", 0, 0)
    assert queue.claim() is None
    assert queue.waiting() == []
    assert queue.begin(job)
    row = read(log, job)
    assert (row.status, row.position, row.attempts) == ("processing", None, 1)
    assert row.started_at is not None
    assert not queue.begin(job)


def test_another_process_does_not_begin_what_this_one_has_taken(url: str) -> None:
    with opened(url) as one, opened(url) as two:
        job = waiting(RequestLog(one))
        assert JobQueue(one).claim() is not None
        for refused in (JobQueue(two).begin, JobQueue(two).requeue):
            assert not refused(job)
        assert JobQueue(one).begin(job)


def test_a_job_that_waits_again_in_order_counts_no_attempt(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database)
    job = waiting(log)
    assert not queue.requeue(job)
    assert queue.claim() is not None
    assert queue.requeue(job)
    assert read(log, job).attempts == 0
    assert take(queue) == job
    assert queue.requeue(job)
    row = read(log, job)
    assert (row.status, row.attempts, row.started_at) == ("pending", 0, None)
    assert take(queue) == job


def test_a_request_becomes_a_job_with_the_row_that_it_has_then(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database, "here")
    request, over = arrived(log), arrived(log)
    row = queue.add(request, order="{}", source="source")
    assert row == read(log, request)
    assert row is not None
    assert (row.background, row.place, row.order) == (True, "here", "{}")
    log.finish(over, "cancelled")
    assert queue.add(over, order="{}", source="source") is None


def test_the_higher_priority_is_first_and_the_lower_has_one_of_four(database: Database) -> None:
    log, ring, queue = RequestLog(database), KeyRing(database), JobQueue(database)
    high, also, low = (ring.create(name)[0].id for name in ("high", "also", "low"))
    names = {}
    for caller, priority, letter in ((low, -5, "l"), (high, 10, "h"), (also, 10, "a")):
        for _ in range(9):
            names[waiting(log, key_id=caller, priority=priority)] = letter
    foretold = queue.waiting()
    taken = [take(queue) for _ in range(27)]
    assert taken == foretold
    assert "".join(names[job] for job in taken) == "hahlahalhahlahalhahlahallll"


@pytest.mark.parametrize(("place", "provider"), [("there", "local"), ("", "fal")])
def test_turns_in_one_line_take_none_from_another(
    database: Database, place: str, provider: str
) -> None:
    """Else the one job of four for whoever has waited longest might always fall to the others."""
    log, ring, queue = RequestLog(database), KeyRing(database), JobQueue(database)
    high, low = (ring.create(name)[0].id for name in ("high", "low"))
    other, remote = JobQueue(database, place), provider != "local"
    for _ in range(8):
        waiting(log, key_id=high, priority=10)
        waiting(log, key_id=high, place=place, provider=provider)
    job = waiting(log, key_id=low)
    taken = []
    for _ in range(5):
        taken.append(take(queue))
        assert other.claim(remote=remote) is not None
    assert taken.index(job) == 3


def test_jobs_whose_key_is_over_are_taken_by_nobody(database: Database) -> None:
    log, ring, queue = RequestLog(database), KeyRing(database), JobQueue(database)
    revoked, expired, good = (ring.create(name)[0].id for name in ("a", "b", "c"))
    gone = [waiting(log, key_id=revoked), waiting(log, key_id=expired)]
    left = [waiting(log, key_id=good), waiting(log)]
    assert queue.keyless() == []
    ring.revoke("a")
    ring.limit("b", expires=1)
    assert [row.id for row in queue.keyless()] == gone
    assert sorted(queue.waiting()) == sorted(left)
    assert sorted(take(queue) for _ in left) == sorted(left)
    assert queue.claim() is None


def test_what_has_ended_is_not_taken_before_its_record_says_so(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database)
    first, second = waiting(log), waiting(log)
    claimed = queue.claim(ended={first})
    assert claimed is not None
    assert claimed.id == second
    assert queue.claim(ended={first}) is None


def test_jobs_of_a_place_that_nobody_serves_any_more_are_lost(url: str) -> None:
    with opened(url) as living:
        cared = waiting(RequestLog(living), place="elsewhere")
        own = waiting(RequestLog(living), place="here")
        with opened(url) as dying:
            log = RequestLog(dying)
            left, young = waiting(log, place="lost"), waiting(log, place="lost")
            taken = waiting(log, place="lost", priority=1)
            claimed = JobQueue(dying, "lost").claim()
            assert claimed is not None
            assert claimed.id == taken
        with living.write() as connection:
            old = update(requests).where(requests.c.id != young).values(created_at=1000)
            connection.execute(old)
        assert {row.id for row in lost(living, "here", 2000)} == {left, taken}
        assert recover(living, "here").requeued == (taken,)
        assert read(RequestLog(living), taken).owner is None
        # A server that starts there cares for them again.
        with opened(url) as back:
            recover(back, "lost")
            assert lost(living, "here", 2000) == []
            assert read(RequestLog(back), left).attempts == 0
        assert {row.id for row in lost(living, "here", 2000)} == {left, taken}
        for job in (cared, own):
            assert read(RequestLog(living), job).status == "pending"


def test_what_the_dead_left_is_set_right_and_the_living_are_left_alone(url: str) -> None:
    """A closed database stands for a dead process: nobody holds its lock any more."""
    with opened(url) as living:
        beside = arrived(RequestLog(living))
        theirs = waiting(RequestLog(living))
        assert take(JobQueue(living)) == theirs
        with opened(url) as dying:
            log = RequestLog(dying)
            pending = arrived(log, idempotency_key="abc")
            working = arrived(log)
            log.change(working, status="processing")
            done = arrived(log)
            log.finish(done, "completed")
            running, queued = waiting(log), waiting(log)
            assert take(JobQueue(dying)) == running
        with opened(url) as next_one:
            log, queue = RequestLog(next_one), JobQueue(next_one)
            recovered = recover(next_one, "")
            assert set(recovered.cancelled) == {pending, working}
            assert recovered.requeued == (running,)
            assert recovered.failed == recovered.released == ()
            for request in (pending, working):
                row = read(log, request)
                assert (row.status, row.error_code) == ("cancelled", "REQUEST_INTERRUPTED")
                assert row.duration_ms is None
            arrived(log, idempotency_key="abc")  # nobody will answer the first one
            assert read(log, done).status == "completed"
            assert read(log, beside).status == "pending"
            assert read(log, theirs).status == "processing"
            assert [row.id for row in (queue.claim() for _ in range(3)) if row] == [running, queued]
            assert queue.begin(running)
            assert recover(next_one, "").cancelled == ()
        with opened(url) as last:
            recovered = recover(last, "")
            assert recovered.failed == (running,)
            assert recovered.requeued == (queued,)
            assert read(RequestLog(last), running).status == "upstream_failure"
            assert read(RequestLog(last), queued).attempts == 0  # taken twice, and never begun
            assert read(RequestLog(living), beside).status == "pending"


def test_the_name_of_what_was_passed_on_stays_taken(url: str) -> None:
    """A repeat would be paid for again."""
    with opened(url) as dying:
        log = RequestLog(dying)
        owed = {"jobs": [], "spent_micros": 40_000}
        passed_on = arrived(log, idempotency_key="abc")
        log.change(passed_on, early=True, idempotency_kept=True, remote_job=owed)
        asked_for = arrived(log, idempotency_key="def")
        log.change(asked_for, early=True, remote_job=owed)
    with opened(url) as next_one:
        assert set(recover(next_one, "").cancelled) == {passed_on, asked_for}
        names = [read(RequestLog(next_one), id).idempotency_key for id in (passed_on, asked_for)]
        assert names == ["abc", None]
