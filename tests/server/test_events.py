"""Streams of events: as many as may be, and no trace of those that are over."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from tests.records.making import PATH
from tests.server.live import check_error, serving, wait_for
from tests.server.test_background import later
from upscale.server import app, feeds
from upscale.server.records.database import Database
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival
from upscale.settings import Settings


def test_of_many_that_come_at_once_no_more_are_let_in_than_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "_WATCHERS", 4)
    with serving(Settings(data_dir=tmp_path, drain_seconds=0)) as live, ExitStack() as open_ones:
        live.engine.held = True
        url = f"{live.url}/v1/requests/{later(live)['id']}/events"

        def watch(_: int) -> httpx.Response:
            client = open_ones.enter_context(httpx.Client(timeout=30))
            return open_ones.enter_context(client.stream("GET", url))

        with ThreadPoolExecutor(12) as threads:
            replies = list(threads.map(watch, range(12)))
        statuses = sorted(reply.status_code for reply in replies)
        assert statuses == [200] * 4 + [429] * 8
        refused = next(reply for reply in replies if reply.status_code == 429)
        refused.read()
        assert "one caller may have no more than 4" in check_error(refused, 429, "RATE_LIMITED")
        assert int(refused.headers["retry-after"]) >= 1
        live.engine.held = False


def test_who_watches_the_job_of_another_server_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[feeds.Feeds] = []

    def make() -> feeds.Feeds:
        made.append(feeds.Feeds())
        return made[-1]

    monkeypatch.setattr(app, "Feeds", make)
    with serving(Settings(data_dir=tmp_path)) as live:
        with closing(Database.of(live.settings)) as database:
            job = Arrival("req_far", PATH, background=True, order="{}", place="far away")
            assert RequestLog(database).arrive(job) is None
        with live.client.stream("GET", "/v1/requests/req_far/events") as reply:
            pieces = reply.iter_text()  # named, so that it lives: its end would be the stream's
            next(pieces)
            assert made[0].get("req_far") is not None
        wait_for(lambda: made[0].get("req_far") is None)
