"""A database that another process holds for long keeps nobody waiting for longer than promised."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.server.live import serving
from tests.server.test_background import post
from upscale.errors import RecordsFault
from upscale.server import threads
from upscale.server.records.patience import seconds_left
from upscale.settings import Settings

# See docs/decisions/016-overload-and-faults.md.
PROMISED = 20
AT_ONCE = 48


def test_of_many_on_a_locked_database_each_is_answered_in_time(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path)) as box:
        assert post(box).status_code == 200

        def timed() -> tuple[int, float]:
            begun = time.monotonic()
            status = post(box).status_code
            return status, time.monotonic() - begun

        file = tmp_path / "records.db"
        with (
            closing(sqlite3.connect(file, isolation_level=None)) as other,
            ThreadPoolExecutor(AT_ONCE) as callers,
        ):
            other.execute("BEGIN IMMEDIATE")
            asked = [callers.submit(timed) for _ in range(AT_ONCE)]
            time.sleep(2)  # all of them wait by now
            begun = time.monotonic()
            for path in ("/openai/v1/models", "/v1/requests"):
                assert box.client.get(path).status_code == 200
            assert time.monotonic() - begun < 2
            assert not all(each.done() for each in asked)
            replies = [each.result() for each in asked]
            other.execute("ROLLBACK")
        assert {status for status, _ in replies} == {503}
        assert max(seconds for _, seconds in replies) < PROMISED
        assert post(box).status_code == 200


def test_what_waited_for_its_time_in_the_queue_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "_PATIENCE_SECONDS", 0.05)
    begun = threading.Event()

    def write() -> None:
        seconds_left(5.0)
        begun.set()

    async def late() -> None:
        with ThreadPoolExecutor(1) as one:
            monkeypatch.setattr(threads, "_WRITERS", one)
            one.submit(time.sleep, 0.2)
            with pytest.raises(RecordsFault, match="too long"):
                await threads.whole(write)
            await threads.whole(write)

    asyncio.run(late())
    assert begun.is_set()


def test_a_write_has_what_is_left_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def left(most: float) -> float:
        return await threads.whole(lambda: seconds_left(most))

    assert asyncio.run(left(1.0)) == 1.0
    assert 4.0 < asyncio.run(left(100.0)) <= 5.0
    assert seconds_left(100.0) == 100.0


def test_steps_are_done_however_often_their_caller_is_cancelled() -> None:
    async def main() -> None:
        go, done = asyncio.Event(), []

        async def steps() -> None:
            await go.wait()
            done.append(None)

        task = asyncio.create_task(threads.to_its_end(steps()))
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done

    asyncio.run(main())
