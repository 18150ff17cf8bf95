"""fal.ai: the queue, its faults, and that nothing is ever paid twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.providers.rig import Rig
from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS
from upscale.providers.body import json_body
from upscale.providers.fal import Fal
from upscale.providers.outcome import Failure, Kind
from upscale.providers.queued import Seen
from upscale.providers.sites import site_of
from upscale.providers.task import RemoteJob, Trail
from upscale.providers.transport import Reply, Transport


@pytest.fixture
def rig(stubs: dict[str, Stub], tmp_path: Path) -> Rig:
    return Rig("fal", stubs["fal"], tmp_path)


def test_a_picture_goes_and_comes(rig: Rig) -> None:
    result = rig.run(factor="2.5", fields={"seed": "7", "noise_scale": 0.2, "other": "x"})
    assert Image.open(result.path).size == (30, 20)
    assert result.path.stat().st_mode & 0o777 == 0o600
    job = rig.stub.jobs["req-0001"]
    assert job.sent == {
        "image_url": f"{rig.stub.files}/files/1-req_test0001.png",
        "upscale_mode": "factor",
        "upscale_factor": 2.5,
        "output_format": "png",
        "seed": 7,
        "noise_scale": 0.2,
        "other": "x",
    }
    assert result.job.id == "req-0001"
    assert result.units == Decimal("0.0006")
    assert result.cost_micros == round(rig.stub.billed * 1_000_000)
    assert rig.notes.states == ["sending", "running", "done"]
    assert rig.notes.jobs[0].id == ""
    assert (None, "running") in rig.notes.progress


def test_the_key_goes_to_the_api_only(rig: Rig) -> None:
    rig.stub.fault = "redirect"
    rig.stub.times = 1
    rig.run()
    assert not rig.stub.leaks
    assert not rig.stub.wrong_keys


def test_urls_of_the_reply_are_led_to_the_base_url(rig: Rig) -> None:
    for fault in ("official_urls", "no_urls", "foreign_urls"):
        rig.stub.fault = fault
        assert rig.run().size > 0, fault


REFUSED = {
    "429": (Kind.BUSY, True),
    "503": (Kind.BROKEN, True),
    "500": (Kind.BROKEN, True),
    "403": (Kind.KEY, True),
    "locked": (Kind.BALANCE, True),
    "404": (Kind.GONE, True),
    "422": (Kind.INPUT, False),
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
def test_what_was_refused_is_not_billed(rig: Rig, fault: str) -> None:
    kind, elsewhere = REFUSED[fault]
    rig.stub.fault = fault
    failure = rig.fails()
    assert failure.kind is kind
    assert failure.elsewhere is elsewhere
    assert failure.billed == "no"
    assert rig.stub.paid == 0
    assert KEYS["fal"] not in failure.message


def test_a_request_that_vanished_is_in_doubt(rig: Rig) -> None:
    rig.stub.fault = "cut_early"
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)
    assert rig.stub.calls["find"] == 3
    assert rig.notes.last.state == "sending"


def test_a_result_that_cannot_be_had_may_have_been_billed(rig: Rig) -> None:
    rig.stub.fault = "result_html"
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.RUN_FAILED, "maybe", False)
    assert "None" not in failure.message
    job = rig.notes.last
    assert rig.ask(lambda adapter: adapter.abandon(job)).billed == "maybe"
    rig.stub.fault = ""
    assert rig.ask(lambda adapter: adapter.abandon(job)).billed == "yes"


def test_a_short_wait_is_waited_for(rig: Rig) -> None:
    rig.stub.fault, rig.stub.times = "429", 1
    rig.run()
    assert rig.stub.paid == 1
    assert rig.clock.skipped > 1


def test_a_long_wait_is_not(rig: Rig) -> None:
    rig.stub.fault, rig.stub.wait = "429", "55"
    failure = rig.fails()
    assert (failure.kind, failure.retry_after) == (Kind.BUSY, 55)
    assert rig.stub.calls["submit"] == 1


@pytest.mark.parametrize("fault", ["cut_reply", "half_reply"])
def test_a_lost_reply_is_looked_up_and_the_job_goes_on(rig: Rig, fault: str) -> None:
    rig.stub.fault, rig.stub.times = fault, 1
    assert rig.run().job.id == "req-0001"
    assert rig.stub.paid == 1
    assert rig.stub.calls["find"] == 1


def test_a_lost_reply_that_cannot_be_looked_up_is_in_doubt(rig: Rig) -> None:
    rig.stub.fault = "cut_reply"
    adapter_find = Fal.find

    async def nothing(self: Fal, job: Any) -> None:
        return None

    Fal.find = nothing  # type: ignore[assignment, method-assign]
    try:
        failure = rig.fails()
    finally:
        Fal.find = adapter_find  # type: ignore[method-assign]
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)
    assert rig.stub.paid == 1
    assert rig.notes.last.state == "sending"


FAILED = {
    "completed_error": (Kind.RUN_FAILED, "no", True),
    "result_500": (Kind.RUN_FAILED, "no", True),
    "result_422": (Kind.INPUT, "yes", False),
    "result_422_free": (Kind.INPUT, "no", False),
    "policy": (Kind.POLICY, "yes", False),
    "no_output": (Kind.BAD_RESULT, "yes", False),
    "data_uri": (Kind.BAD_RESULT, "yes", False),
    "no_picture": (Kind.BAD_RESULT, "yes", False),
    "oversized": (Kind.BAD_RESULT, "yes", False),
    "truncated": (Kind.BAD_RESULT, "yes", False),
    "file_gone": (Kind.BAD_RESULT, "yes", False),
    "redirect_foreign": (Kind.BAD_RESULT, "yes", False),
    "foreign_link": (Kind.BAD_RESULT, "yes", False),
    "private_link": (Kind.BAD_RESULT, "yes", False),
}


@pytest.mark.parametrize("fault", sorted(FAILED))
def test_a_run_that_failed(rig: Rig, fault: str) -> None:
    rig.stub.fault = fault
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == FAILED[fault]
    assert rig.stub.paid == 1
    assert rig.stub.foreign == 0
    assert failure.job == "req-0001"
    assert not list(rig.folder.glob("out-*"))
    assert rig.notes.last.billed == failure.billed
    if failure.billed == "no":
        assert rig.stub.billed == 0


@pytest.mark.parametrize("fault", ["poll_500", "poll_429", "poll_cut", "result_cut", "truncated"])
def test_free_calls_are_repeated(rig: Rig, fault: str) -> None:
    rig.stub.fault, rig.stub.times = fault, 2
    rig.run()
    assert rig.stub.paid == 1


def test_the_picture_goes_to_the_providers_hosts_only(rig: Rig) -> None:
    rig.stub.fault = "foreign_upload"
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.BARRED, "no", True)
    assert (rig.stub.paid, rig.stub.calls["put"]) == (0, 0)


def test_an_unknown_status_is_waited_out(rig: Rig) -> None:
    rig.stub.fault = "odd_status"
    rig.run()


def test_a_job_that_is_late_is_cancelled(rig: Rig) -> None:
    rig.stub.fault = "stuck"
    failure = rig.fails(seconds=30.0)
    assert (failure.kind, failure.elsewhere) == (Kind.TOO_LATE, False)
    assert rig.stub.calls["cancel"] == 1
    assert rig.notes.last.state == "cancelled"


def test_what_a_cancelled_job_cost_is_noted(rig: Rig) -> None:
    rig.stub.fault = "cancel_runs_on"
    rig.stub.polls = 1 << 30
    rig.fails(seconds=20.0)
    assert rig.notes.last.billed == "yes"


def test_a_caller_that_goes_away_has_the_job_cancelled(rig: Rig) -> None:
    rig.stub.polls = 1 << 30
    rig.leave()
    assert rig.stub.calls["cancel"] == 1
    assert rig.notes.last.state == "cancelled"


def test_a_crash_is_resolved_from_what_was_noted(rig: Rig) -> None:
    rig.run()
    for job in rig.notes.jobs[:2]:
        found = rig.ask(lambda adapter, job=job: adapter.resume(rig.task(), job))
        assert found.job.id == "req-0001"
    assert rig.stub.paid == 1


def test_prices_are_fetched(rig: Rig) -> None:
    wanted = ["fal-ai/esrgan", "fal-ai/topaz/upscale/image", "no/such"]
    assert rig.ask(lambda adapter: adapter.prices(wanted)) == {
        "fal-ai/esrgan": (Decimal("0.00111"), "compute seconds"),
        "fal-ai/topaz/upscale/image": (Decimal("0.01"), "units"),
    }


def test_a_dead_host_is_not_reached(rig: Rig) -> None:
    rig.stub.url, kept = "http://127.0.0.1:1", rig.stub.url
    try:
        failure = rig.fails()
    finally:
        rig.stub.url = kept
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.UNREACHED, "no", True)


def test_a_refusal_that_names_a_job_is_not_sent_again(rig: Rig) -> None:
    rig.stub.fault, rig.stub.times = "late_503", 1
    assert rig.run().job.id == "req-0001"
    assert rig.stub.paid == 1


def test_where_nobody_can_be_asked_the_call_stays_in_doubt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the list of requests cannot be had does not say that a job is not there."""

    async def unlisted(self: Any, job: Any) -> None:
        raise Failure(Kind.UNREACHED, "not reached.")

    rig.stub.fault = "500"
    failure = rig.fails()
    assert (failure.kind, failure.elsewhere) == (Kind.BROKEN, True)
    monkeypatch.setattr(Fal, "find", unlisted)
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)


def test_a_gateway_s_time_out_is_in_doubt_though_nothing_is_listed(rig: Rig) -> None:
    rig.stub.fault = "gone_504"
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)
    assert rig.stub.paid == 1
    assert rig.notes.states == ["sending"]  # a record that says "unsent" would be forgotten


@pytest.mark.parametrize("fault", ["bad_upload", "foreign_upload", "initiate_404"])
def test_a_place_for_files_that_is_none_gets_nothing(rig: Rig, fault: str) -> None:
    rig.stub.fault = fault
    trail = Trail()
    failure = rig.fails(trail=trail)
    assert (failure.billed, failure.elsewhere, failure.outcome.off) == ("no", True, False)
    assert not trail.sent_to
    assert not rig.stub.uploads


@pytest.mark.parametrize(("status", "units"), [(500, "3"), (422, "3"), (200, "1")])
def test_reported_units_are_billed(
    rig: Rig, status: int, units: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answered(self: Any, job: Any) -> Reply:
        return Reply(status, httpx.Headers({"x-fal-billable-units": units}), b"{}")

    monkeypatch.setattr(Fal, "_result", answered)
    job = RemoteJob("fal", "fal-ai/esrgan", id="req-1")

    async def bill(adapter: Any) -> Any:
        adapter.unit_prices["fal-ai/esrgan"] = Decimal("0.01")
        return await adapter.bill(job, Seen(True, "completed"))

    assert rig.ask(bill) == ("yes", int(units) * 10_000)


def test_a_list_of_prices_of_another_shape_has_none(rig: Rig) -> None:
    rig.stub.fault = "null_prices"
    assert rig.ask(lambda adapter: adapter.prices(["fal-ai/esrgan"])) == {}


def test_files_go_to_the_address_that_was_checked(rig: Rig) -> None:
    """A name that resolves otherwise a moment later gains nothing."""
    host = "files.of.fal.example"
    port = rig.stub.files.rsplit(":", 1)[1]

    async def once() -> Reply:
        site = replace(site_of("fal", rig.settings()), trusted=host)

        async def resolver(name: str, port: int) -> list[str]:
            assert name == host
            return ["127.0.0.1"]

        ours = Transport(site, resolver=resolver)
        body = json_body({})
        return await ours.free("PUT", f"http://{host}:{port}/put/a", body=body, key=False)

    assert asyncio.run(once()).status == 200
    assert rig.stub.uploads == {"a": b"{}"}
