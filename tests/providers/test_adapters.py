"""What holds for every adapter: the exchange, doubt, refusals, results, stopping."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.providers.rig import MODELS, STUBS, Rig
from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS
from upscale.errors import OutputFault
from upscale.models.catalogue import RoutePrice
from upscale.providers import topaz
from upscale.providers.outcome import Failure, Kind
from upscale.providers.queued import Seen
from upscale.providers.replicate import Replicate
from upscale.providers.task import RemoteJob, Trail, misses
from upscale.providers.transport import Reply

QUEUES = ("fal", "replicate", "topaz")
BLOCKING = ("recraft", "vertex", "lumenfall")
WITH_FILES = tuple(name for name in STUBS if name != "vertex")


@pytest.fixture(params=sorted(STUBS))
def rig(request: pytest.FixtureRequest, stubs: dict[str, Stub], tmp_path: Path) -> Rig:
    return Rig(request.param, stubs[request.param], tmp_path)


def only(rig: Rig, *providers: str) -> None:
    if rig.provider not in providers:
        pytest.skip("another provider's matter")


def test_a_picture_goes_and_comes(rig: Rig) -> None:
    result = rig.run()
    factor = MODELS[rig.provider][1] or 4
    assert Image.open(result.path).size == (12 * factor, 8 * factor)
    assert result.path.stat().st_mode & 0o777 == 0o600
    assert rig.stub.paid == 1
    assert rig.notes.states[0] == "sending"
    assert rig.notes.last.state == "done"
    assert rig.notes.last.billed == "yes"
    if result.cost_micros is not None:
        assert result.cost_micros == round(rig.stub.billed * 1_000_000)
    assert not rig.stub.leaks
    assert not rig.stub.wrong_keys


def test_what_the_providers_report_is_what_it_cost(rig: Rig) -> None:
    only(rig, "fal", "topaz", "recraft", "lumenfall")
    larger = {"size": (60, 40)} if rig.provider == "fal" else {}
    assert rig.run(**larger).cost_micros == round(rig.stub.billed * 1_000_000) > 0


def test_a_lost_reply_is_looked_up(rig: Rig) -> None:
    only(rig, *QUEUES)
    for fault in ("cut_reply", "half_reply"):
        rig.stub.fault, rig.stub.times = fault, 1
        assert rig.run().job.id == list(rig.stub.jobs)[-1]
    assert rig.stub.paid == 2


def test_a_lost_reply_without_look_up_is_in_doubt(rig: Rig) -> None:
    only(rig, *BLOCKING)
    for fault in ("cut_reply", "half_reply"):
        rig.stub.fault = fault
        failure = rig.fails()
        assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)
        assert rig.notes.last.state == "sending"
    assert rig.stub.paid == 2


def test_a_dead_host_is_not_reached(rig: Rig) -> None:
    url, rig.stub.url = rig.stub.url, "http://127.0.0.1:1"
    try:
        failure = rig.fails()
    finally:
        rig.stub.url = url
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.UNREACHED, "no", True)


REFUSALS = {
    "replicate": {"402": Kind.BALANCE, "403": Kind.KEY, "404": Kind.GONE, "422": Kind.INPUT},
    "topaz": {
        "401": Kind.KEY,
        "402": Kind.BALANCE,
        "412": Kind.BALANCE,
        "415": Kind.INPUT,
        "422": Kind.INPUT,
        "400": Kind.INPUT,
    },
    "recraft": {
        "401": Kind.KEY,
        "402": Kind.BALANCE,
        "credits": Kind.BALANCE,
        "404": Kind.GONE,
        "400": Kind.INPUT,
    },
    "vertex": {
        "400": Kind.INPUT,
        "precondition": Kind.BALANCE,
        "401": Kind.KEY,
        "403": Kind.KEY,
        "404": Kind.GONE,
    },
    "lumenfall": {
        "400": Kind.INPUT,
        "401": Kind.KEY,
        "402": Kind.BALANCE,
        "404": Kind.GONE,
        "502": Kind.BROKEN,
    },
}
BROKEN = {"replicate": "500", "topaz": "500", "recraft": "500", "vertex": "500"}


@pytest.mark.parametrize(
    ("provider", "fault"), [(p, f) for p, faults in REFUSALS.items() for f in faults]
)
def test_a_refusal_is_not_billed(
    provider: str, fault: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    rig.stub.fault = fault
    failure = rig.fails()
    kind = REFUSALS[provider][fault]
    assert (failure.kind, failure.billed) == (kind, "no")
    assert failure.elsewhere is (kind is not Kind.INPUT)
    assert failure.outcome.off is (kind in (Kind.KEY, Kind.BALANCE, Kind.GONE))
    assert rig.stub.calls["create"] == 1
    assert rig.stub.paid == 0
    assert rig.notes.states == ["sending", "unsent"]
    assert KEYS[provider] not in failure.message


@pytest.mark.parametrize("provider", sorted(BROKEN))
def test_a_server_error_is_not_repeated_there(
    provider: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    rig.stub.fault = "500"
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.BROKEN, "no", True)
    assert rig.stub.calls["create"] == 1


def test_a_time_out_in_between_leaves_doubt(stubs: dict[str, Stub], tmp_path: Path) -> None:
    for provider in ("recraft", "vertex"):
        rig = Rig(provider, stubs[provider], tmp_path)
        rig.stub.fault = "504"
        failure = rig.fails()
        assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)


def test_what_did_nothing_is_sent_again(rig: Rig) -> None:
    only(rig, "replicate", "topaz", "recraft", "vertex", "lumenfall")
    rig.stub.fault, rig.stub.times = "429", 1
    rig.run()
    assert rig.stub.calls["create"] == 2
    assert rig.stub.paid == 1


def test_topaz_may_be_too_early(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    rig.stub.fault, rig.stub.times = "425", 2
    rig.run()
    assert (rig.stub.calls["create"], rig.stub.paid) == (3, 1)


@pytest.mark.parametrize(
    "fault",
    [
        "truncated",
        "oversized",
        "no_picture",
        "file_gone",
        "redirect_foreign",
        "foreign_link",
        "private_link",
        "no_output",
    ],
)
def test_a_bad_result_was_billed(rig: Rig, fault: str) -> None:
    only(rig, *WITH_FILES)
    rig.stub.fault = fault
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.BAD_RESULT, "yes", False)
    assert not list(rig.folder.glob("out-*"))
    assert (rig.stub.paid, rig.stub.foreign) == (1, 0)
    assert rig.notes.last.state == "done"
    assert "presigned" not in failure.message


@pytest.mark.parametrize("fault", ["truncated", "file_503", "redirect"])
def test_downloads_are_tried_again(rig: Rig, fault: str) -> None:
    only(rig, *WITH_FILES)
    rig.stub.fault, rig.stub.times = fault, 1
    rig.run()
    assert rig.stub.calls["file"] == 2


@pytest.mark.parametrize("fault", ["poll_500", "poll_429", "poll_cut"])
def test_a_poll_that_fails_is_no_failure(rig: Rig, fault: str) -> None:
    only(rig, *QUEUES)
    rig.stub.fault, rig.stub.times = fault, 3
    rig.run()
    assert rig.stub.paid == 1


def test_a_late_job_is_cancelled(rig: Rig) -> None:
    only(rig, *QUEUES)
    rig.stub.fault = "stuck"
    failure = rig.fails(seconds=20.0)
    assert (failure.kind, failure.elsewhere) == (Kind.TOO_LATE, False)
    assert rig.stub.calls["cancel"] == 1
    assert rig.notes.last.state == "cancelled"
    if rig.provider != "fal":
        assert (failure.billed, failure.cost_micros) == ("no", 0)


def test_a_caller_that_leaves_has_the_job_cancelled(rig: Rig) -> None:
    only(rig, *QUEUES)
    rig.stub.polls = 1 << 30
    rig.leave()
    assert rig.stub.calls["cancel"] == 1
    assert rig.notes.last.state == "cancelled"
    assert rig.stub.paid == 1


def test_a_crash_is_resolved_from_what_was_noted(rig: Rig) -> None:
    only(rig, *QUEUES)
    rig.run()
    for job in rig.notes.jobs[:2]:
        found = rig.ask(lambda adapter, job=job: adapter.resume(rig.task(), job))
        assert found.job.id == next(iter(rig.stub.jobs))
    assert rig.stub.paid == 1


def test_replicate_names_versions(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.run(model="real-esrgan", factor=4, fields={"face_enhance": "true"})
    job = rig.stub.jobs["pred0001"]
    assert job.sent["version"] == "ab" * 32
    assert job.sent["input"] == {
        "image": job.sent["input"]["image"],
        "scale": 4,
        "face_enhance": True,
    }
    rig.run(model="topaz-image-upscale", factor=6)
    assert rig.stub.jobs["pred0002"].sent["input"]["upscale_factor"] == "6x"
    assert rig.stub.calls["delete"] == 2
    rig.stub.fault = "no_version"
    assert rig.fails().kind is Kind.GONE


@pytest.mark.parametrize("fault", ["list_output", "with_key"])
def test_replicate_has_outputs_of_several_kinds(
    fault: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.stub.fault = fault
    rig.run()
    assert not rig.stub.leaks


@pytest.mark.parametrize(
    ("fault", "kind", "billed"),
    [
        ("failed", Kind.RUN_FAILED, "maybe"),
        ("nsfw", Kind.POLICY, "maybe"),
        ("aborted", Kind.RUN_FAILED, "no"),
    ],
)
def test_replicate_runs_that_fail(
    fault: str, kind: Kind, billed: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.stub.fault = fault
    failure = rig.fails()
    assert (failure.kind, failure.billed) == (kind, billed)
    assert failure.elsewhere is (billed == "no")


def test_topaz_gets_a_form(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    rig.run(
        factor="1.5",
        size=(35, 21),
        fields={"face_enhancement": "true", "subject_detection": "All", "sharpen": "0.4"},
    )
    assert rig.stub.jobs["proc-0001"].sent == {
        "model": "Standard V2",
        "output_format": "png",
        "output_width": "53",
        "output_height": "32",
        "face_enhancement": "true",
        "face_enhancement_strength": "0.8",
        "face_enhancement_creativity": "0.0",
        "subject_detection": "all",
        "sharpen": "0.4",
        "filename": "req_test0001.png",
        "content_type": "image/png",
    }
    assert rig.stub.calls["forget"] == 1
    assert any(fraction for fraction, _ in rig.notes.progress)
    rig.run(fields={"enhance_model": "Wonder"})
    assert rig.stub.jobs["proc-0002"].endpoint == "/enhance-gen/async"


def test_topaz_estimates_for_nothing(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    assert rig.ask(lambda adapter: adapter.estimate(rig.task())) == 100_000
    assert rig.stub.paid == 0
    assert rig.ask(lambda a: a.estimate(rig.task()), topaz_price_per_credit=None) is None


@pytest.mark.parametrize("fault", ["failed", "failed_billed"])
def test_topaz_runs_that_fail(fault: str, stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    rig.stub.fault = fault
    failure = rig.fails()
    assert failure.kind is Kind.RUN_FAILED
    assert failure.billed == ("no" if fault == "failed" else "maybe")


def test_topaz_is_not_always_ready(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    rig.stub.fault, rig.stub.times = "not_ready", 2
    rig.run()
    rig.stub.fault, rig.stub.times = "500_with_id", 1
    rig.run()
    assert rig.stub.paid == 2
    rig.stub.fault = "bare_list"
    for job in rig.notes.jobs[:1]:
        assert rig.ask(lambda a, job=job: a.find(job)).id in rig.stub.jobs


def test_who_leaves_while_a_refusal_is_waited_out_has_paid_nothing(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("recraft", stubs["recraft"], tmp_path)
    rig.stub.fault = "429"

    async def question(adapter: Any) -> None:
        pausing = asyncio.Event()

        async def pause(_: float) -> None:
            pausing.set()
            await asyncio.sleep(60)

        adapter.clock = replace(adapter.clock, sleep=pause)
        running = asyncio.create_task(adapter.run(rig.task()))
        await pausing.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    rig.ask(question)
    assert (rig.notes.last.state, rig.notes.last.billed) == ("unsent", "no")


@pytest.mark.parametrize("provider", ["fal", "replicate"])
def test_a_job_is_found_on_the_last_page(
    provider: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    for _ in range(5):
        rig.run()
    for sent in [job for job in rig.notes.jobs if job.state == "sending"]:
        found = rig.ask(lambda a, job=sent: a.find(job))
        assert any(job.id == found.id for job in rig.notes.jobs if job.mark == sent.mark)
    assert rig.stub.calls["find_more"] == 4
    stranger = replace(rig.notes.last, mark="https://elsewhere/picture")
    assert rig.ask(lambda a: a.find(stranger)) is None
    rig.stub.fault = "endless_list"
    with pytest.raises(Failure, match="no end"):
        rig.ask(lambda a: a.find(stranger))


def test_topaz_lists_no_more_than_a_page(
    stubs: dict[str, Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    rig.run()
    stranger = replace(rig.notes.last, mark="another.png")
    assert rig.ask(lambda a: a.find(stranger)) is None
    monkeypatch.setattr(topaz, "_PAGE", 1)
    with pytest.raises(Failure, match="more than it shows"):
        rig.ask(lambda a: a.find(stranger))


@pytest.mark.parametrize("fault", ["empty", "filtered"])
def test_vertex_filters_by_policy(fault: str, stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("vertex", stubs["vertex"], tmp_path)
    rig.stub.fault = fault
    failure = rig.fails()
    assert (failure.kind, failure.elsewhere) == (Kind.POLICY, False)


def test_vertex_is_asked_as_documented(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("vertex", stubs["vertex"], tmp_path)
    rig.run(factor=4)
    job = rig.stub.jobs["job-0001"]
    assert job.endpoint == "imagen-4.0-upscale-preview"
    assert job.sent == {
        "mode": "upscale",
        "sampleCount": 1,
        "upscaleConfig": {"upscaleFactor": "x4"},
        "outputOptions": {"mimeType": "image/png"},
        "includeRaiReason": True,
        "addWatermark": False,
    }
    rig.stub.fault = "no_picture"
    assert rig.fails().kind is Kind.BAD_RESULT


def test_recraft_and_the_gateway_get_forms(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("recraft", stubs["recraft"], tmp_path)
    rig.run(model="recraft-creative-upscale", factor=None, fields={"seed": 4})
    sent = rig.stub.jobs["job-0001"].sent
    assert sent == {
        "response_format": "url",
        "image_format": "png",
        "filename": "req_test0001.png",
    }
    rig = Rig("lumenfall", stubs["lumenfall"], tmp_path)
    rig.stub.fault = "b64"
    result = rig.run(fields={"checkpoint": "v2"})
    assert result.cost_micros == 50_000
    assert rig.stub.jobs["job-0001"].sent == {
        "model": "aura-sr",
        "scale_factor": "4",
        "response_format": "url",
        "output_format": "png",
        "checkpoint": "v2",
        "filename": "req_test0001.png",
    }
    assert rig.ask(lambda adapter: adapter.estimate(rig.task())) == 50_000
    rig.stub.fault = "policy"
    assert rig.fails().kind is Kind.POLICY


def test_nothing_is_asked_when_the_time_is_up(rig: Rig) -> None:
    failure = rig.fails(seconds=-1.0)
    assert (failure.kind, failure.billed) == (Kind.TOO_LATE, "no")
    assert rig.stub.paid == 0
    assert not rig.notes.jobs


def test_a_result_that_cannot_be_stored_was_billed(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(OutputFault):
        rig.run(target=tmp_path / "no" / "such" / "folder.png")
    assert rig.stub.paid == 1
    if rig.provider in QUEUES:
        assert (rig.notes.last.state, rig.notes.last.billed) == ("done", "yes")


def test_sizes_may_be_a_pixel_off() -> None:
    assert misses((53, 31), (53, 32)) is None
    assert misses((53, 30), (53, 32)) == "its size is 53x30, not 53x32"
    assert misses((7, 7), None) is None


def test_replicate_s_refusal_that_names_a_job_is_not_sent_again(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.stub.fault, rig.stub.times = "late_503", 1
    assert rig.run().job.id == "pred0001"
    assert rig.stub.paid == 1


def test_a_job_that_may_be_there_keeps_its_picture(
    stubs: dict[str, Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    forgotten: list[int] = []
    find = Replicate.find

    async def watched(self: Any, job: Any) -> Any:
        forgotten.append(rig.stub.calls["delete"])
        return await find(self, job)

    monkeypatch.setattr(Replicate, "find", watched)
    rig.stub.fault, rig.stub.times = "late_500", 1
    assert rig.run().job.id == "pred0001"
    assert forgotten == [0]
    assert "unsent" not in rig.notes.states


def test_a_list_of_another_shape_does_not_say_that_a_job_is_not_there(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.run()
    rig.stub.fault = "odd_list"
    with pytest.raises(Failure) as caught:
        rig.ask(lambda adapter: adapter.find(rig.notes.jobs[0]))
    assert caught.value.kind is Kind.BROKEN


def test_what_is_gone_before_the_create_is_not_the_model(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.stub.fault = "files_404"
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.outcome.off) == (Kind.BROKEN, "no", False)


def test_an_unknown_job_is_looked_for_a_few_times(
    stubs: dict[str, Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash, too: a list may come late, or not at all for a moment."""
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.run()
    find, asked = Replicate.find, []

    async def late(self: Any, job: Any) -> Any:
        asked.append(job)
        if len(asked) == 1:
            raise Failure(Kind.UNREACHED, "not reached.")
        return await find(self, job) if len(asked) > 2 else None

    monkeypatch.setattr(Replicate, "find", late)
    found = rig.ask(lambda adapter: adapter.resume(rig.task(), rig.notes.jobs[0]))
    assert found.job.id == "pred0001"
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("data", "known"),
    [
        ({"status": "canceled", "metrics": {"predict_time": 2.0}}, ("yes", 2000)),
        ({"status": "canceled", "started_at": "2026-01-01T00:00:00Z"}, ("yes", None)),
        (
            {
                "status": "canceled",
                "started_at": "2026-01-01T00:00:00Z",
                "completed_at": "2026-01-01T00:00:01.500Z",
            },
            ("yes", 1500),
        ),
        ({"status": "canceled"}, ("maybe", None)),
        ({"status": "succeeded", "metrics": {"predict_time": 2.0}}, ("yes", 2000)),
        ({"status": "failed", "metrics": {"predict_time": 2.0}}, ("yes", 2000)),
        ({"status": "succeeded", "metrics": {"predict_time": "9" * 401}}, ("yes", None)),
        ({"status": "aborted"}, ("no", 0)),
    ],
)
def test_replicate_charges_for_the_time_that_it_ran(
    data: dict[str, Any],
    known: tuple[str, int | None],
    stubs: dict[str, Stub],
    tmp_path: Path,
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    priced = RoutePrice("", "", per_second=Decimal("0.001"))

    async def bill(adapter: Any) -> Any:
        adapter._prices["owner/timed"] = priced
        return await adapter.bill(
            RemoteJob("replicate", "owner/timed", id="p"), Seen(True, "", data=data)
        )

    assert rig.ask(bill) == known


def test_replicate_s_failures_priced_by_the_picture_are_not_known_to_be_billed(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("replicate", stubs["replicate"], tmp_path)
    rig.stub.fault = "failed"
    failure = rig.fails(model="recraft-crisp-upscale", factor=None)
    assert (failure.billed, failure.cost_micros) == ("maybe", None)


def test_topaz_is_polled_by_its_own_estimate(stubs: dict[str, Stub], tmp_path: Path) -> None:
    rig = Rig("topaz", stubs["topaz"], tmp_path)
    assert rig.ask(lambda a: _value(a._pause(time.time() + 24))) == pytest.approx(8.0, abs=0.2)
    for odd in ("nan", "inf", -1, None, "9" * 401):
        assert rig.ask(lambda a, odd=odd: _value(a._pause(odd))) == 2.0


async def _value(value: Any) -> Any:
    return value


def test_a_proxy_that_answers_for_the_provider_leaves_doubt(
    stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig("recraft", stubs["recraft"], tmp_path)
    for body, kind in (
        (b"<html>bad gateway</html>", Kind.IN_DOUBT),
        (b'{"message":"x"}', Kind.BROKEN),
    ):
        reply = Reply(502, httpx.Headers(), body)
        assert rig.ask(lambda a, reply=reply: _value(a.kind_of(reply))) is kind


def test_hosts_are_told_that_may_have_the_picture(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was not reached has not; one that answered before it was not reached has."""
    only(rig, "topaz", "recraft")
    answers: list[Any] = [Reply(429, httpx.Headers({"retry-after": "1"}), b"{}")]

    async def paid(*_: Any, **__: Any) -> Any:
        if answers:
            return answers.pop()
        raise Failure(Kind.UNREACHED, "not reached.")

    monkeypatch.setattr("upscale.providers.transport.Transport.paid", paid)
    for known in (["127.0.0.1"], []):
        trail = Trail()
        assert rig.fails(trail=trail).kind is Kind.UNREACHED
        assert trail.sent_to == known


@pytest.mark.parametrize("told", [True, -1, 2**53, 1.5, "7", None, 10**400])
def test_an_absurd_estimate_is_none(
    told: object, stubs: dict[str, Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig("lumenfall", stubs["lumenfall"], tmp_path)

    async def free(*_: Any, **__: Any) -> Reply:
        return Reply(200, httpx.Headers(), json.dumps({"total_cost_micros": told}).encode())

    monkeypatch.setattr("upscale.providers.transport.Transport.free", free)
    assert rig.ask(lambda a: a.estimate(rig.task())) is None


def test_the_gateway_s_reply_is_small(
    stubs: dict[str, Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig("lumenfall", stubs["lumenfall"], tmp_path)
    caps: list[int] = []

    async def paid(*_: Any, max_bytes: int, **__: Any) -> Reply:
        caps.append(max_bytes)
        return Reply(200, httpx.Headers(), b"{}")

    monkeypatch.setattr("upscale.providers.transport.Transport.paid", paid)
    assert rig.fails(max_bytes=1 << 30).kind is Kind.BAD_RESULT
    assert caps == [64 << 20]
