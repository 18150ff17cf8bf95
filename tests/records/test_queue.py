"""The queue of background jobs: turns, attempts, and what the dead leave behind."""

from __future__ import annotations

import threading

from tests.records.conftest import opened
from tests.records.making import arrived, read, waiting
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.queue import JobQueue
from upscale.server.records.requests import RequestLog


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
    assert all(row is not None and row.status == "processing" for row in taken)
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


def test_a_job_that_waits_again_counts_its_attempts(database: Database) -> None:
    log, queue = RequestLog(database), JobQueue(database)
    job = waiting(log)
    assert not queue.requeue(job)
    assert queue.claim() is not None
    assert queue.requeue(job, counted=False)
    claimed = queue.claim()
    assert claimed is not None
    assert claimed.attempts == 1
    assert queue.requeue(job)
    assert read(log, job).started_at is None
    claimed = queue.claim()
    assert claimed is not None
    assert claimed.attempts == 2


def test_what_the_dead_left_is_set_right_and_the_living_are_left_alone(url: str) -> None:
    """A closed database stands for a dead process: nobody holds its lock any more."""
    with opened(url) as living:
        beside = arrived(RequestLog(living))
        theirs = waiting(RequestLog(living))
        claimed = JobQueue(living).claim()
        assert claimed is not None
        with opened(url) as dying:
            log = RequestLog(dying)
            pending = arrived(log, idempotency_key="abc")
            working = arrived(log)
            log.change(working, status="processing")
            done = arrived(log)
            log.finish(done, "completed")
            running, queued = waiting(log), waiting(log)
            found = JobQueue(dying).claim()
            assert found is not None
            assert found.id == running
            log.change(running, progress="{}")
        with opened(url) as next_one:
            log, queue = RequestLog(next_one), JobQueue(next_one)
            recovered = queue.recover()
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
            log.change(running, progress="{}")
            assert queue.recover().cancelled == ()
        with opened(url) as last:
            recovered = JobQueue(last).recover()
            assert recovered.failed == (running,)
            assert recovered.requeued == (queued,)
            assert read(RequestLog(last), running).status == "upstream_failure"
            assert read(RequestLog(last), queued).attempts == 0  # taken twice, and never begun
            assert read(RequestLog(living), beside).status == "pending"
