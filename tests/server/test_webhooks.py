"""Webhooks, against a receiver on loopback: signed, tried again, told after a restart, kept in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import update

from tests.server.live import Live, check_error, png, serving, wait_for
from upscale.errors import InvalidRequest
from upscale.server import app, webhooks
from upscale.server.app import create_app
from upscale.server.outgoing import Outgoing
from upscale.server.records.database import Database
from upscale.server.records.recovery import ATTEMPTS
from upscale.server.records.requests import RequestLog
from upscale.server.records.tables import requests
from upscale.settings import Settings

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


@dataclass
class Letter:
    """What came in one delivery."""

    path: str
    headers: Message
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def id(self) -> str:
        return str(self.headers["webhook-id"])


@dataclass
class Receiver:
    """Keeps what comes. `answers` are statuses for the next deliveries, 200 afterwards; `gate`
    holds replies back while it is closed.
    """

    url: str = ""
    letters: list[Letter] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    trickle: bool = False

    def wait(self, number: int = 1) -> list[Letter]:
        wait_for(lambda: len(self.letters) >= number)
        return self.letters


def receiver_at(port: int) -> tuple[ThreadingHTTPServer, Receiver]:
    receiver = Receiver()
    receiver.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.letters.append(Letter(self.path, self.headers, body))
            status = receiver.answers.pop(0) if receiver.answers else 200
            receiver.gate.wait(20)
            try:
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                while receiver.trickle:
                    self.wfile.write(bytes(10_000))
            except OSError:
                pass  # it has hung up

        def do_GET(self) -> None:
            receiver.letters.append(Letter(f"GET {self.path}", self.headers, b"{}"))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook?team=PATH-SECRET"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server, receiver = receiver_at(0)
    with server:
        yield receiver
        receiver.gate.set()
        server.shutdown()


def settings(folder: Path, url: str, **more: Any) -> Settings:
    fields = {
        "webhook_url": url,
        "webhook_secret": SECRET,
        "webhook_retry_seconds": 0.02,
        "local_hosts": "127.0.0.1",
        "drain_seconds": 0,
    }
    return Settings(data_dir=folder, **{**fields, **more})


@pytest.fixture
def box(tmp_path: Path, receiver: Receiver) -> Iterator[Live]:
    with serving(settings(tmp_path, receiver.url)) as live:
        yield live


def job(live: Live, **fields: str) -> str:
    files = {"image": ("a.png", png(), "image/png")}
    wish = {"model": "bundled-x4", "background": "true", **fields}
    reply = live.edit(wish, files=files)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def wait_for_end(live: Live, request_id: str) -> None:
    wait_for(lambda: live.client.get(f"/v1/requests/{request_id}").json()["response"] is not None)


def states(folder: Path) -> dict[str, str | None]:
    """What the records say of each request's webhook."""
    with closing(Database.of(Settings(data_dir=folder))) as database:
        return {row.id: row.webhook_state for row in RequestLog(database).page().rows}


def wait_for_state(folder: Path, request_id: str, state: str) -> None:
    wait_for(lambda: states(folder)[request_id] == state)


def expected_signature(letter: Letter, key: bytes = KEY) -> str:
    signed = f"{letter.id}.{letter.headers['webhook-timestamp']}.".encode() + letter.body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def test_the_end_of_a_job_is_told_and_signed(box: Live, receiver: Receiver, tmp_path: Path) -> None:
    request_id = job(box, user="anna")
    (letter,) = receiver.wait()
    assert letter.path == "/hook?team=PATH-SECRET"
    assert letter.headers["content-type"] == "application/json"
    assert letter.headers["user-agent"].startswith("upscale/")
    assert letter.headers["webhook-signature"] == expected_signature(letter)
    assert abs(int(letter.headers["webhook-timestamp"]) - time.time()) < 20
    event = letter.event
    shown = box.client.get(f"/v1/requests/{request_id}").json()
    assert event == {
        "id": letter.id,
        "object": "event",
        "type": "request.completed",
        "created_at": event["created_at"],
        "data": shown,
    }
    assert abs(event["created_at"] - time.time()) < 20
    assert letter.id.startswith("evt_")
    assert (shown["status"], shown["user"]) == ("completed", "anna")
    assert shown["response"]["data"][0]["url"].startswith(box.url)
    wait_for_state(tmp_path, request_id, "delivered")
    assert len(receiver.letters) == 1


def test_the_sdk_of_openai_takes_it_for_genuine(box: Live, receiver: Receiver) -> None:
    request_id = job(box)
    (letter,) = receiver.wait()
    headers = dict(letter.headers.items())
    with openai.OpenAI(api_key="none") as client:
        event: Any = client.webhooks.unwrap(letter.body, headers, secret=SECRET)
        assert (event.type, event.data.id) == ("request.completed", request_id)
        other = "whsec_" + base64.b64encode(bytes(32)).decode()
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(letter.body, headers, secret=other)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(letter.body + b" ", headers, secret=SECRET)


def test_base64_results_are_not_put_in(box: Live, receiver: Receiver) -> None:
    job(box, response_format="b64_json")
    (letter,) = receiver.wait()
    assert letter.event["data"]["response"]["data"] == [{"b64_json": None}]


def test_foreground_requests_are_not_told(box: Live, receiver: Receiver, tmp_path: Path) -> None:
    assert box.edit({"model": "bundled-x4"}).is_success
    request_id = job(box)
    assert [letter.event["data"]["id"] for letter in receiver.wait()] == [request_id]
    wait_for_state(tmp_path, request_id, "delivered")
    assert len(receiver.letters) == 1
    assert sorted(states(tmp_path).values(), key=str) == [None, "delivered"]


def test_while_a_secret_is_changed_both_sign(tmp_path: Path, receiver: Receiver) -> None:
    other = bytes(24)
    both = f"{SECRET}, whsec_{base64.b64encode(other).decode()}"
    with serving(settings(tmp_path, receiver.url, webhook_secret=both)) as live:
        job(live)
        (letter,) = receiver.wait()
    signatures = letter.headers["webhook-signature"].split(" ")
    assert signatures == [expected_signature(letter), expected_signature(letter, other)]


@pytest.mark.parametrize("status", [500, 503, 404, 429, 302, 307])
def test_whoever_does_not_take_it_is_told_again_under_the_same_id(
    box: Live, receiver: Receiver, tmp_path: Path, status: int
) -> None:
    receiver.answers = [status, status]
    request_id = job(box)
    letters = receiver.wait(3)
    wait_for_state(tmp_path, request_id, "delivered")
    assert len({letter.id for letter in letters}) == 1
    # Redirects are not followed: all came to the URL of the setting.
    assert {letter.path for letter in letters} == {"/hook?team=PATH-SECRET"}
    assert len(letters) == 3


def test_a_receiver_that_is_away_is_told_when_it_comes_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    with serving(settings(tmp_path, url, webhook_retry_seconds=0.1)) as live:
        request_id = job(live)
        wait_for(
            lambda: live.client.get(f"/v1/requests/{request_id}").json()["duration_ms"] is not None
        )
        server, receiver = receiver_at(port)
        with server:
            (letter,) = receiver.wait()
            assert letter.event["data"]["id"] == request_id
            wait_for_state(tmp_path, request_id, "delivered")
            server.shutdown()


def test_gone_is_for_good_and_after_ten_tries_it_is_given_up(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_WAITS", (1,) * 9)
    with serving(settings(tmp_path, receiver.url)) as live:
        receiver.answers = [410]
        gone = job(live)
        wait_for_state(tmp_path, gone, "failed")
        assert len(receiver.letters) == 1
        receiver.letters.clear()
        receiver.answers = [500] * 20
        hopeless = job(live)
        wait_for_state(tmp_path, hopeless, "failed")
        assert len(receiver.letters) == 10


@pytest.mark.parametrize("begun", [True, False])
def test_cancelled_jobs_are_told(
    box: Live, receiver: Receiver, begun: bool, tmp_path: Path
) -> None:
    box.engine.held = True
    ids = [job(box) for _ in range(1 if begun else 3)]
    assert box.engine.begun.wait(10)
    assert box.client.delete(f"/v1/requests/{ids[-1]}").json()["status"] == "cancelled"
    (letter,) = receiver.wait()
    event = letter.event
    assert (event["type"], event["data"]["id"]) == ("request.cancelled", ids[-1])
    assert event["data"]["status"] == "cancelled"
    wait_for_state(tmp_path, ids[-1], "delivered")
    box.engine.held = False
    receiver.wait(len(ids))
    assert sorted(letter.event["data"]["id"] for letter in receiver.letters) == sorted(ids)


def test_failed_jobs_are_told(box: Live, receiver: Receiver) -> None:
    box.engine.failure = KeyError("x")
    job(box)
    box_event = receiver.wait()[0].event
    assert box_event["type"] == "request.failed"
    assert box_event["data"]["error_code"] == "INTERNAL_ERROR"
    assert box_event["data"]["response"] is None


def test_what_was_not_told_is_told_by_the_next_server(tmp_path: Path, receiver: Receiver) -> None:
    slow = settings(tmp_path, receiver.url, webhook_retry_seconds=1000)
    with serving(slow) as before:
        receiver.answers = [500]
        first = job(before)
        receiver.wait()
        wait_for(lambda: not receiver.answers)
        before.engine.held = True
        second = job(before)
        assert before.engine.begun.wait(10)
    assert states(tmp_path) == {first: "pending", second: "pending"}
    # What a new setting says concerns new jobs; the old ones are told where they were to be told.
    with serving(settings(tmp_path, "http://127.0.0.1:9/")) as after:
        letters = receiver.wait(3)
        told = sorted(letter.event["data"]["id"] for letter in letters)
        assert told == sorted([first, first, second])
        ids = {letter.id for letter in letters if letter.event["data"]["id"] == first}
        assert len(ids) == 1
        for request_id in (first, second):
            wait_for_state(tmp_path, request_id, "delivered")
        assert after.engine.jobs[-1].id == second


def test_jobs_given_up_at_start_are_told(tmp_path: Path, receiver: Receiver) -> None:
    with serving(settings(tmp_path, receiver.url)) as before:
        before.engine.held = True
        request_id = job(before)
        assert before.engine.begun.wait(10)
    # As two processes leave it that were killed at work.
    with closing(Database.of(Settings(data_dir=tmp_path))) as database, database.write() as to:
        dead = {"status": "processing", "attempts": ATTEMPTS, "owner": "f" * 15, "progress": "{}"}
        to.execute(update(requests).where(requests.c.id == request_id).values(dead))
    with serving(settings(tmp_path, receiver.url)):
        (letter,) = receiver.wait()
        assert (letter.event["type"], letter.event["data"]["id"]) == ("request.failed", request_id)
        assert "while it ran this job" in letter.event["data"]["error_message"]


def test_the_number_of_tries_goes_on_with_the_age(tmp_path: Path, receiver: Receiver) -> None:
    with serving(settings(tmp_path, receiver.url, webhook_retry_seconds=1000)) as before:
        receiver.answers = [500]
        request_id = job(before)
        receiver.wait()
    with closing(Database.of(Settings(data_dir=tmp_path))) as database, database.write() as to:
        to.execute(update(requests).values(finished_at=requests.c.finished_at - 86_400_000))
    receiver.answers = [500]
    with serving(settings(tmp_path, receiver.url, webhook_retry_seconds=5)):
        wait_for_state(tmp_path, request_id, "failed")
    assert len(receiver.letters) == 2


def test_without_a_url_nobody_is_told(tmp_path: Path, receiver: Receiver) -> None:
    with serving(settings(tmp_path, "")) as live:
        request_id = job(live)
        wait_for(
            lambda: live.client.get(f"/v1/requests/{request_id}").json()["status"] == "completed"
        )
    assert states(tmp_path) == {request_id: None}
    assert receiver.letters == []


def test_two_servers_at_one_folder_tell_once(tmp_path: Path, receiver: Receiver) -> None:
    receiver.gate.clear()
    with serving(settings(tmp_path, receiver.url)) as first:
        request_id = job(first)
        receiver.wait()
        with serving(settings(tmp_path, receiver.url)) as second:
            assert second.client.get("/health").is_success
            receiver.gate.set()
            wait_for_state(tmp_path, request_id, "delivered")
    assert len(receiver.letters) == 1


def test_a_server_beside_one_that_ends_takes_over(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_TURN_SECONDS", 0.05)
    ours = settings(tmp_path, receiver.url, webhook_retry_seconds=1000)
    receiver.answers = [500]
    with ExitStack() as first:
        request_id = job(first.enter_context(serving(ours)))
        receiver.wait()
        with serving(ours):
            first.close()
            wait_for_state(tmp_path, request_id, "delivered")
    assert len(receiver.letters) == 2


def test_a_receiver_that_hangs_holds_up_no_job(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_SECONDS", 0.5)
    receiver.gate.clear()
    with serving(settings(tmp_path, receiver.url)) as live:
        ids = [job(live) for _ in range(8)]
        for each in ids:
            wait_for(
                lambda each=each: (
                    live.client.get(f"/v1/requests/{each}").json()["status"] == "completed"
                )
            )  # type: ignore[misc]
        # Every try ends in time, and others follow: more than are under way at once.
        wait_for(lambda: len(receiver.letters) > 8)
        receiver.gate.set()
        for each in ids:
            wait_for_state(tmp_path, each, "delivered")


def test_an_endless_reply_is_not_read_to_its_end(
    box: Live, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.trickle = True
    wait_for_state(tmp_path, job(box), "delivered")
    receiver.trickle = False


def test_shutting_down_waits_for_nobody_who_hangs(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "_CLOSE_SECONDS", 0.2)
    receiver.gate.clear()
    with serving(settings(tmp_path, receiver.url)) as live:
        request_id = job(live)
        receiver.wait()
        begun = time.monotonic()
    assert time.monotonic() - begun < 8
    assert states(tmp_path) == {request_id: "pending"}


def not_told(folder: Path, url: str, caplog: pytest.LogCaptureFixture, **more: Any) -> str:
    """Why a job is not told; the reason as the log has it."""
    logging.getLogger("upscale").propagate = True
    with serving(settings(folder, url, webhook_retry_seconds=1000, **more)) as live:
        request_id = job(live)
        wait_for(lambda: any(record.message == "not told" for record in caplog.records))
        assert states(folder)[request_id] == "pending"
    (record,) = (record for record in caplog.records if record.message == "not told")
    fields = record.fields  # type: ignore[attr-defined]
    assert fields["request"] == request_id
    return str(fields["why"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1"])
def test_private_addresses_are_told_nothing(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    url = receiver.url.replace("127.0.0.1", host)
    assert "private" in not_told(tmp_path, url, caplog, local_hosts="")
    assert receiver.letters == []


def test_the_house_may_be_told_where_nothing_else_may(tmp_path: Path, receiver: Receiver) -> None:
    with serving(settings(tmp_path, receiver.url, local_only=True)) as live:
        request_id = job(live)
        receiver.wait()
        wait_for_state(tmp_path, request_id, "delivered")
    # The address of an old job is judged by what is allowed now.
    with closing(Database.of(Settings(data_dir=tmp_path))) as database, database.write() as to:
        to.execute(update(requests).values(webhook_state="pending"))
    alone = settings(tmp_path, "", local_only=True, local_hosts="", webhook_retry_seconds=1)
    with serving(alone) as live:
        live.client.get("/health")
    assert states(tmp_path)[request_id] == "pending"
    assert len(receiver.letters) == 1


def test_the_connection_goes_to_the_address_that_was_checked(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    monkeypatch.setattr(webhooks, "Outgoing", lambda settings, given: Outgoing(settings, resolver))
    url = receiver.url.replace("127.0.0.1", "house.test")
    with serving(settings(tmp_path, url, local_hosts="house.test")) as live:
        job(live)
        (letter,) = receiver.wait()
    assert letter.headers["host"].startswith("house.test:")
    assert asked == ["house.test"]


# base64 of "too short SHORT".
SHORT = "whsec_dG9vIHNob3J0IFNIT1JU"


@pytest.mark.parametrize(
    ("told", "given"),
    [
        ("needs UPSCALE_WEBHOOK_SECRET", {"webhook_secret": ""}),
        ("24 to 64 bytes", {"webhook_secret": SHORT}),
        ("is not `whsec_`", {"webhook_secret": SECRET.removeprefix("whsec_")}),
        ("in base64", {"webhook_secret": SECRET.replace("A", "-")}),
        ("openssl rand", {"webhook_secret": f"{SECRET}ü"}),
        ("only http and https", {"url": "ftp://example.com/PATH"}),
        ("names no host", {"url": "https:///PATH"}),
        ("user name", {"url": "https://user:PASSWORD@example.com/PATH"}),
        ("LOCAL_ONLY", {"url": "https://example.com/PATH", "local_only": True}),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(
    tmp_path: Path, told: str, given: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        create_app(settings(tmp_path, **{"url": "https://example.com/", **given}))
    message = caught.value.message
    assert told in message
    for secret in ("PATH", "PASSWORD", SHORT, SECRET[8:20]):
        assert secret not in message


def test_the_secret_is_shown_nowhere(
    tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("upscale").propagate = True
    caplog.set_level(logging.DEBUG)
    ours = settings(tmp_path, receiver.url)
    with serving(ours) as live:
        receiver.answers = [500]
        wait_for_state(tmp_path, job(live), "delivered")
        shown = live.client.get("/v1/requests").text
    lines = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert any("not told" in line for line in lines)
    assert any("'attempt': 2" in line for line in lines)
    secret = SECRET.removeprefix("whsec_")
    ours_only = [line for line in lines if "'name': 'upscale" in line]
    for text in (*ours_only, shown, repr(ours), str(ours.model_dump()), ours.model_dump_json()):
        assert secret not in text
    assert ours.model_dump()["webhook_secret"] == "***"
    assert "PATH-SECRET" not in ours.model_dump_json() + shown + "".join(ours_only)


def test_jobs_are_accepted_as_before_where_too_many_wait(
    tmp_path: Path, receiver: Receiver
) -> None:
    with serving(settings(tmp_path, receiver.url, background_limit=1)) as live:
        live.engine.held = True
        job(live)
        check_error(live.edit({"model": "bundled-x4", "background": "true"}), 429, "RATE_LIMITED")
        live.engine.held = False
        assert len(receiver.wait()) == 1


def test_of_a_receiver_that_is_away_no_more_is_known_than_has_room(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest stands in the records, and is told when some of it has been."""
    for name, value in (("_MOST", 3), ("_PAGE", 2), ("_LOOK_SECONDS", 0.1)):
        monkeypatch.setattr(webhooks, name, value)
    made: list[webhooks.Webhooks] = []

    def make(*given: Any) -> webhooks.Webhooks:
        made.append(webhooks.Webhooks(*given))
        return made[-1]

    monkeypatch.setattr(app, "Webhooks", make)
    receiver.gate.clear()
    with serving(settings(tmp_path, receiver.url)) as live:
        ids = [job(live) for _ in range(8)]
        for each in ids:
            wait_for_end(live, each)
        receiver.wait(3)
        assert len(made[0]._owed) == 3
        receiver.gate.set()
        for each in ids:
            wait_for_state(tmp_path, each, "delivered")
    assert sorted(letter.event["data"]["id"] for letter in receiver.letters) == sorted(ids)
