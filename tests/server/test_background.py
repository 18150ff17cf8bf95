"""Background jobs over HTTP: accepted, watched, cancelled, repeated, there after a restart."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.server.live import EDITS, Live, check_error, check_headers, png, serving, wait_for
from upscale.server.forms import Form
from upscale.server.parameters import says_yes
from upscale.settings import Settings

PICTURE = png()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path)) as live:
        yield live


def post(live: Live, data: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    files = {"image": ("a.png", PICTURE, "image/png")}
    return live.edit({"model": "bundled-x4", **(data or {})}, headers=named, files=files)


def later(live: Live, data: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """A background job's request object."""
    reply = post(live, {"background": "true", **(data or {})}, **headers)
    assert reply.status_code == 202, reply.text
    body: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/v1/requests/{body['id']}"
    return body


def get(live: Live, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = live.client.get(f"/v1/requests/{request_id}").json()
    return body


def ended(live: Live, request_id: str) -> dict[str, Any]:
    """Its request object, once it has ended."""
    wait_for(lambda: get(live, request_id)["status"] not in ("pending", "processing"))
    return get(live, request_id)


def events(live: Live, request_id: str, **headers: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Ids, kinds and data of all its events until the stream ends."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    reply = live.client.get(f"/v1/requests/{request_id}/events", headers=named)
    assert reply.headers["content-type"].startswith("text/event-stream")
    return parsed(reply.text)


def parsed(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in lines:
            found.append((lines.get("id", ""), lines["event"], json.loads(lines["data"])))
    return found


@pytest.mark.parametrize("wish", [{"background": "true"}, {"background": "1"}, {}])
def test_a_job_is_accepted_and_its_reply_is_there_later(box: Live, wish: dict[str, str]) -> None:
    headers = {} if wish else {"Prefer": "wait=5; x, Respond-Async"}
    reply = post(box, wish, **headers)
    assert reply.status_code == 202
    assert reply.headers["preference-applied"] == "respond-async"
    check_headers(reply)
    body = reply.json()
    assert (body["object"], body["background"], body["id"]) == (
        "request",
        True,
        reply.headers["x-request-id"],
    )
    done = ended(box, body["id"])
    assert (done["status"], done["model"], done["error_code"]) == ("completed", "bundled-x4", None)
    direct = post(box).json()
    assert set(done["response"]) == set(direct)
    assert done["response"]["size"] == direct["size"] == "48x32"
    assert box.client.get(done["response"]["data"][0]["url"]).is_success
    assert done["response"]["metadata"]["receipt"]["seconds"]["expected"] >= 0
    assert not [path for path in (box.settings.data_dir / "jobs").iterdir() if path.is_dir()]
    assert box.spool.held == 0


def test_base64_is_in_the_reply_that_is_asked_for_later(box: Live) -> None:
    job = later(box, {"response_format": "b64_json", "output_format": "webp", "n": "2"})
    done = ended(box, job["id"])["response"]
    for entry in done["data"]:
        with Image.open(BytesIO(base64.b64decode(entry["b64_json"]))) as picture:
            assert (picture.format, picture.size) == ("WEBP", (48, 32))
    assert len(done["data"]) == 2


def test_a_request_is_shown_after_its_file_has_expired(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, media_ttl_seconds=1, background_ttl_seconds=1)
    with serving(settings) as live:
        job = later(live, {"response_format": "b64_json"})
        ended(live, job["id"])

        def gone() -> bool:
            [entry] = get(live, job["id"])["response"]["data"]
            return entry["b64_json"] is None

        wait_for(gone)


def test_the_result_of_a_job_outlives_other_links(tmp_path: Path) -> None:
    """Nobody waits for it at night."""
    with serving(Settings(data_dir=tmp_path, media_ttl_seconds=1)) as live:
        job = later(live)
        url = ended(live, job["id"])["response"]["data"][0]["url"]
        other = post(live).json()["data"][0]["url"]
        wait_for(lambda: live.client.get(other).status_code == 404)
        kept = live.client.get(url)
        assert kept.is_success
        age = int(kept.headers["cache-control"].rpartition("=")[2])
        assert 604_000 < age <= 604_800


def test_a_cancelled_request_frees_its_name(box: Live) -> None:
    box.engine.held = True
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(post, box, Idempotency_Key="a")
        assert box.engine.begun.wait(10)
        [request] = box.client.get("/v1/requests").json()["data"]
        box.client.delete(f"/v1/requests/{request['id']}")
        assert first.result().status_code == 499
    box.engine.held = False
    assert post(box, Idempotency_Key="a").status_code == 200


def test_no_database_is_asked_for_nul(box: Live) -> None:
    check_error(box.client.get("/v1/requests/a%00"), 404, param="id")
    for name in ("key_id", "starting_after"):
        check_error(box.client.get(f"/v1/requests?{name}=%00"), 400, param=name)


@pytest.mark.parametrize("value", ["transparent", "opaque", "auto", "false", ""])
def test_what_openai_means_by_background_asks_for_none(box: Live, value: str) -> None:
    assert post(box, {"background": value}).status_code == 200


def test_everything_is_refused_as_in_the_foreground(box: Live) -> None:
    check_error(post(box, {"background": "true", "scale_factor": "99"}), 400, param="scale_factor")
    check_error(post(box, {"background": "true", "model": "nope"}), 404, "MODEL_NOT_FOUND", "model")
    rejected = box.client.get("/v1/requests").json()["data"]
    assert {(each["status"], each["error_code"]) for each in rejected} == {
        ("rejected", "INVALID_REQUEST"),
        ("rejected", "MODEL_NOT_FOUND"),
    }


def test_a_job_that_fails_says_why(box: Live) -> None:
    box.engine.failure = KeyError("x")
    done = ended(box, later(box)["id"])
    assert (done["status"], done["error_code"], done["response"]) == (
        "upstream_failure",
        "INTERNAL_ERROR",
        None,
    )
    assert "KeyError" not in done["error_message"]


def test_those_that_wait_have_a_position_and_run_in_turn(box: Live) -> None:
    box.engine.held = True
    jobs = [later(box)["id"] for _ in range(5)]
    wait_for(lambda: get(box, jobs[0])["status"] == "processing" and len(box.engine.jobs) == 1)
    wait_for(lambda: [get(box, job)["position"] for job in jobs[2:]] == [2, 3, 4])
    assert box.client.get("/health").json()["waiting"] == 2
    box.engine.held = False
    assert [ended(box, job)["status"] for job in jobs] == ["completed"] * 5
    assert [job.id for job in box.engine.jobs] == jobs


def test_who_is_accepted_is_told_his_position(box: Live) -> None:
    """Also in a burst."""
    box.engine.held = True
    for _ in range(2):
        later(box)
    wait_for(lambda: box.engine.waiting == 2)
    assert [later(box)["position"] for _ in range(10)] == list(range(2, 12))
    box.engine.held = False


def test_a_job_is_pending_until_the_device_begins_with_it(box: Live) -> None:
    box.engine.held = True
    first, second = (later(box)["id"] for _ in range(2))
    wait_for(lambda: box.engine.waiting == 2)
    wait_for(lambda: get(box, first)["status"] == "processing")
    found = get(box, second)
    assert (found["status"], found["position"], found["attempts"]) == ("pending", 1, 0)
    assert get(box, first)["attempts"] == 1
    waiting = box.client.get("/v1/requests?status=pending").json()["data"]
    assert [each["id"] for each in waiting] == [second]
    box.engine.held = False
    assert ended(box, second)["attempts"] == 1


def test_a_foreground_request_can_be_watched_too(box: Live) -> None:
    box.engine.held = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(post, box)
        assert box.engine.begun.wait(10)
        second = threads.submit(post, box)
        wait_for(lambda: box.engine.waiting == 2)
        newest, oldest = box.client.get("/v1/requests").json()["data"]
        assert (oldest["status"], newest["status"]) == ("processing", "pending")
        assert get(box, newest["id"])["position"] == 1
        box.engine.held = False
        assert first.result().is_success
        assert second.result().is_success


def test_events_tell_of_states_and_progress_and_end(box: Live) -> None:
    box.engine.steps = 4
    job = later(box)["id"]
    told = events(box, job)
    assert told[-1][:2] == ("end", "state")
    assert told[-1][2]["status"] == "completed"
    assert told[-1][2]["response"]["data"]
    states = [data["status"] for _, kind, data in told if kind == "state"]
    assert states[-1] == "completed"
    for _, kind, data in told:
        if kind == "progress":
            assert data["tiles_total"] == 4
            assert {"tiles_done", "megapixels_per_second", "seconds_left", "stage"} <= set(data)
    again = box.client.get(f"/v1/requests/{job}/events", headers={"Last-Event-ID": "end"})
    assert (again.status_code, again.content) == (204, b"")
    assert [each[0] for each in events(box, job, Last_Event_ID="other.7")] == ["end"]


def test_a_stream_that_is_cut_goes_on_where_it_was(box: Live) -> None:
    box.engine.held, box.engine.steps = True, 50
    job = later(box)["id"]
    wait_for(lambda: get(box, job)["status"] == "processing")
    seen: list[str] = []
    with box.client.stream("GET", f"/v1/requests/{job}/events") as reply:
        text = ""
        for piece in reply.iter_text():
            text += piece
            seen = [number for number, _, _ in parsed(text) if number]
            if len(seen) >= 2:
                break
    box.engine.held = False
    rest = events(box, job, Last_Event_ID=seen[-1])
    numbers = seen + [number for number, _, _ in rest if number]
    assert len(numbers) == len(set(numbers))
    assert numbers[-1] == "end"
    feed = [int(number.split(".")[1]) for number in numbers[:-1]]
    assert feed == sorted(feed)


def test_streams_are_bounded_and_let_go_of(box: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upscale.server.feeds._WATCHERS", 1)
    box.engine.held = True
    job = later(box)["id"]
    with box.client.stream("GET", f"/v1/requests/{job}/events") as first:
        pieces = first.iter_text()  # which closes the stream when it is let go of
        next(pieces)
        check_error(box.client.get(f"/v1/requests/{job}/events"), 429, "RATE_LIMITED")
    box.engine.held = False
    ended(box, job)
    wait_for(lambda: box.client.get(f"/v1/requests/{job}/events").is_success)


@pytest.mark.parametrize("background", [True, False])
def test_delete_cancels_what_runs_and_what_waits(box: Live, background: bool) -> None:
    box.engine.held = True
    with ThreadPoolExecutor(3) as threads:
        wish = {"background": "true"} if background else {}
        replies = [threads.submit(post, box, wish)]
        wait_for(lambda: box.engine.waiting == 1)
        replies += [threads.submit(post, box, wish) for _ in range(2)]
        wait_for(lambda: len(box.client.get("/v1/requests").json()["data"]) == 3)
        wait_for(lambda: box.engine.waiting >= 2)
        ids = [each["id"] for each in box.client.get("/v1/requests").json()["data"]][::-1]
        for job in ids[::-1]:
            reply = box.client.delete(f"/v1/requests/{job}")
            assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
        assert box.engine.cancelled.wait(10)
        statuses = {reply.result().status_code for reply in replies}
        assert statuses == ({202} if background else {499})
    for job in ids:
        again = box.client.delete(f"/v1/requests/{job}").json()
        assert (again["status"], again["error_code"]) == ("cancelled", "REQUEST_CANCELLED")
    wait_for(lambda: box.engine.waiting == 0 and box.spool.held == 0)
    wait_for(lambda: not any(p.is_dir() for p in (box.settings.data_dir / "jobs").iterdir()))
    box.engine.held = False
    assert ended(box, later(box)["id"])["status"] == "completed"


def test_a_repeated_post_finds_the_first_one(box: Live) -> None:
    first = later(box, Idempotency_Key="a")
    again = later(box, Idempotency_Key="a")
    assert again["id"] == first["id"]
    ended(box, first["id"])
    assert later(box, Idempotency_Key="a")["status"] == "completed"
    other = post(box, {"background": "true", "scale_factor": "2"}, Idempotency_Key="a")
    check_error(other, 400, param="Idempotency-Key")
    second = later(box, Idempotency_Key="b")
    assert ended(box, second["id"])["id"] != first["id"]
    assert len(box.engine.jobs) == 2


@pytest.mark.parametrize("format", ["url", "b64_json"])
def test_a_repeat_in_the_foreground_gets_the_same_reply(box: Live, format: str) -> None:
    wish = {"response_format": format}
    box.engine.held = True
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(post, box, wish, Idempotency_Key="a")
        assert box.engine.begun.wait(10)
        second = threads.submit(post, box, wish, Idempotency_Key="a")
        box.engine.held = False
        replies = [first.result(), second.result(), post(box, wish, Idempotency_Key="a")]
    assert [reply.status_code for reply in replies] == [200] * 3
    assert replies[0].json() == replies[1].json() == replies[2].json()
    assert len(box.engine.jobs) == 1
    # What failed or was given up is tried again.
    box.engine.failure = KeyError("x")
    assert post(box, Idempotency_Key="c").status_code == 500
    box.engine.failure = None
    assert post(box, Idempotency_Key="c").status_code == 200


def test_jobs_outlive_the_server(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, drain_seconds=0)
    with serving(settings) as before:
        done = ended(before, later(before)["id"])
        before.engine.held = True
        jobs = [later(before)["id"] for _ in range(3)]
        assert before.engine.begun.wait(10)
    with serving(settings) as after:
        assert [ended(after, job)["status"] for job in jobs] == ["completed"] * 3
        assert {job.id for job in after.engine.jobs} == set(jobs)
        still = get(after, done["id"])
        assert still["response"] == done["response"]
        path = httpx.URL(still["response"]["data"][0]["url"]).path
        assert after.client.get(path).is_success
        # In order: stopping in order is no attempt.
        assert {get(after, job)["attempts"] for job in jobs} == {1}


def test_too_many_are_refused(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, background_limit=2)) as live:
        live.engine.held = True
        jobs = [later(live)["id"] for _ in range(2)]
        reply = post(live, {"background": "true"})
        check_error(reply, 429, "RATE_LIMITED")
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        live.engine.held = False
        for job in jobs:
            ended(live, job)
        later(live)


def test_what_cannot_be_there_in_time_is_refused_with_the_way_out(box: Live) -> None:
    box.engine.macs = 10**9
    for name in ("x-stainless-read-timeout", "x-stainless-timeout"):
        reply = post(box, **{name: "1"})
        message = check_error(reply, 400, param="background")
        assert "Prefer: respond-async" in message
        assert reply.headers["x-should-retry"] == "false"
        assert post(box, {"background": "true"}, **{name: "1"}).status_code == 202
        assert post(box, **{name: "nonsense"}).is_success
    assert post(box, x_stainless_read_timeout="600").is_success


def test_expectations_learn_from_what_was_measured(box: Live) -> None:
    def foreseen() -> float:
        reply = box.edit({"model": "bundled-x4"}, params={"dryRun": "1"})
        return float(reply.json()["plan"]["expected_seconds"])

    box.engine.macs = 10**9
    before = foreseen()
    box.engine.seconds = 30.0
    receipt = post(box).json()["metadata"]["receipt"]["seconds"]
    assert receipt["expected"] == before
    assert receipt["error"] == pytest.approx(30.0 / before - 1, abs=0.01)
    after = foreseen()
    assert after == pytest.approx(30.0, rel=0.01)


def test_purging_deletes_what_was_stored(box: Live) -> None:
    done = ended(box, later(box)["id"])
    url = done["response"]["data"][0]["url"]
    path = f"/v1/requests/{done['id']}/payloads"
    gone = box.client.delete(path).json()
    assert gone == {
        "id": done["id"],
        "object": "request",
        "purged": True,
        "already_purged": False,
        "media_deleted": 1,
    }
    check_error(box.client.get(url), 404)
    assert get(box, done["id"])["response"] is None
    again = box.client.delete(path).json()
    assert (again["purged"], again["already_purged"], again["media_deleted"]) == (True, True, 0)
    check_error(box.client.delete("/v1/requests/nope/payloads"), 404, param="id")
    box.engine.held = True
    check_error(box.client.delete(f"/v1/requests/{later(box)['id']}/payloads"), 400)
    box.engine.held = False


def test_unknown_requests_and_bad_queries(box: Live) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        check_error(box.client.request(method, f"/v1/requests/nope{path}"), 404, param="id")
    for query, field in (
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("starting_after=a&ending_before=b", "ending_before"),
        ("starting_after=nope", "starting_after"),
        ("created_after=yesterday", "created_after"),
        ("status=done", "status"),
        ("summary=perhaps", "summary"),
    ):
        check_error(box.client.get(f"/v1/requests?{query}"), 400, param=field)


def test_a_day_of_requests_is_paged_both_ways(box: Live) -> None:
    for _ in range(7):
        assert post(box, {"response_format": "b64_json"}).is_success
    everything = [each["id"] for each in box.client.get("/v1/requests").json()["data"]]
    assert everything == sorted(everything, reverse=True) or len(set(everything)) == 7
    forth, url = [], "/v1/requests?limit=3&summary=true"
    while url:
        page = box.client.get(url).json()
        forth += [each["id"] for each in page["data"]]
        assert page["summary"]["total_requests"] == 7
        last, url = page, page["next_page_url"]
    back, url = [each["id"] for each in last["data"]], last["previous_page_url"]
    while url:
        page = box.client.get(url).json()
        back = [each["id"] for each in page["data"]] + back
        url = page["previous_page_url"]
    assert forth == back == everything


def test_fields_of_a_record(box: Live) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    reply = post(
        box,
        {"user": "anna"},
        traceparent=f"00-{trace}-b7ad6b7169203331-01",
        x_session_id="session-1",
    )
    record = get(box, reply.headers["x-request-id"])
    assert (record["user"], record["trace_id"], record["session_id"]) == (
        "anna",
        trace,
        "session-1",
    )
    assert record["request_size_bytes"] == int(reply.request.headers["content-length"])
    assert record["response_size_bytes"] == len(reply.content)
    assert record["endpoint"] == EDITS
    assert record["duration_ms"] >= 0


def test_says_yes_understands_what_forms_send() -> None:
    for value, wanted in (("true", True), (True, True), (1, True), ("auto", False), ({}, False)):
        assert says_yes(Form({"a": [value]}), "a") is wanted
    assert not says_yes(Form(), "a")
