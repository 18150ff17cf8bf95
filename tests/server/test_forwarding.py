"""Requests for models that nobody here knows: through a real server to a stub of the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gzip
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from starlette.responses import Response, StreamingResponse

from tests.providers.rig import fresh
from tests.providers.stubs.base import Job, running
from tests.providers.stubs.blocking import GatewayStub
from tests.providers.tools import KEYS
from tests.server.live import Live, check_error, png, serving, wait_for
from upscale.providers.passthrough import Passthrough
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Row, remote_facts, to_public
from upscale.settings import Settings

GENERATIONS = "/openai/v1/images/generations"
ASKED = {"model": "flux.2-max", "prompt": "a capybara", "n": 1}


@pytest.fixture(scope="module")
def _gateway() -> Iterator[GatewayStub]:
    with running(GatewayStub(KEYS["lumenfall"])) as stub:
        yield stub


@pytest.fixture
def gateway(_gateway: GatewayStub) -> GatewayStub:
    fresh(_gateway)
    return _gateway


def settings(folder: Path, gateway: GatewayStub, **more: Any) -> Settings:
    given: dict[str, Any] = {
        "data_dir": folder / "data",
        "gateway_base_url": gateway.url,
        "gateway_key": KEYS["lumenfall"],
        **more,
    }
    return Settings(**given)


def house(folder: Path, gateway: GatewayStub, **more: Any) -> Settings:
    """A server of the house instead of the gateway."""
    own: dict[str, Any] = {
        "data_dir": folder / "data",
        "passthrough_base_url": f"{gateway.url}/openai/v1",
        "passthrough_key": KEYS["lumenfall"],
        "local_only": True,
        "local_hosts": "127.0.0.1",
    }
    return Settings(**{**own, **more})


def kept(live: Live, reply: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(live.client.get(f"/v1/requests/{reply.headers['x-request-id']}").json())
        return found["status"] not in ("pending", "processing")

    wait_for(ended)
    return found


def test_a_generation_goes_to_the_gateway_as_it_came(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED, headers={"Authorization": "Bearer mine"})
        assert reply.status_code == 200
        assert reply.headers["X-Lumenfall-Provider"] == "gemini"
        assert reply.headers["x-request-id"].startswith("req_")
        job = gateway.jobs["raw-1"]
        assert json.loads(job.sent["raw"]) == ASKED
        assert gateway.seen[-1]["authorization"] == f"Bearer {KEYS['lumenfall']}"
        record = kept(live, reply)
        assert (record["status"], record["model"]) == ("completed", "flux.2-max")
        assert record["sent_to"] == "127.0.0.1"
        assert record["sent_bytes"] == len(job.sent["raw"])
        assert record["cost"] == reply.json()["metadata"]["cost"] == 0.04
        assert live.spool.held == 0


def test_an_edit_by_an_unknown_model_goes_along_with_its_picture(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        picture = png()
        files = {"image": ("mine.png", picture, "image/png")}
        reply = live.edit({"model": "gemini-3-pro-image", "prompt": "bluer"}, files=files)
        assert reply.status_code == 200, reply.text
        (job,) = gateway.jobs.values()
        sent = str(job.sent)
        assert "gemini-3-pro-image" in sent
        assert gateway.paid == 1
        assert kept(live, reply)["model"] == "gemini-3-pro-image"
        # Ours stay ours.
        assert live.edit({"model": "bundled-x4"}).json()["metadata"]["provider"] == "local"
        assert gateway.paid == 1


def test_the_openai_sdk_generates_and_then_upscales(tmp_path, gateway):
    """One base URL for the whole chain."""
    with serving(settings(tmp_path, gateway)) as live:
        client = openai.OpenAI(base_url=f"{live.url}/openai/v1", api_key="x", max_retries=0)
        made = client.images.generate(model="flux.2-max", prompt="a capybara")
        assert made.data
        upscaled = client.images.edit(
            model="bundled-x4", image=("a.png", png(), "image/png"), prompt=""
        )
        assert upscaled.data


def test_without_a_target_the_reply_says_how_to_enable_it(tmp_path, gateway):
    with serving(Settings(data_dir=tmp_path / "data")) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 404
        message = reply.json()["error"]["message"]
        assert "LUMENFALL_API_KEY" in message
        assert "UPSCALE_PASSTHROUGH_BASE_URL" in message
        unknown = live.edit({"model": "gemini-3-pro-image"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")
    assert not gateway.seen


def test_local_only_passes_nothing_on_but_to_the_house(tmp_path, gateway):
    with serving(settings(tmp_path, gateway, local_only=True)) as live:
        assert live.client.post(GENERATIONS, json=ASKED).status_code == 404
        assert live.edit({"model": "gemini-3-pro-image"}).status_code == 404
    assert not gateway.seen
    with serving(house(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 200
        assert kept(live, reply)["status"] == "completed"


def test_keys_keep_their_limits(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        ring = KeyRing(Database.of(live.settings))
        made = {
            "in": ring.create("in", remote=False),
            "few": ring.create("few", models=["bundled-x4"]),
            "one": ring.create("one", models=["flux.2-max"]),
            "poor": ring.create("poor", spending_limit_micros=1),
            "rich": ring.create("rich", spending_limit_micros=5_000_000),
        }
        codes = {}
        for name, (_, token) in made.items():
            headers = {"Authorization": f"Bearer {token}"}
            reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
            codes[name] = (reply.status_code, reply.json().get("error", {}).get("code"))
        assert codes == {
            "in": (404, "MODEL_DISABLED"),
            "few": (404, "MODEL_DISABLED"),
            "one": (200, None),
            "poor": (402, "INSUFFICIENT_BALANCE"),
            "rich": (200, None),
        }
        headers = {"Authorization": f"Bearer {made['rich'][1]}"}
        wait_for(lambda: ring.find(made["rich"][1]).spent_micros > 0)  # type: ignore[union-attr]
        assert gateway.paid == 2
        for fields, code in (
            ({"model": "flux.2-max"}, 200),
            ({"model": "dall-e-2"}, 404),
            ({}, 404),
        ):
            reply = live.client.post(
                "/openai/v1/images/variations",
                data=fields,
                files={"image": ("a.png", png(), "image/png")},
                headers={"Authorization": f"Bearer {made['one'][1]}"},
            )
            assert reply.status_code == code, reply.text
        assert gateway.paid == 3
        assert live.client.get("/v1/balance", headers=headers).json()["available"]["amount"] < 5


def test_an_error_comes_back_as_it_is_and_is_on_record(tmp_path, gateway):
    gateway.fault = "400"
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 400
        assert "bad value" in reply.text
        record = kept(live, reply)
        assert (record["status"], record["cost"]) == ("rejected", 0)


@pytest.mark.parametrize(("fault", "status"), [("cut_reply", 504), ("401", 502)])
def test_what_fails_between_is_told_as_ours(tmp_path, gateway, fault, status):
    gateway.fault = fault
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, "UPSTREAM_ERROR")
        assert KEYS["lumenfall"] not in reply.text
        assert kept(live, reply)["status"] == "upstream_failure"
        assert gateway.paid <= 1


def test_a_reply_that_breaks_off_is_not_taken_for_whole(tmp_path, gateway):
    gateway.fault = "half_reply"
    with serving(settings(tmp_path, gateway)) as live:
        with pytest.raises(httpx.RemoteProtocolError):
            live.client.post(GENERATIONS, json=ASKED)
        listed = lambda: live.client.get("/v1/requests").json()["data"][0]  # noqa: E731
        wait_for(lambda: listed()["status"] == "upstream_failure")
        assert live.spool.held == 0


def test_links_are_mirrored_where_the_operator_wants_it(tmp_path, gateway):
    given = {"passthrough_mirror": True, "local_hosts": "127.0.0.1"}
    with serving(settings(tmp_path, gateway, **given)) as live:
        files = {"image": ("a.png", png(), "image/png")}
        gateway.fault = "own_link"
        reply = live.edit({"model": "gemini-3-pro-image"}, files=files)
        (entry,) = reply.json()["data"]
        assert entry["url"].startswith(live.url)
        Image.open(BytesIO(live.client.get(entry["url"]).content)).verify()


def spoken(content: bytes, kind: str = "application/json", **more: Any) -> Callable[[Any], Any]:
    """What the stub answers to a run."""
    return lambda _: Response(content, media_type=kind, **more)


def trickling(*pieces: bytes) -> Callable[[Any], Any]:
    """A reply that stands still after its pieces, for longer than anybody waits."""

    async def slowly() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        await asyncio.sleep(3)

    return lambda _: StreamingResponse(slowly(), media_type="application/json")


def row_of(live: Live) -> Row:
    """The newest request, as it is now."""
    return RequestLog(Database.of(live.settings)).page().rows[0]


def newest(live: Live) -> dict[str, Any]:
    """The newest request, once it has ended."""
    wait_for(lambda: row_of(live).ended)
    row = row_of(live)
    return {**to_public(row), **remote_facts(row)}


def limited(live: Live, micros: int = 1_000_000) -> tuple[KeyRing, str, dict[str, str]]:
    """A key with a spending limit: its ring, its token, its header."""
    ring = KeyRing(Database.of(live.settings))
    _, token = ring.create("limited", spending_limit_micros=micros)
    return ring, token, {"Authorization": f"Bearer {token}"}


def spent(live: Live, ring: KeyRing, token: str) -> tuple[int, int]:
    """What the key has spent, and what is reserved for it."""
    newest(live)
    key = ring.find(token)
    assert key is not None
    return key.spent_micros, key.reserved_micros


@pytest.mark.parametrize("query", ["dry-run=yes", "dry_run", "DRYRUN=1&dryRun=false", "dryRun=on"])
def test_a_dry_run_goes_out_in_the_one_spelling_that_is_known_there(tmp_path, gateway, query):
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(f"{GENERATIONS}?{query}", json=ASKED)
        assert reply.json()["total_cost_micros"] == 40000
        files = {"image": ("a.png", png(), "image/png")}
        edit = {"model": "gemini-3-pro-image"}
        again = live.client.post(f"/openai/v1/images/edits?{query}", data=edit, files=files)
        assert again.json()["total_cost_micros"] == 40000
    assert gateway.queries == ["dryRun=true"] * 2
    assert gateway.paid == 0


def test_a_dry_run_is_not_sent_to_a_server_of_the_house(tmp_path, gateway):
    with serving(house(tmp_path, gateway)) as live:
        reply = live.client.post(f"{GENERATIONS}?dryRun=true", json=ASKED)
        check_error(reply, 400, param="dryRun")
    assert not gateway.queries


def test_a_dry_run_that_was_taken_for_a_run_is_told_loudly_and_done_no_more(
    tmp_path, gateway, caplog
):
    gateway.estimate = None
    with serving(settings(tmp_path, gateway)) as live:
        ring, token, headers = limited(live)
        first = live.client.post(f"{GENERATIONS}?dryRun=true", json=ASKED, headers=headers)
        assert first.status_code == 200
        told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        record = newest(live)
        assert (record["id"], record["status"]) == (first.headers["x-request-id"], "completed")
        assert (record["cost"], record["remote_attempts"][0]["billed"]) == (0.04, "yes")
        assert spent(live, ring, token) == (40_000, 0)
        assert any("may have been carried out" in line for line in told)
        for query in ("?dryRun=true", ""):
            again = live.client.post(GENERATIONS + query, json=ASKED, headers=headers)
            assert again.status_code == 400
    assert gateway.paid == 1


def test_a_quote_that_was_taken_for_a_run_is_booked(tmp_path, gateway):
    gateway.estimate = None
    with serving(settings(tmp_path, gateway)) as live:
        ring, token, headers = limited(live)
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 400
        assert newest(live)["remote_attempts"][0]["billed"] == "maybe"
        assert spent(live, ring, token) == (40_000, 0)


@pytest.mark.parametrize(
    "answer",
    [
        spoken(b'{"data": []}'),
        spoken(b'{"metadata": {"cost": 1e99}}'),
        spoken(b'{"metadata": {"cost": 1e999999999}}'),
        spoken(b"[" * 200_000),
    ],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_where_no_cost_is_told_the_quote_is_booked(tmp_path, gateway, answer, mirror):
    gateway.answer = answer
    with serving(settings(tmp_path, gateway, passthrough_mirror=mirror)) as live:
        ring, token, headers = limited(live)
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 200
        record = newest(live)
        assert (record["status"], record["cost"]) == ("completed", 0.04)
        assert record["remote_attempts"][0]["billed"] == "maybe"
        assert spent(live, ring, token) == (40_000, 0)


@contextlib.contextmanager
def calling(live: Live, headers: dict[str, str]) -> Iterator[socket.socket]:
    """A connection on which a generation was asked for; closed at the end, whatever has come."""
    place = live.url.removeprefix("http://")
    body = json.dumps(ASKED)
    sent = {"Host": place, "Content-Length": len(body), "Content-Type": "application/json"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**sent, **headers}.items())
    host, port = place.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"POST {GENERATIONS} HTTP/1.1\r\n{lines}\r\n{body}".encode())
        yield connection


COSTLY = b'{"metadata": {"cost": 0.03}, "data": ["'


@pytest.mark.parametrize(
    ("piece", "mirror", "billed", "cost"),
    [
        (b"", False, "maybe", 40_000),
        (b"{", False, "maybe", 40_000),
        (COSTLY, False, "yes", 30_000),
        (b"{", True, "maybe", 40_000),
    ],
)
def test_who_hangs_up_pays(tmp_path, gateway, piece, mirror, billed, cost):
    gateway.answer = trickling(piece)
    with serving(settings(tmp_path, gateway, passthrough_mirror=mirror)) as live:
        ring, token, headers = limited(live)
        with calling(live, headers) as connection:
            assert gateway.polled.wait(10)
            got = b""
            while piece not in got and not mirror:
                got += connection.recv(1 << 16)
        assert spent(live, ring, token) == (cost, 0)
        record = newest(live)
        assert record["status"] == "cancelled"
        assert [attempt["billed"] for attempt in record["remote_attempts"]] == [billed]
        wait_for(lambda: live.spool.held == 0)


def test_who_hangs_up_before_the_reply_pays_and_keeps_his_name(tmp_path, gateway):
    gateway.fault = "slow_reply"
    with serving(settings(tmp_path, gateway)) as live:
        ring, token, headers = limited(live)
        headers["Idempotency-Key"] = "once"
        with calling(live, headers):
            assert gateway.polled.wait(10)
        assert spent(live, ring, token) == (40_000, 0)
        assert newest(live)["remote_attempts"][0]["billed"] == "maybe"
        again = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        check_error(again, 400, param="Idempotency-Key")
    assert gateway.paid == 1


def test_a_call_is_on_record_before_it_is_sent(tmp_path, gateway):
    """So a server that is killed meanwhile has told of it, and what it may have cost is booked."""
    gateway.fault = "slow_reply"
    with serving(settings(tmp_path, gateway)) as live, ThreadPoolExecutor() as pool:
        _, _, headers = limited(live)
        asked = pool.submit(live.client.post, GENERATIONS, json=ASKED, headers=headers)
        assert gateway.polled.wait(10)
        row = row_of(live)
        assert (row.status, row.sent_to) == ("processing", "127.0.0.1")
        assert row.sent_bytes > 0
        assert [a["billed"] for a in row.remote_attempts] == ["maybe"]
        assert row.remote_job == {"jobs": [], "spent_micros": 40_000}
        asked.result()
        assert newest(live)["cost"] == 0.04
        row = row_of(live)
        assert row.remote_job is None


def test_a_call_whose_request_is_cancelled_is_booked(tmp_path, gateway):
    gateway.fault = "slow_reply"
    with serving(settings(tmp_path, gateway)) as live, ThreadPoolExecutor() as pool:
        ring, token, headers = limited(live)
        named = {**headers, "Idempotency-Key": "one"}
        asked = pool.submit(live.client.post, GENERATIONS, json=ASKED, headers=named)
        assert gateway.polled.wait(10)
        row = row_of(live)
        live.client.delete(f"/v1/requests/{row.id}", headers=headers)
        assert asked.result().status_code == 499
        assert spent(live, ring, token) == (40_000, 0)
        # A repeat would be paid for again.
        again = live.client.post(GENERATIONS, json=ASKED, headers=named)
        check_error(again, 400, param="Idempotency-Key")
    assert gateway.paid == 1


def test_the_name_of_what_did_not_arrive_is_free_again(tmp_path, gateway):
    """What is kept for a paid call is given back where none was made."""
    with serving(settings(tmp_path, gateway)) as live:
        headers = {"Idempotency-Key": "one"}
        gateway.fault = "401"
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 502
        gateway.fault = ""
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 200
    assert gateway.paid == 1


@pytest.mark.parametrize(
    ("fault", "billed", "cost"),
    [("cut_reply", "maybe", 40_000), ("half_reply", "maybe", 40_000), ("401", "no", 0)],
)
def test_each_failure_is_an_attempt(tmp_path, gateway, fault, billed, cost):
    gateway.fault = fault
    with serving(settings(tmp_path, gateway)) as live:
        ring, token, headers = limited(live)
        with contextlib.suppress(httpx.RemoteProtocolError):
            live.client.post(GENERATIONS, json=ASKED, headers=headers)
        record = newest(live)
        assert (record["status"], record["sent_to"]) == ("upstream_failure", "127.0.0.1")
        assert [a["billed"] for a in record["remote_attempts"]] == [billed]
        assert spent(live, ring, token) == (cost, 0)


def test_who_leaves_while_a_link_is_fetched_pays_what_it_cost(tmp_path, gateway):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        link = f"http://127.0.0.1:{silent.getsockname()[1]}/a.png"
        body = {"data": [{"url": link}], "metadata": {"cost": 0.03}}
        gateway.answer = spoken(json.dumps(body).encode())
        given = {"passthrough_mirror": True, "local_hosts": "127.0.0.1"}
        with serving(settings(tmp_path, gateway, **given)) as live:
            ring, token, headers = limited(live)
            with calling(live, headers):
                fetching, _ = silent.accept()
            with fetching:
                assert spent(live, ring, token) == (30_000, 0)
                assert newest(live)["status"] == "cancelled"


def test_a_header_that_cannot_be_handed_on_is_left_out(tmp_path, gateway):
    def answer(_: Any) -> Response:
        reply = Response(b'{"cost": 0.03}', media_type="application/json")
        reply.raw_headers.append((b"x-lumenfall-model", "\u2192".encode()))
        return reply

    gateway.answer = answer
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert (reply.status_code, reply.headers["x-lumenfall-model"]) == (200, "unknown")
        assert newest(live)["cost"] == 0.03


@pytest.mark.parametrize(
    "estimate",
    [
        {"total_cost_micros": True},
        {"total_cost_micros": 1 << 53},
        {"total_cost_micros": None},
        {"total_cost_micros": 1, "more": "x" * (2 << 20)},
    ],
)
def test_a_quote_is_a_plain_number_in_a_short_reply(tmp_path, gateway, estimate):
    gateway.estimate = estimate
    with serving(settings(tmp_path, gateway)) as live:
        _, _, headers = limited(live)
        reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        check_error(reply, 400, param="model")
        record = newest(live)
        assert record["sent_to"] == "127.0.0.1"
        assert record["sent_bytes"] == int(reply.request.headers["content-length"])
    assert gateway.paid == 0


def test_a_server_of_the_house_costs_nothing(tmp_path, gateway):
    with serving(house(tmp_path, gateway)) as live:
        ring, token, headers = limited(live)
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 200
        record = newest(live)
        assert (record["cost"], record["remote_attempts"][0]["billed"]) == (0, "no")
        assert spent(live, ring, token) == (0, 0)
    assert gateway.queries == [""]


def test_a_public_server_is_none_of_the_house(tmp_path, gateway, monkeypatch):
    async def elsewhere(_: Passthrough) -> None:
        return None

    monkeypatch.setattr(Passthrough, "in_house", elsewhere)
    with serving(house(tmp_path, gateway, local_only=False)) as live:
        ring, token, headers = limited(live)
        _, inside = ring.create("in", remote=False)
        refused = {"Authorization": f"Bearer {inside}"}
        reply = live.client.post(GENERATIONS, json=ASKED, headers=refused)
        check_error(reply, 404, "MODEL_DISABLED", "model")
        assert not gateway.queries
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 200
        assert gateway.queries == ["dryRun=true", ""]
        assert spent(live, ring, token) == (40_000, 0)


def test_a_repeat_is_not_paid_for_again(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        headers = {"Idempotency-Key": "once"}
        first = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        assert first.status_code == 200
        again = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        message = check_error(again, 400, param="Idempotency-Key")
        assert first.headers["x-request-id"] in message
        other = live.client.post(GENERATIONS, json={**ASKED, "n": 2}, headers=headers)
        check_error(other, 400, param="Idempotency-Key")
        assert gateway.paid == 1
        headers = {"Idempotency-Key": "edit"}
        edit = {"model": "gemini-3-pro-image"}
        assert live.edit(edit, headers=headers).status_code == 200
        check_error(live.edit(edit, headers=headers), 400, param="Idempotency-Key")
        assert gateway.paid == 2
        vary = {"data": {"model": "dall-e-2"}, "files": {"image": ("a.png", png(), "image/png")}}
        headers = {"Idempotency-Key": "vary"}
        for status in (200, 400):
            reply = live.client.post(
                "/openai/v1/images/variations", headers=headers, **copy.deepcopy(vary)
            )
            assert reply.status_code == status
        assert "passed on before" in reply.text
        assert gateway.paid == 3


def test_a_repeat_of_what_was_refused_tries_again(tmp_path, gateway):
    gateway.fault, gateway.times = "400", 1
    with serving(settings(tmp_path, gateway)) as live:
        headers = {"Idempotency-Key": "once"}
        for status in (400, 200):
            reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
            assert reply.status_code == status, reply.text
            newest(live)


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"data: {}\n\n" * 9, "text/event-stream"), (b"[" + b"1," * (34 << 20), "application/json")],
)
def test_what_cannot_be_mirrored_is_handed_on_as_it_came(tmp_path, gateway, content, kind):
    half = len(content) // 2
    gateway.answer = lambda _: StreamingResponse(
        iter((content[:half], content[half:])), media_type=kind
    )
    with serving(settings(tmp_path, gateway, passthrough_mirror=True)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 200
        assert reply.content == content


def test_an_event_stream_is_not_waited_for(tmp_path, gateway):
    async def slowly() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await asyncio.to_thread(seen.wait, 10)
        yield b"data: 2\n\n"

    seen = threading.Event()
    gateway.answer = lambda _: StreamingResponse(slowly(), media_type="text/event-stream")
    given = settings(tmp_path, gateway, passthrough_mirror=True)
    with serving(given) as live, live.client.stream("POST", GENERATIONS, json=ASKED) as reply:
        pieces = reply.iter_raw()
        assert next(pieces) == b"data: 1\n\n"
        seen.set()
        assert next(pieces) == b"data: 2\n\n"


def test_the_servers_key_is_told_to_nobody(tmp_path, gateway):
    echo = f'{{"error": {{"message": "{"x" * 700} Bearer {KEYS["lumenfall"]}"}}}}'
    gateway.answer = spoken(echo.encode(), status_code=422, headers={"x-should-retry": "false"})
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(f"{GENERATIONS}?api_key=secret&dryRun=no", json=ASKED)
        assert (reply.status_code, reply.headers["x-should-retry"]) == (422, "false")
        assert reply.json()["error"]["message"] == "x" * 700 + " Bearer ***"
    assert gateway.queries == [""]


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "dall-e-9", "model": "flux.2-max"}',
        '{"Model": "dall-e-9", "mod\\u0065l": "flux.2-max"}',
    ],
)
def test_a_body_that_names_two_models_is_refused(tmp_path, gateway, body):
    with serving(settings(tmp_path, gateway)) as live:
        ring = KeyRing(Database.of(live.settings))
        _, token = ring.create("one", models=["flux.2-max"])
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        reply = live.client.post(GENERATIONS, content=body, headers=headers)
        check_error(reply, 400, param="model")
        del headers["Content-Type"]
        for name in ("model", "Model"):
            form = {"files": [(name, (None, "dall-e-9")), ("model", (None, "flux.2-max"))]}
            reply = live.client.post("/openai/v1/images/variations", headers=headers, **form)
            check_error(reply, 400, param="model")
        reply = live.edit({"Model": "dall-e-9", "model": "flux.2-max"}, headers=headers)
        check_error(reply, 400, param="model")
    assert not gateway.queries


@pytest.mark.parametrize(
    "model",
    [
        *(
            "local/foo",
            "LOCAL/flux.2-max",
            "local",
            "local:foo",
            "loca/foo",
            "./local/x",
            " Local /a",
        ),
        *("bundled-x4/foo", "fall/seedvr-image-upscale", "mine.safetensors"),
        *("real-esrgann", "fal/rael-esrgan"),
    ],
)
def test_what_was_meant_for_this_server_is_not_passed_on(tmp_path, gateway, model):
    with serving(settings(tmp_path, gateway)) as live:
        for params in ({}, {"dryRun": "true"}):
            check_error(live.edit({"model": model}, params=params), 404, "MODEL_NOT_FOUND", "model")
        assert newest(live)["sent_to"] is None
    assert not gateway.seen


@pytest.mark.parametrize(
    ("status", "code", "cost"),
    [(408, 504, 40_000), (504, 504, 40_000), (524, 504, 40_000), (500, 502, 40_000), (404, 502, 0)],
)
def test_an_error_without_words_is_told_as_the_other_side_s(tmp_path, gateway, status, code, cost):
    """What stands in between answers so; whether the work was done it does not know."""

    gateway.answer = lambda _: Response("<html>oops</html>", status, media_type="text/html")
    with serving(settings(tmp_path, gateway)) as live:
        ring, token, headers = limited(live)
        headers["Idempotency-Key"] = "once"
        reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        error = reply.json()["error"]
        assert (reply.status_code, error["code"]) == (code, "UPSTREAM_ERROR")
        assert error["reason"] == ("in_doubt" if cost else "provider_error")
        assert f"Lumenfall answered HTTP {status}" in error["message"]
        assert newest(live)["remote_attempts"][0]["billed"] == ("maybe" if cost else "no")
        assert spent(live, ring, token) == (cost, 0)
        live.client.post(GENERATIONS, json=ASKED, headers=headers)
        assert gateway.paid == (1 if cost else 2)  # only what cost nothing is sent again


@pytest.mark.parametrize(
    ("status", "code", "billed"),
    [
        (500, "INTERNAL_ERROR", "no"),
        (502, "ALL_PROVIDERS_EXHAUSTED", "no"),
        (502, "UPSTREAM_ERROR", "maybe"),
        (504, "UPSTREAM_ERROR", "maybe"),
    ],
)
def test_a_failure_that_the_other_side_tells_of_itself(tmp_path, gateway, status, code, billed):
    error = {"error": {"message": "oops", "type": "server_error", "code": code}}
    gateway.answer = lambda _: Response(json.dumps(error), status, media_type="application/json")
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert (reply.status_code, reply.json()) == (status, error)
        assert newest(live)["remote_attempts"][0]["billed"] == billed


def test_a_redirect_is_not_followed_and_not_handed_on(tmp_path, gateway):
    gateway.answer = lambda _: Response(b"", 302, {"Location": "http://10.0.0.1/"})
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert (reply.status_code, reply.json()["error"]["reason"]) == (504, "in_doubt")
        assert "location" not in reply.headers
        record = newest(live)
        assert (record["status"], record["cost"]) == ("upstream_failure", 0)
        assert record["remote_attempts"][0]["billed"] == "maybe"


def test_an_error_that_tells_its_cost_is_booked_and_not_asked_for_again(tmp_path, gateway):
    body = {"error": {"message": "no", "code": "X"}, "metadata": {"cost": 0.05}}
    gateway.answer = lambda _: Response(json.dumps(body), 422, media_type="application/json")
    with serving(settings(tmp_path, gateway)) as live:
        headers = {"Idempotency-Key": "once"}
        assert live.client.post(GENERATIONS, json=ASKED, headers=headers).status_code == 422
        assert newest(live)["cost"] == 0.05
        again = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        check_error(again, 400, param="Idempotency-Key")
    assert gateway.paid == 1


@pytest.mark.parametrize("status", [500, 503])
def test_the_name_of_what_failed_free_of_charge_is_free(tmp_path, gateway, status):
    error = {"error": {"message": "oops", "code": "INTERNAL_ERROR"}}
    gateway.answer = lambda _: Response(json.dumps(error), status, media_type="application/json")
    with serving(settings(tmp_path, gateway)) as live:
        headers = {"Idempotency-Key": "once"}
        for _ in range(2):
            reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
            assert reply.status_code == status
    assert gateway.paid == 2


def test_who_leaves_before_anything_went_out_pays_nothing(tmp_path):
    """Nobody takes the connection: the body has not begun to go."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        at = full.getsockname()
        for _ in range(4):  # the queue of the listener is full then
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(at)
        given = Settings(
            data_dir=tmp_path / "data",
            gateway_base_url=f"http://127.0.0.1:{at[1]}",
            gateway_key=KEYS["lumenfall"],  # type: ignore[arg-type]
        )
        with serving(given) as live:
            with pytest.raises(httpx.ReadTimeout):
                live.client.post(GENERATIONS, json=ASKED, timeout=1.5)
            wait_for(lambda: newest(live)["status"] == "cancelled")
            assert newest(live)["remote_attempts"][0]["billed"] == "no"


@pytest.mark.parametrize("limit", [False, True])
def test_the_cost_is_found_in_a_reply_that_comes_compressed(tmp_path, gateway, limit):
    """Although nobody has asked for it."""
    body = json.dumps({"data": [], "metadata": {"cost": 0.07}}).encode()
    gateway.answer = lambda _: Response(
        gzip.compress(body), 200, {"Content-Encoding": "gzip"}, media_type="application/json"
    )
    with serving(settings(tmp_path, gateway)) as live:
        headers = limited(live)[2] if limit else {}
        reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
        assert reply.content == body
        assert newest(live)["cost"] == 0.07


@pytest.mark.parametrize("with_length", [False, True])
def test_the_record_has_ended_when_the_reply_has(tmp_path, gateway, with_length):
    body = json.dumps({"data": [], "metadata": {"cost": 0.07}}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:10]
        yield body[10:]

    headers = {"Content-Length": str(len(body))} if with_length else {}
    gateway.answer = lambda _: StreamingResponse(
        pieces(), headers=headers, media_type="application/json"
    )
    with serving(settings(tmp_path, gateway)) as live:
        for _ in range(5):
            reply = live.client.post(GENERATIONS, json=ASKED)
            at = f"/v1/requests/{reply.headers['x-request-id']}"
            assert live.client.get(at).json()["status"] == "completed"


def test_a_picture_that_ends_too_soon_is_not_kept_behind_our_name(tmp_path, gateway):
    whole = png((300, 200))
    for name, content in (("cut", whole[: len(whole) * 2 // 3]), ("whole", whole)):
        gateway.jobs[name] = Job(name, "", {}, result=content)
    links = [gateway.link(name) for name in ("cut.png", "whole.png")]
    body = {"data": [{"url": link} for link in links]}
    gateway.answer = spoken(json.dumps(body).encode())
    given = {"passthrough_mirror": True, "local_hosts": "127.0.0.1"}
    with serving(settings(tmp_path, gateway, **given)) as live:
        data = live.client.post(GENERATIONS, json=ASKED).json()["data"]
        assert data[0]["url"] == links[0]
        assert data[1]["url"] != links[1]
