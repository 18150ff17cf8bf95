"""What is still to be told of jobs that have ended, a page at a time."""

from __future__ import annotations

from tests.records.making import waiting
from upscale.server.records.database import Database
from upscale.server.records.deliveries import Deliveries
from upscale.server.records.requests import RequestLog

URL = "https://example.com/?a=b"


def test_what_has_ended_and_was_not_told_is_known(database: Database) -> None:
    log, deliveries = RequestLog(database), Deliveries(database)
    request, _ = waiting(log, webhook_url=URL), waiting(log)
    assert deliveries.untold(limit=9) == []
    log.finish(request, "completed")
    assert [each.id for each in deliveries.untold(limit=9)] == [request]
    assert Deliveries(database, "elsewhere").untold(limit=9) == []
    log.change(request, webhook_state="delivered")
    assert deliveries.untold(limit=9) == []


def test_pages_share_none_and_leave_none_out(database: Database) -> None:
    log, deliveries = RequestLog(database), Deliveries(database)
    wanted = [waiting(log, webhook_url=URL) for _ in range(7)]
    for request in wanted:
        log.finish(request, "cancelled")
    found = deliveries.untold(limit=3)
    while some := deliveries.untold(found[-1], limit=3):
        found += some
    assert [each.ended for each in found] == sorted(each.ended for each in found)
    assert sorted(each.id for each in found) == sorted(wanted)
