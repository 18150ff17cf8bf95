"""One shape of errors and one set of headers, whatever was asked of whichever path."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.server.live import EDITS, Live, check_error, check_headers, png, serving
from upscale.errors import (
    CheckpointError,
    Draining,
    InvalidRequest,
    OutOfMemory,
    OutputFault,
    QueueFull,
    SpoolFull,
)
from upscale.providers.addresses import covers
from upscale.server.errors import error_reply
from upscale.server.hosts import own_names
from upscale.settings import Settings
from upscale.weights.store import Network, Store

PATHS = [EDITS, "/openai/v1/models", "/openai/v1/models/aura-sr", "/health", "/media/x"]


@pytest.mark.parametrize("path", ["/", "/nope", EDITS + "/", "/openai/v1/images/nope"])
def test_unknown_paths_are_404(live: Live, path: str) -> None:
    assert "/openai/v1/images/edits" in check_error(live.client.get(path), 404)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_wrong_methods_are_405_and_list_the_right_ones(live: Live, path: str, method: str) -> None:
    reply = live.client.request(method, path)
    check_error(reply, 405)
    assert set(reply.headers["allow"].split(", ")) <= {"GET", "HEAD", "POST"}


@pytest.mark.parametrize("path", ["/openai/v1/models", "/health"])
def test_head_has_the_headers_and_no_body(live: Live, path: str) -> None:
    reply = live.client.head(path)
    assert (reply.status_code, reply.content) == (200, b"")
    check_headers(reply)


def test_ids_of_requests_differ_and_those_of_callers_are_not_taken_over(live: Live) -> None:
    replies = [live.client.get("/health", headers={"x-request-id": "mine"}) for _ in range(20)]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 20
    for reply in replies:
        check_headers(reply)


def test_health_tells_of_the_worker_and_the_queue(live: Live) -> None:
    body = live.client.get("/health").json()
    assert set(body) == {"status", "version", "worker", "waiting"}
    assert (body["status"], body["worker"], body["waiting"]) == ("ok", True, 0)


LONG = {"image": ("a.png", png() + bytes(200_000), "image/png")}
WRONG: dict[str, tuple[int, str, str, str | None, Callable[[Live], httpx.Response]]] = {
    "path": (404, "INVALID_REQUEST", "invalid", None, lambda s: s.client.get("/x")),
    "slash": (404, "INVALID_REQUEST", "invalid", None, lambda s: s.client.post(EDITS + "/")),
    "method": (405, "INVALID_REQUEST", "invalid", None, lambda s: s.client.put(EDITS)),
    "body": (413, "INVALID_REQUEST", "invalid", None, lambda s: s.edit(files=LONG)),
    "type": (415, "INVALID_REQUEST", "invalid", None, lambda s: s.client.post(EDITS)),
    "field": (400, "INVALID_REQUEST", "invalid", "n", lambda s: s.edit({"n": "0"})),
    "query": (
        400,
        "INVALID_REQUEST",
        "invalid",
        "dryRun",
        lambda s: s.edit(params={"dryRun": "maybe"}),
    ),
    "image": (400, "INVALID_REQUEST", "invalid", "image", lambda s: s.edit(files={"a": b""})),
    "name": (404, "MODEL_NOT_FOUND", "invalid", "model", lambda s: s.edit({"model": "nope"})),
    "model": (404, "MODEL_DISABLED", "invalid", "model", lambda s: s.edit({"model": "aura-sr"})),
    "one model": (
        404,
        "MODEL_NOT_FOUND",
        "invalid",
        "model",
        lambda s: s.client.get("/openai/v1/models/nope"),
    ),
    "media": (404, "INVALID_REQUEST", "invalid", None, lambda s: s.client.get("/media/x")),
    "queue": (
        429,
        "RATE_LIMITED",
        "rate_limit",
        None,
        lambda s: failing(s, QueueFull("F.", retry_after=0)),
    ),
    "spool": (
        429,
        "RATE_LIMITED",
        "rate_limit",
        None,
        lambda s: failing(s, SpoolFull("F.", retry_after=99)),
    ),
    "memory": (500, "INTERNAL_ERROR", "server", None, lambda s: failing(s, OutOfMemory("No."))),
    "bug": (500, "INTERNAL_ERROR", "server", None, lambda s: failing(s, KeyError("x"))),
    "end": (503, "INTERNAL_ERROR", "server", None, lambda s: failing(s, Draining("Bye."))),
}


def failing(server: Live, failure: Exception) -> httpx.Response:
    server.engine.failure = failure
    return server.edit()


@pytest.mark.parametrize("case", WRONG)
def test_every_failure_has_the_one_shape(small: Live, case: str) -> None:
    status, code, kind, param, ask = WRONG[case]
    reply = ask(small)
    check_error(reply, status, code, param)
    assert (
        reply.json()["error"]["type"].removesuffix("_request_error").removesuffix("_error") == kind
    )
    assert "location" not in reply.headers
    retried = status in (429, 503)
    assert reply.headers.get("x-should-retry") == (None if retried else "false")
    if status == 429:
        assert 1 <= int(reply.headers["retry-after"]) <= 60


ORIGIN = "https://page.example"


@pytest.fixture(scope="module")
def open_to_pages(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Iterator[Live]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("pages"),
        weights_dir=weights_dir,
        max_body_bytes=100_000,
        cors_origins=ORIGIN,
    )
    with serving(settings) as live:
        live.client.headers["Origin"] = ORIGIN
        yield live


@pytest.mark.parametrize("case", WRONG)
def test_pages_may_read_every_failure(open_to_pages: Live, case: str) -> None:
    open_to_pages.engine.reset()
    reply = WRONG[case][-1](open_to_pages)
    check_error(reply, WRONG[case][0], WRONG[case][1], WRONG[case][3])
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in reply.headers["access-control-expose-headers"]


def test_pages_may_read_all_of_a_media_link(open_to_pages: Live) -> None:
    open_to_pages.engine.reset()
    url = open_to_pages.edit({"model": "tiny-x2"}).json()["data"][0]["url"]
    for span, status in (("bytes=0-3", 206), ("bytes=999999-", 416)):
        reply = open_to_pages.client.get(url, headers={"Range": span})
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        assert {"ETag", "Content-Range", "Content-Disposition", "Accept-Ranges"} <= set(
            reply.headers["access-control-expose-headers"].split(", ")
        )


def test_a_refused_preflight_says_why(open_to_pages: Live) -> None:
    def ask(origin: str, method: str) -> httpx.Response:
        headers = {"Origin": origin, "Access-Control-Request-Method": method}
        return open_to_pages.client.options(EDITS, headers=headers)

    granted = ask(ORIGIN, "POST")
    assert (granted.status_code, granted.headers["access-control-allow-origin"]) == (200, ORIGIN)
    check_headers(granted)
    assert "origin" in check_error(ask("https://other.example", "POST"), 400)
    assert "method" in check_error(ask(ORIGIN, "PUT"), 400)


@pytest.mark.parametrize(
    "text",
    [
        b"nonsense\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
    ],
)
def test_what_is_no_http_is_answered_in_the_one_shape(live: Live, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(live.url).port or 0)) as connection:
        connection.sendall(text)
        reply = http.client.HTTPResponse(connection)
        reply.begin()
        headers = dict(reply.headers.items())
        check_error(httpx.Response(reply.status, headers=headers, content=reply.read()), 400)
        assert headers["connection"] == "close"
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("evil.example", False),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("upscale.localhost", True),
        ("LOCALHOST:80", True),
        ("127.0.0.1", True),
        ("[::1]:8000", True),
        ("192.168.1.5:8000", True),
        (socket.gethostname(), True),
    ],
)
def test_names_of_pages_that_resolve_to_this_machine_are_not_answered(
    live: Live, host: str, known: bool
) -> None:
    for path in ("/health", "/media/x", "/v1/models"):
        reply = live.client.get(path, headers={"Host": host})
        if not known:
            assert "UPSCALE_ALLOWED_HOSTS" in check_error(reply, 400)
        else:
            assert reply.status_code == (404 if "media" in path else 200)


@pytest.mark.parametrize(
    ("given", "host", "known"),
    [
        ({"allowed_hosts": "a.example, *.b.example"}, "a.example", True),
        ({"allowed_hosts": "a.example, *.b.example"}, "x.b.example", True),
        ({"allowed_hosts": "a.example, *.b.example"}, "b.example", False),
        ({"allowed_hosts": "*"}, "c.example", True),
        ({"public_url": "https://a.example/up"}, "a.example", True),
        ({"host": "0.0.0.0"}, "c.example", True),
        ({"host": "0.0.0.0", "allowed_hosts": "a.example"}, "c.example", False),
        ({}, "c.example", False),
    ],
)
def test_which_names_are_the_servers(given: dict[str, str], host: str, known: bool) -> None:
    assert covers(own_names(Settings(**given)), host) is known


@pytest.mark.parametrize("path", [*PATHS, "/docs", "/openapi.json", "/v1/models", "/nope"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_no_route_redirects_or_fails_in_another_shape(
    live: Live, path: str, method: str, slash: str
) -> None:
    reply = live.client.request(method, path + slash)
    check_headers(reply)
    if reply.status_code >= 300:
        error = reply.json()["error"]
        check_error(reply, reply.status_code, error["code"], error["param"])
    elif reply.content and "json" in reply.headers["content-type"]:
        assert "error" not in reply.json()


def test_models_are_listed_with_the_four_fields(live: Live) -> None:
    body = live.client.get("/openai/v1/models").json()
    assert body["object"] == "list"
    for entry in body["data"]:
        assert {"id", "object", "created", "owned_by"} <= set(entry)
        assert entry["object"] == "model"
    available = {entry["id"]: entry["available"] for entry in body["data"]}
    assert (available["real-esrgan"], available["aura-sr"], available["tiny-x2"]) == (
        True,
        False,
        True,
    )


@pytest.mark.parametrize("name", ["aura-sr", "fal/aura-sr", "fal%2Faura-sr", "local/aura-sr"])
def test_a_model_is_found_under_its_names(live: Live, name: str) -> None:
    assert live.client.get(f"/openai/v1/models/{name}").json()["id"] == "aura-sr"


def test_unknown_models_are_404(live: Live) -> None:
    reply = live.client.get("/openai/v1/models/invalid-model")
    message = check_error(reply, 404, "MODEL_NOT_FOUND", "model")
    assert message.startswith("Model 'invalid-model' not found")
    check_error(live.client.get("/openai/v1/models/"), 404, "MODEL_NOT_FOUND", "model")


def test_a_header_that_no_caller_should_send_breaks_nothing(live: Live) -> None:
    headers = {"content-type": "multipart/form-data; boundary=\x7f\xff", "content-length": "0"}
    raw = httpx.Headers({k: v.encode("latin-1") for k, v in headers.items()})
    check_error(live.client.post(EDITS, headers=raw), 400)


def test_a_message_with_a_lone_surrogate_can_be_sent() -> None:
    reply = error_reply(InvalidRequest("no \ud800", field="\udfff"))
    body = json.loads(bytes(reply.body))["error"]
    assert (body["message"], body["param"]) == ("no \\ud800", "\\udfff")


def test_a_network_removed_while_it_is_listed_breaks_nothing(
    live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = Store.networks

    def one_gone(store: Store) -> list[Network]:
        return [replace(n, path=tmp_path / "gone") for n in before(store)]

    monkeypatch.setattr(Store, "networks", one_gone)
    assert live.client.get("/openai/v1/models").status_code == 200
    assert live.client.get("/openai/v1/models/tiny-x2").json()["created"] == 0


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Cannot store /srv/x y/up: load on the server: No space left on device.", "No space left"),
        ("The result cannot be written: the disk is full. Free some space.", "the disk is full."),
        ("/srv/x y/a: b exists; nothing is overwritten unless told.", ""),
        ("The folder /srv/x y/a is read-only; nothing can be written to it.", ""),
    ],
)
def test_replies_tell_no_places_on_the_disk(live: Live, message: str, reason: str) -> None:
    live.engine.failure = OutputFault(message)
    shown = check_error(live.edit(), 500, "INTERNAL_ERROR")
    assert reason in shown
    assert "operator" in shown
    assert not {"/", "srv", "exists", "Free"} & set(re.findall(r"\w+|/", shown))


def test_a_broken_network_is_named_without_its_folder(live: Live, weights_dir: Path) -> None:
    live.engine.failure = CheckpointError(f"{weights_dir}/tiny-x2.safetensors: Permission denied.")
    message = check_error(live.edit({"model": "tiny-x2"}), 400, param="model")
    assert message == "tiny-x2.safetensors: Permission denied."
