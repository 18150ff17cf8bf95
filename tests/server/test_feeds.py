"""Feeds of requests: who may watch, what stays in memory, how fast a job is told to be."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from upscale.engine.receipt import Progress
from upscale.errors import RateLimited
from upscale.server import feeds
from upscale.server.feeds import Feed, Feeds, described


def test_one_caller_leaves_room_for_others_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "_WATCHERS", 3)
    ours = Feeds()
    places = [ours.place(caller) for caller in ("many", "many", "many", "few")]
    for place in places[:3]:
        place.__enter__()
    with pytest.raises(RateLimited, match="one caller"), ours.place("many"):
        pass
    places[3].__enter__()
    with pytest.raises(RateLimited, match="4 streams are open; all callers"), ours.place("third"):
        pass
    for place in places:
        place.__exit__(None, None, None)
    with ours.place("third"):
        pass


def test_a_feed_of_what_is_done_elsewhere_lives_while_it_is_watched() -> None:
    ours = Feeds()
    with ours.watched("a") as first, ours.watched("a") as second:
        assert first is second is ours.get("a")
    assert ours.get("a") is None
    with ours.watched("a") as watched:
        assert ours.open("a") is watched  # this process takes it up meanwhile
    assert ours.get("a") is watched
    ours.end("a", "completed")
    assert ours.get("a") is None


def test_a_job_that_waits_again_is_told_so_and_is_anybodys() -> None:
    async def scene() -> None:
        ours = Feeds()
        ours.open("a").progress = {"tiles_done": 3}
        ours.leave("a")
        assert ours.get("a") is None
        ours.open("b").progress = {"tiles_done": 3}
        with ours.watched("b") as feed:
            ours.leave("b")
            assert feed.progress is None
            event = await anext(feed.after(0))
            assert event is not None
            assert (event.kind, event.data) == ("state", {"status": "pending"})
        assert ours.get("b") is None

    asyncio.run(scene())


def test_the_speed_is_that_of_tiles_before_any_row_is_finished() -> None:
    plan: Any = SimpleNamespace(width=4000, height=1000, expected_seconds=9.0)
    told = described(Progress("upscale", 2, 8, 0.0, 3.0), plan, 2.0)
    assert told["megapixels_per_second"] == 0.5
    assert told["seconds_left"] == 6.0
    begun = described(Progress("decode", 0, 8, 0.0, 0.0), plan, 0.0)
    assert begun["megapixels_per_second"] is None
    assert begun["seconds_left"] == 9.0


def test_nothing_follows_the_last_event() -> None:
    feed = Feed()
    feed.tell("state", {"status": "completed"}, last=True)
    feed.tell("state", {"status": "processing"})
    assert feed.ended

    async def all_of_it() -> list[Any]:
        return [event async for event in feed.after(0)]

    assert len(asyncio.run(all_of_it())) == 1
