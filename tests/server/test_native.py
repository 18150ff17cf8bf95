"""The gateway's own paths: what each can do, and who may read it from a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.live import Live, check_error, serving
from tests.server.test_background import ended, later
from upscale.settings import Settings

ONE = "/v1/requests/req_nope"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path, cors_origins="https://page.test")) as live:
        yield live


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (ONE, {"GET", "HEAD", "DELETE"}),
        (f"{ONE}/events", {"GET", "HEAD"}),
        (f"{ONE}/payloads", {"DELETE"}),
        ("/v1/requests", {"GET", "HEAD"}),
    ],
)
def test_a_path_names_all_that_it_can_do(box: Live, path: str, methods: set[str]) -> None:
    refused = box.client.put(path)
    check_error(refused, 405)
    assert {*refused.headers["allow"].split(", ")} == methods
    asked = box.client.options(path)
    assert asked.status_code == 204
    assert {*asked.headers["allow"].split(", ")} == {*methods, "OPTIONS"}


def test_the_headers_of_events_are_there_before_the_events(box: Live) -> None:
    box.engine.held = True
    job = later(box)["id"]
    assert box.engine.begun.wait(10)
    reply = box.client.head(f"/v1/requests/{job}/events", timeout=5)
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    assert reply.headers["content-type"].startswith("text/event-stream")
    box.engine.held = False
    ended(box, job)
    again = box.client.head(f"/v1/requests/{job}/events", headers={"Last-Event-ID": "end"})
    assert again.status_code == 204
    check_error(box.client.get(f"{ONE}/events"), 404, param="id")
    assert box.client.head(f"{ONE}/events").status_code == 404


def test_pages_may_read_where_a_job_is_and_when_to_come_back(box: Live) -> None:
    reply = box.edit(
        {"model": "bundled-x4", "background": "true"}, headers={"Origin": "https://page.test"}
    )
    assert reply.status_code == 202
    exposed = {each.lower() for each in reply.headers["access-control-expose-headers"].split(", ")}
    assert {"location", "preference-applied", "retry-after", "x-request-id"} <= exposed


def test_a_plus_that_nobody_escaped_is_a_plus(box: Live) -> None:
    job = later(box)["id"]
    for zone, found in (("+00:00", [job]), ("-23:00", [])):
        url = f"/v1/requests?created_after=2026-01-01T00:00:00{zone}"
        when = url if found else url.replace("2026-01-01", "2126-01-01")
        assert [each["id"] for each in box.client.get(when).json()["data"]] == found
