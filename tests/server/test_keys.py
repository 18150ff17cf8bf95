"""Keys over HTTP: who is let in, to what, how often, and for how much."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import EDITS, Live, check_error, png, serving, wait_for
from upscale.errors import RateLimited
from upscale.server.meters import Meter
from upscale.server.records.database import Database
from upscale.server.records.keys import Key, KeyRing
from upscale.settings import Settings

# 12 x 8 pixels, four times as wide and high.
MEGAPIXELS = 48 * 32 / 1e6
PRICE = Decimal("0.25")


@dataclass
class Keyed:
    """A server with keys."""

    live: Live
    ring: KeyRing

    def make(self, name: str, **limits: Any) -> tuple[Key, httpx.Client]:
        """A new key, and a client that has it."""
        key, token = self.ring.create(name, **limits)
        return key, self.client(f"Bearer {token}")

    def client(self, authorization: str) -> httpx.Client:
        headers = {"Authorization": authorization}
        return httpx.Client(base_url=self.live.url, headers=headers, timeout=30)


@contextmanager
def keyed_server(folder: Path, **more: Any) -> Iterator[Keyed]:
    settings = Settings(data_dir=folder, price_per_image=PRICE, **more)
    with closing(Database.of(settings)) as database:
        database.open()
        with serving(settings) as live:
            yield Keyed(live, KeyRing(database))


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    with keyed_server(tmp_path) as server:
        yield server


def edit(client: httpx.Client, model: str = "bundled-x4", **more: Any) -> httpx.Response:
    files = {"image": ("a.png", png(), "image/png")}
    return client.post(EDITS, data={"model": model, **more.pop("data", {})}, files=files, **more)


def test_without_any_key_whatever_is_sent_is_ignored(keyed: Keyed) -> None:
    for header in ("Bearer sk-anything", "Basic eDp5", "nonsense", ""):
        assert edit(keyed.client(header)).is_success
    assert keyed.live.client.get("/v1/balance").json()["billing_type"] == "postpaid"


def test_once_there_is_a_key_it_is_asked_for(keyed: Keyed) -> None:
    key, client = keyed.make("one")
    token = client.headers["Authorization"].split()[1]
    wrong = ["", token, f"Basic {token}", "Bearer", "Bearer upk_unknown", f"Bearer {token}x"]
    for header in wrong:
        with keyed.client(header) as other:
            for reply in (edit(other), other.get("/v1/models"), other.get("/v1/requests")):
                message = check_error(reply, 401, "AUTHENTICATION_FAILED")
                assert message == "Invalid API key"
                assert reply.json()["error"]["type"] == "authentication_error"
                assert reply.headers["www-authenticate"] == "Bearer"
                assert reply.headers["x-should-retry"] == "false"
    for scheme in ("Bearer", "bearer", "BEARER "):
        assert edit(keyed.client(f"{scheme} {token}")).is_success
    # Links, health and the description are for everybody.
    url = edit(client).json()["data"][0]["url"]
    for path in (url, "/health", "/openapi.json", "/docs"):
        assert keyed.live.client.get(path).is_success
    keyed.ring.revoke(key.id)
    check_error(edit(client), 401, "AUTHENTICATION_FAILED")
    check_error(edit(keyed.live.client), 401, "AUTHENTICATION_FAILED")


def test_an_expired_key_is_none(keyed: Keyed) -> None:
    _, client = keyed.make("old", expires=1)
    check_error(edit(client), 401, "AUTHENTICATION_FAILED")


def test_others_may_be_let_in_beside_those_with_keys(tmp_path: Path) -> None:
    with keyed_server(tmp_path, allow_anonymous=True) as server:
        _, client = server.make("one")
        assert edit(client).is_success
        assert edit(server.live.client).is_success
        assert edit(server.client("Bearer sk-anything")).is_success
        check_error(edit(server.client("Bearer upk_wrong")), 401, "AUTHENTICATION_FAILED")
        own = client.get("/v1/requests").json()["data"]
        others = server.live.client.get("/v1/requests").json()["data"]
        assert (len(own), len(others)) == (1, 2)
        for request in own:
            check_error(server.live.client.get(f"/v1/requests/{request['id']}"), 404, param="id")


def test_a_key_for_some_models_is_for_no_others(keyed: Keyed) -> None:
    _, client = keyed.make("few", models=["real-esrgan"])
    message = check_error(edit(client), 404, "MODEL_DISABLED", "model")
    assert "key" in message
    check_error(edit(client, "real-esrgan"), 404, "MODEL_DISABLED", "model")  # not installed
    listed = {entry["id"] for entry in client.get("/v1/models").json()["data"]}
    assert listed == {"real-esrgan"}
    for query in ("", "?schema=true"):
        assert client.get(f"/v1/models/realesrgan{query}").is_success  # by another name
        hidden = client.get(f"/v1/models/bundled-x4{query}")
        check_error(hidden, 404, "MODEL_DISABLED", "model")
    _, other = keyed.make("other", models=["bundled-x4"])
    assert edit(other).is_success


def test_requests_a_minute(keyed: Keyed) -> None:
    _, client = keyed.make("slow", requests_per_minute=2)
    assert [edit(client).status_code for _ in range(4)] == [200, 200, 429, 429]
    reply = edit(client)
    assert "2 requests a minute" in check_error(reply, 429, "RATE_LIMITED")
    assert 25 <= int(reply.headers["retry-after"]) <= 31
    assert client.get("/v1/models").is_success  # only edits count
    _, other = keyed.make("other")
    assert edit(other).is_success


def test_megapixels_a_minute(keyed: Keyed) -> None:
    _, client = keyed.make("small", megapixels_per_minute=2.5 * MEGAPIXELS)
    assert [edit(client).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    assert "megapixels" in check_error(edit(client), 429, "RATE_LIMITED")
    # A result larger than the limit can be had, and is waited for afterwards.
    _, client = keyed.make("smaller", megapixels_per_minute=0.1 * MEGAPIXELS)
    assert edit(client).is_success
    assert edit(client).headers["retry-after"] == "60"


def test_a_bucket_fills_up_again() -> None:
    now = [0.0]
    meter = Meter("things", 1.0, lambda: now[0])
    meter.take("a", 6, 6)
    with pytest.raises(RateLimited) as refused:
        meter.check("a", 6)
    assert refused.value.retry_after == 11
    now[0] += 11
    meter.check("a", 6)
    meter.check("b", 6)
    meter.take("a", 6, 100)
    now[0] += 3600
    meter.take("a", 6, 5)
    meter.check("a", 6)
    meter.check("a", None)


def test_less_than_one_a_minute_is_one_in_some_minutes() -> None:
    now = [100.0]
    meter = Meter("things", 1.0, lambda: now[0])
    for _ in range(3):
        meter.check("a", 0.5)
        meter.take("a", 0.5, 1)
        with pytest.raises(RateLimited) as refused:
            meter.check("a", 0.5)
        assert refused.value.retry_after == 60
        now[0] += 120


def test_spending_ends_at_the_limit(keyed: Keyed) -> None:
    key, client = keyed.make("poor", spending_limit_micros=600_000)
    assert client.get("/v1/balance").json() == {
        "object": "balance",
        "billing_type": "prepaid",
        "available": {"amount": 0.6, "currency": "usd"},
    }
    dry = edit(client, params={"dryRun": "true"}).json()
    assert dry["total_cost_micros"] == 250_000
    assert [edit(client).status_code for _ in range(4)] == [200, 200, 402, 402]
    reply = edit(client)
    message = check_error(reply, 402, "INSUFFICIENT_BALANCE")
    assert "$0.250000" in message
    assert "$0.100000" in message
    assert reply.json()["error"]["type"] == "insufficient_quota"
    assert reply.headers["x-should-retry"] == "false"
    assert client.get("/v1/balance").json()["available"]["amount"] == 0.1
    keyed.ring.limit(key.id, spending_limit_micros=900_000)
    assert edit(client, data={"n": "2"}).status_code == 402
    assert edit(client).is_success
    assert keyed.ring.get(key.id).spent_micros == 750_000
    assert keyed.ring.get(key.id).reserved_micros == 0


def test_what_fails_costs_nothing(keyed: Keyed) -> None:
    key, client = keyed.make("poor", spending_limit_micros=250_000)
    keyed.live.engine.failure = KeyError("x")
    for _ in range(3):
        check_error(edit(client), 500, "INTERNAL_ERROR")
    found = keyed.ring.get(key.id)
    assert (found.spent_micros, found.reserved_micros) == (0, 0)
    keyed.live.engine.failure = None
    assert edit(client).is_success


def test_many_at_once_cannot_spend_more_than_there_is(keyed: Keyed) -> None:
    key, client = keyed.make("poor", spending_limit_micros=5 * 250_000)
    start = threading.Barrier(16)

    def one(_: int) -> int:
        start.wait()
        return edit(client).status_code

    with ThreadPoolExecutor(16) as threads:
        got = sorted(threads.map(one, range(16)))
    assert got == [200] * 5 + [402] * 11
    found = keyed.ring.get(key.id)
    assert (found.spent_micros, found.reserved_micros) == (5 * 250_000, 0)


def test_keys_take_turns(keyed: Keyed) -> None:
    clients = [keyed.make(name)[1] for name in ("many", "few")]
    keyed.live.engine.held = True
    with ThreadPoolExecutor(12) as threads:
        first = threads.submit(edit, clients[0])
        assert keyed.live.engine.begun.wait(10)
        asked = [threads.submit(edit, clients[0]) for _ in range(6)]
        wait_for_queue(keyed.live, 7)
        late = threads.submit(edit, clients[1])
        wait_for_queue(keyed.live, 8)
        keyed.live.engine.held = False
        assert all(each.result().is_success for each in (first, *asked, late))
    waited = [job.id for job in keyed.live.engine.jobs]
    assert waited.index(late.result().headers["x-request-id"]) == 1


def wait_for_queue(live: Live, jobs: int) -> None:
    wait_for(lambda: live.engine.waiting == jobs)


def test_keys_are_listed_to_their_own_holder_and_never_whole(keyed: Keyed) -> None:
    key, client = keyed.make("one", priority=2)
    keyed.make("two")
    [shown] = client.get("/v1/keys").json()["data"]
    assert (shown["id"], shown["name"], shown["priority"]) == (key.id, "one", 2)
    assert client.headers["Authorization"].split()[1] not in str(shown)
