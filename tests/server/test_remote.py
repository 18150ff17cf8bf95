"""Models that no network here serves, by providers: a real server in front of stub providers that
count paid calls and write invoices.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.providers.rig import all_running, fresh
from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS, FastClock
from tests.server.live import EDITS, Live, check_error, check_headers, png, wait_for
from tests.server.remotely import house
from tests.server.test_openapi import fits
from upscale.providers import registry
from upscale.server import unsettled
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing

# Where waits pass at once, time for a job does, too.
ENDLESS = {"provider_seconds": 1e9, "foreground_seconds": 1e9}


@pytest.fixture(scope="module")
def _stubs() -> Iterator[dict[str, Stub]]:
    with all_running() as stubs:
        yield stubs


@pytest.fixture
def stubs(_stubs: dict[str, Stub]) -> dict[str, Stub]:
    for stub in _stubs.values():
        fresh(stub)
    return _stubs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between polls pass at once."""
    monkeypatch.setattr(registry, "Clock", lambda: FastClock().clock)


def fetched(live: Live, reply: httpx.Response, index: int = 0) -> Image.Image:
    assert reply.status_code == 200, reply.text
    url = reply.json()["data"][index]["url"]
    image = Image.open(BytesIO(live.client.get(url).content))
    image.load()
    return image


def record(live: Live, reply: httpx.Response) -> dict[str, Any]:
    found = live.client.get(f"/v1/requests/{reply.headers['x-request-id']}")
    body: dict[str, Any] = found.json()
    return body


def test_a_model_without_a_network_goes_to_a_provider(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "seedvr-image-upscale", "scale_factor": "2"})
        image = fetched(live, reply)
        assert image.size == (24, 16)
        assert image.getpixel((5, 5)) == (40, 90, 160)
        assert image.info.get("icc_profile")
        body = reply.json()
        about = body["metadata"]
        assert about["provider"] == "fal"
        assert about["executed_model"] == "fal/fal-ai/seedvr/upscale/image"
        assert about["receipt"]["attempts"][0]["provider"] == "fal"
        assert fits("Result", body)
        assert reply.headers["X-Lumenfall-Provider"] == "fal"
        assert reply.headers["X-Lumenfall-Model"] == "fal/fal-ai/seedvr/upscale/image"
        check_headers(reply)
        kept = record(live, reply)
        assert (kept["status"], kept["sent_to"]) == ("completed", "127.0.0.1")
        assert kept["sent_bytes"] > 0
        assert stubs["fal"].paid == 1


def test_an_installed_network_goes_first_and_a_provider_can_be_forced(stubs, tmp_path, weights_dir):
    with house(stubs, tmp_path, "fal", weights=weights_dir) as live:
        reply = live.edit()
        assert reply.json()["metadata"]["provider"] == "local"
        assert stubs["fal"].paid == 0
        forced = live.edit({"model": "fal/real-esrgan"})
        assert forced.json()["metadata"]["provider"] == "fal"
        assert stubs["fal"].paid == 1


def test_without_a_key_the_reply_says_which_one_would_help(stubs, tmp_path):
    with house(stubs, tmp_path) as live:
        for model, words in [
            ("topaz-image-upscale", ("FAL_KEY", "TOPAZ_API_KEY", "REPLICATE_API_TOKEN")),
            ("topaz/topaz-image-upscale", ("TOPAZ_API_KEY",)),
            ("real-esrgan", ("FAL_KEY", "upscale weights pull")),
        ]:
            reply = live.edit({"model": model})
            assert reply.status_code == 404
            error = reply.json()["error"]
            assert error["code"] == "MODEL_DISABLED"
            assert all(word in error["message"] for word in words), error
        reply = live.edit({"model": "topaz/real-esrgan"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "MODEL_DISABLED")


def test_local_only_keeps_everything_in_the_house(stubs, tmp_path):
    with house(stubs, tmp_path, *stubs, local_only=True) as live:
        for model in ("topaz-image-upscale", "fal/real-esrgan", "google-upscaler"):
            reply = live.edit({"model": model, "scale_factor": "2"})
            assert reply.status_code == 404
            assert "UPSCALE_LOCAL_ONLY" in reply.json()["error"]["message"]
    assert not any(stub.paid or stub.calls or stub.seen for stub in stubs.values())


def test_local_only_allows_hosts_of_the_house(stubs, tmp_path):
    given = {"local_only": True, "local_hosts": "127.0.0.1"}
    with house(stubs, tmp_path, "fal", **given) as live:
        assert live.edit({"model": "aura-sr"}).status_code == 200
    assert stubs["fal"].paid == 1


@pytest.mark.parametrize(
    ("model", "provider", "more"),
    [
        ("seedvr-image-upscale", "fal", {"scale_factor": "3"}),
        ("clarity-upscaler", "fal", {"scale_factor": "2"}),
        ("crystal-upscaler", "fal", {"scale_factor": "2"}),
        ("recraft-crisp-upscale", "recraft", {}),
        ("recraft-creative-upscale", "recraft", {}),
        ("topaz-image-upscale", "topaz", {"scale_factor": "2", "n": "2"}),
        ("google-upscaler", "vertex", {"scale_factor": "2"}),
        ("aura-sr", "lumenfall", {}),
    ],
)
@pytest.mark.parametrize("size", [(300, 260), (512, 390)])
def test_the_quote_is_what_the_invoice_says(stubs, tmp_path, model, provider, more, size):
    """The dry run, the reply, the record and the provider's own invoice agree to the millionth."""
    with house(stubs, tmp_path, provider) as live:
        if provider == "fal":
            wait_for(lambda: stubs["fal"].calls["pricing"] > 0)
        files = {"image": ("a.png", png(size), "image/png")}
        told = live.edit({"model": model, **more}, files=files, params={"dryRun": "true"})
        assert told.status_code == 200, told.text
        assert stubs[provider].paid == 0
        assert fits("DryRun", told.json())
        quoted = told.json()["total_cost_micros"]
        reply = live.edit({"model": model, **more}, files=files)
        assert reply.status_code == 200, reply.text
        cost = round(reply.json()["metadata"]["cost"] * 1e6)
        invoice = stubs[provider].billed
        assert cost == round(invoice * 1_000_000)
        assert cost > 0
        if not told.json()["approximate"]:
            assert quoted == cost
        kept = record(live, reply)
        assert round(kept["cost"] * 1e6) == cost
        assert stubs[provider].paid == int(more.get("n", 1))


def test_several_results_are_several_files(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "seedvr-image-upscale", "scale_factor": "2", "n": "3"})
        links = [entry["url"] for entry in reply.json()["data"]]
        assert len(set(links)) == 3
        assert stubs["fal"].paid == 3
        inline = live.edit(
            {"model": "seedvr-image-upscale", "n": "2", "response_format": "b64_json"}
        )
        for entry in inline.json()["data"]:
            Image.open(BytesIO(base64.b64decode(entry["b64_json"]))).verify()


def test_a_failed_route_hands_over_to_the_next(stubs, tmp_path):
    stubs["fal"].fault = "503"
    with house(stubs, tmp_path, "fal", "topaz") as live:
        reply = live.edit({"model": "topaz-image-upscale", "scale_factor": "2"})
        assert reply.status_code == 200, reply.text
        about = reply.json()["metadata"]
        assert about["provider"] == "topaz"
        assert [a["provider"] for a in about["receipt"]["attempts"]] == ["fal", "topaz"]
        kept = record(live, reply)
        assert [a["provider"] for a in kept["remote_attempts"]] == ["fal", "topaz"]


def test_when_every_route_fails_the_error_lists_them(stubs, tmp_path):
    for name in ("fal", "topaz"):
        stubs[name].fault = "503"
    with house(stubs, tmp_path, "fal", "topaz") as live:
        reply = live.edit({"model": "topaz-image-upscale", "scale_factor": "2"})
        assert reply.status_code == 502
        error = reply.json()["error"]
        assert error["code"] == "ALL_PROVIDERS_EXHAUSTED"
        assert fits("Error", reply.json())
        assert [a["provider"] for a in error["attempts"]] == ["fal", "topaz"]
        kept = record(live, reply)
        assert (kept["status"], kept["cost"]) == ("upstream_failure", 0)
        check_headers(reply)


def test_a_refusal_of_the_content_says_so(stubs, tmp_path):
    stubs["fal"].fault = "policy"
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "aura-sr"})
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert (error["code"], error["reason"]) == ("UPSTREAM_ERROR", "content_policy")


@pytest.mark.parametrize("fault", ["wrong_size", "truncated", "no_picture", "foreign_link"])
def test_a_bad_result_is_not_handed_on(stubs, tmp_path, fault):
    stubs["fal"].fault = fault
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "seedvr-image-upscale", "scale_factor": "2"})
        assert reply.status_code == 502
        assert reply.json()["error"]["reason"] == "bad_result"
        assert stubs["fal"].paid == 1
        assert live.spool.held == 0
        assert not list((live.settings.data_dir / "media").glob("*.png"))


def test_transparency_and_metadata_survive(stubs, tmp_path):
    file, exif = BytesIO(), Image.Exif()
    exif[0x010F] = "Camera of mine"
    image = Image.new("RGBA", (20, 16), (40, 90, 160, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 16))
    image.save(file, "PNG", exif=exif)
    with house(stubs, tmp_path, "fal") as live:
        files = {"image": ("a.png", file.getvalue(), "image/png")}
        data = {"model": "seedvr-image-upscale", "scale_factor": "2", "output_format": "webp"}
        result = fetched(live, live.edit(data, files=files))
        assert result.mode == "RGBA"
        assert result.getpixel((2, 10))[3] == 0
        assert result.getpixel((37, 10))[3] == 255
        assert result.getexif()[0x010F] == "Camera of mine"
        (sent,) = stubs["fal"].uploads.values()
        assert b"Camera of mine" not in sent
        assert Image.open(BytesIO(sent)).mode == "RGB"


def test_a_factor_is_never_rounded_and_resampled_only_where_the_caller_says_so(stubs, tmp_path):
    with house(stubs, tmp_path, "vertex") as live:
        data = {"model": "google-upscaler", "scale_factor": "4"}
        files = {"image": ("a.png", png((20, 12)), "image/png")}
        assert fetched(live, live.edit(data, files=files)).size == (80, 48)
    with house(stubs, tmp_path, "replicate") as live:
        data = {"model": "topaz-image-upscale", "scale_factor": "3"}
        reply = live.edit(data, files=files)
        assert reply.status_code == 400, reply.text
        assert stubs["replicate"].paid == 0
        allowed = live.edit({**data, "allow_resample": "true"}, files=files)
        assert fetched(live, allowed).size == (60, 36)
        assert allowed.json()["metadata"]["receipt"]["output"]["resampled"] is True


def test_no_key_is_anywhere(stubs, tmp_path, capsys, caplog):
    """Neither in replies, nor in records, files, logs, nor at another provider's."""
    texts = []
    with house(stubs, tmp_path, *stubs) as live:
        for fault in ("", "503", "key", "policy", "wrong_size"):
            for stub in stubs.values():
                stub.fault = fault
            for model in ("topaz-image-upscale", "aura-sr", "recraft-crisp-upscale"):
                texts.append(live.edit({"model": model}).text)
                texts.append(live.edit({"model": model}, params={"dryRun": "1"}).text)
        texts += [live.client.get(p).text for p in ("/v1/requests", "/openai/v1/models", "/health")]
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file():
                texts.append(path.read_bytes().decode("latin-1"))
    texts += [caplog.text, *capsys.readouterr()]
    secrets = [part for key in KEYS.values() for part in key.split(":") if len(part) > 6]
    for text in texts:
        assert not [secret for secret in secrets if secret in text]
        assert "presigned-secret" not in text
    for name, stub in stubs.items():
        assert stub.leaks == []
        others = [key for other, key in KEYS.items() if other != name]
        seen = json.dumps(stub.seen)
        assert not [key for key in others if key in seen]


def test_models_say_by_whom_they_can_be_served(stubs, tmp_path):
    with house(stubs, tmp_path, "fal", vertex_project="") as live:
        models = {m["id"]: m for m in live.client.get("/openai/v1/models").json()["data"]}
        seedvr = models["seedvr-image-upscale"]
        assert seedvr["available"] is True
        by = {r["provider"]: r["available"] for r in seedvr["remote"]}
        assert by["fal"] is True
        assert not any(there for name, there in by.items() if name != "fal")
        assert models["google-upscaler"]["available"] is False


def test_a_background_job_goes_to_a_provider_without_waiting_for_the_device(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        live.engine.held = True
        here = live.edit({"model": "bundled-x4", "background": "true"})
        assert here.status_code == 202
        wait_for(lambda: live.engine.begun.is_set())
        reply = live.edit({"model": "seedvr-image-upscale", "background": "true", "n": "2"})
        assert reply.status_code == 202, reply.text
        at = reply.headers["Location"]
        wait_for(lambda: live.client.get(at).json()["status"] == "completed")
        body = live.client.get(at).json()
        assert len({entry["url"] for entry in body["response"]["data"]}) == 2
        assert body["response"]["metadata"]["provider"] == "fal"
        assert (body["sent_to"], stubs["fal"].paid) == ("127.0.0.1", 2)
        live.engine.held = False


def test_a_cancelled_job_is_stopped_at_the_provider_and_its_bill_is_booked(stubs, tmp_path):
    stubs["fal"].polls = 1 << 30
    with house(stubs, tmp_path, "fal", **ENDLESS) as live:
        reply = live.edit({"model": "seedvr-image-upscale", "background": "true"})
        at = reply.headers["Location"]
        assert stubs["fal"].polled.wait(20)
        wait_for(lambda: live.client.get(at).json()["progress"] is not None)
        running = live.client.get(at).json()
        assert fits("Request", running)
        assert running["progress"]["stage"].partition(" ")[0] in ("queued", "running")
        live.client.delete(at)
        wait_for(lambda: all(job.cancelled for job in stubs["fal"].jobs.values()))
        wait_for(lambda: live.client.get(at).json()["status"] == "cancelled")
        assert stubs["fal"].paid == 1


def test_a_caller_who_goes_away_has_his_job_stopped(stubs, tmp_path):
    stubs["fal"].polls = 1 << 30
    with house(stubs, tmp_path, "fal", **ENDLESS) as live:
        with pytest.raises(httpx.ReadTimeout):
            live.edit({"model": "seedvr-image-upscale"}, timeout=2)
        wait_for(lambda: any(job.cancelled for job in stubs["fal"].jobs.values()))
        listed = lambda: live.client.get("/v1/requests").json()["data"][0]  # noqa: E731
        wait_for(lambda: listed()["status"] == "cancelled")
        assert stubs["fal"].paid == 1


def test_a_spending_limit_holds_for_remote_work(stubs, tmp_path):
    with house(stubs, tmp_path, "fal", "lumenfall") as live:
        ring = live_keys(live)
        rich = ring.create("rich", spending_limit_micros=1_000_000)
        poor = ring.create("poor", spending_limit_micros=1)
        headers = lambda made: {"Authorization": f"Bearer {made[1]}"}  # noqa: E731
        data = {"model": "clarity-upscaler", "scale_factor": "2"}
        files = {"image": ("a.png", png((300, 260)), "image/png")}
        wait_for(lambda: stubs["fal"].calls["pricing"] > 0)
        reply = live.edit(data, files=files, headers=headers(poor))
        assert (reply.status_code, reply.json()["error"]["code"]) == (402, "INSUFFICIENT_BALANCE")
        assert stubs["fal"].paid == 0
        reply = live.edit(data, files=files, headers=headers(rich))
        assert reply.status_code == 200, reply.text
        left = live.client.get("/v1/balance", headers=headers(rich)).json()["available"]["amount"]
        assert left == pytest.approx(1 - reply.json()["metadata"]["cost"])


def test_a_key_may_be_kept_from_providers(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        _, token = live_keys(live).create("house", remote=False)
        headers = {"Authorization": f"Bearer {token}"}
        reply = live.edit({"model": "aura-sr"}, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "MODEL_DISABLED")
        assert "stay in the house" in reply.json()["error"]["message"]
        models = live.client.get("/openai/v1/models", headers=headers).json()["data"]
        assert not [m for m in models if m["id"] == "aura-sr" and m["available"]]
        assert stubs["fal"].paid == 0


def live_keys(live: Live) -> KeyRing:
    """The keys of a running server."""
    return KeyRing(Database.of(live.settings))


def test_what_a_deleted_request_has_cost_is_booked(stubs, tmp_path):
    """Its end is written at once; what the provider bills for it is known later."""
    stubs["fal"].polls = 1 << 30
    stubs["fal"].fault = "cancel_runs_on"
    with house(stubs, tmp_path, "fal", **ENDLESS) as live:
        wait_for(lambda: stubs["fal"].calls["pricing"] > 0)
        _, token = live_keys(live).create("one", spending_limit_micros=1_000_000)
        live.client.headers["Authorization"] = f"Bearer {token}"
        files = {"image": ("a.png", png((300, 260)), "image/png")}
        data = {"model": "seedvr-image-upscale", "background": "true"}
        at = live.edit(data, files=files).headers["Location"]
        assert stubs["fal"].polled.wait(20)
        live.client.delete(at)
        wait_for(lambda: live.client.get(at).json()["remote_attempts"] != [])
        body = live.client.get(at).json()
        assert body["status"] == "cancelled"
        assert body["remote_attempts"][0]["billed"] == "yes"
        assert round(body["cost"] * 1e6) == round(stubs["fal"].billed * 1_000_000) > 0
        found = live_keys(live).find(token)
        assert found is not None
        assert found.spent_micros == round(body["cost"] * 1e6)
        assert found.reserved_micros == 0


def test_a_picture_that_goes_out_for_a_quote_is_told_of(stubs, tmp_path, caplog):
    with house(stubs, tmp_path, "lumenfall") as live, caplog.at_level("INFO"):
        assert live.edit({"model": "aura-sr"}, params={"dryRun": "1"}).status_code == 200
        (line,) = [each for each in caplog.records if each.message == "dry run sent"]
        assert "127.0.0.1" in str(vars(line))
        reply = live.edit({"model": "aura-sr"})
        sent = reply.json()["metadata"]["receipt"]["sent"]["bytes"]
        assert record(live, reply)["sent_bytes"] == 2 * sent


def test_what_nobody_can_be_asked_about_is_booked_as_quoted_and_not_paid_for_again(stubs, tmp_path):
    stubs["recraft"].fault = "cut_reply"
    with house(stubs, tmp_path, "recraft") as live:
        asked = {"model": "recraft-crisp-upscale"}
        files = {"image": ("a.png", png((300, 260)), "image/png")}
        headers = {"Idempotency-Key": "once"}
        quoted = live.edit(asked, files=files, params={"dryRun": "1"}).json()["total_cost_micros"]
        for _ in range(2):
            reply = live.edit(asked, files=files, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (504, "UPSTREAM_ERROR")
        assert stubs["recraft"].paid == 1
        (row,) = live.client.get("/v1/requests").json()["data"]
        assert round(row["cost"] * 1e6) == quoted > 0
        kept = live.client.get(f"/v1/requests/{row['id']}").json()
        assert [a["billed"] for a in kept["remote_attempts"]] == ["maybe"]
        # The picture was with the provider when the connection broke.
        assert (kept["sent_to"], kept["sent_bytes"] > 0) == ("127.0.0.1", True)


def leave(live: Live, stub: Stub, fields: Any, files: Any, headers: dict[str, str]) -> None:
    """Ask, and hang up as soon as the provider is at work on the paid call."""

    async def once() -> None:
        async with httpx.AsyncClient(base_url=live.url, timeout=60) as client:
            post = client.post(EDITS, data=fields, files=files, headers=headers)
            asking = asyncio.ensure_future(post)
            while not stub.polled.is_set():
                await asyncio.sleep(0.01)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking

    asyncio.run(once())
    assert stub.paid == 1


@pytest.mark.parametrize("provider", ["recraft", "replicate"])
def test_who_leaves_a_paid_call_keeps_his_name_taken(stubs, tmp_path, provider):
    """The main use of an idempotency key: a repeat after a time-out pays for nothing twice."""
    stub, asked = stubs[provider], {"model": "recraft-crisp-upscale"}
    stub.fault, stub.polls = ("slow_reply" if provider == "recraft" else ""), 1 << 30
    files = {"image": ("a.png", png((300, 260)), "image/png")}
    headers = {"Idempotency-Key": "once"}
    with house(stubs, tmp_path, provider, **ENDLESS) as live:
        leave(live, stub, asked, files, headers)
        stub.fault, stub.polls = "", 0
        again = live.edit(asked, files=files, headers=headers)
        assert "may have been paid for" in check_error(again, 400, param="Idempotency-Key")
        assert stub.paid == 1
        assert live.edit(asked, files=files, headers={"Idempotency-Key": "two"}).status_code == 200
        assert stub.paid == 2


def test_the_name_of_a_call_that_was_stopped_free_of_charge_is_free(stubs, tmp_path):
    stubs["replicate"].fault = "stuck"  # it never starts, and what is aborted then costs nothing
    files = {"image": ("a.png", png((300, 260)), "image/png")}
    headers = {"Idempotency-Key": "once"}
    with house(stubs, tmp_path, "replicate", **ENDLESS) as live:
        leave(live, stubs["replicate"], {"model": "clarity-upscaler"}, files, headers)
        wait_for(lambda: all(job.cancelled for job in stubs["replicate"].jobs.values()))
        stubs["replicate"].fault = ""
        again = live.edit({"model": "clarity-upscaler"}, files=files, headers=headers)
        assert again.status_code == 200
        rows = live.client.get("/v1/requests").json()["data"]
        assert [row["status"] for row in rows] == ["completed", "cancelled"]


def test_a_refusal_that_may_have_been_billed_is_not_asked_for_again(stubs, tmp_path):
    stubs["replicate"].fault = "nsfw"
    files = {"image": ("a.png", png((300, 260)), "image/png")}
    headers = {"Idempotency-Key": "once"}
    with house(stubs, tmp_path, "replicate") as live:
        for _ in range(2):
            reply = live.edit({"model": "recraft-crisp-upscale"}, files=files, headers=headers)
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "UPSTREAM_ERROR")
        assert "paid for again" in reply.json()["error"]["message"]
        assert stubs["replicate"].paid == 1
        assert record(live, reply)["remote_attempts"][0]["billed"] == "maybe"


def test_a_job_that_outlives_its_request_is_settled_when_it_has_ended(stubs, tmp_path, monkeypatch):
    """Given up at its deadline, done and billed at the provider a little later."""
    monkeypatch.setattr(unsettled, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(unsettled, "_LOOKS", 1000)
    stubs["fal"].polls, stubs["fal"].fault = 1 << 30, "stuck"
    with house(stubs, tmp_path, "fal", provider_seconds=30) as live:
        wait_for(lambda: stubs["fal"].calls["pricing"] > 0)
        files = {"image": ("a.png", png((300, 260)), "image/png")}
        reply = live.edit({"model": "seedvr-image-upscale"}, files=files)
        assert (reply.status_code, reply.json()["error"]["reason"]) == (504, "deadline")
        stubs["fal"].polls, stubs["fal"].fault = 0, ""
        (job,) = stubs["fal"].jobs.values()
        job.cancelled = False
        wait_for(lambda: record(live, reply)["cost"] > 0)
        kept = record(live, reply)
        assert round(kept["cost"] * 1e6) == round(stubs["fal"].billed * 1_000_000)
        assert [a["billed"] for a in kept["remote_attempts"]] == ["yes"]


def test_what_bars_a_provider_is_said_with_its_name_and_once(stubs, tmp_path):
    asked = {"model": "recraft-crisp-upscale"}
    files = {"image": ("a.png", png((300, 260)), "image/png")}
    stubs["recraft"].fault = "402"
    with house(stubs, tmp_path, "recraft") as live:
        live.edit(asked, files=files)  # the account cannot pay: off until the settings change
        message = check_error(live.edit(asked), 404, "MODEL_DISABLED", "model")
        assert "Remote: Recraft is off: the server's account there cannot pay." in message
        assert message.endswith("pay.")
        assert "RECRAFT_API_KEY" not in message  # it has that
        assert "FAL_KEY (fal.ai)" in message
    with house(stubs, tmp_path, "recraft", local_only=True) as live:
        message = check_error(live.edit(asked), 404, "MODEL_DISABLED", "model")
        assert "makes no outgoing connections (UPSCALE_LOCAL_ONLY)." in message
        assert message.count("UPSCALE_LOCAL_ONLY") == 1
        assert "FAL_KEY" not in message
