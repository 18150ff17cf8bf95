"""The OpenAI Python SDK against a server that has keys: who is let in, who has to wait or to pay,
and jobs whose result is fetched later.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.sdk.python_sdk import edit, fails
from tests.server.live import Live, png, serving, wait_for
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.settings import Settings


@pytest.fixture(scope="module")
def _locked(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Iterator[Live]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("locked"),
        weights_dir=weights_dir,
        price_per_image=Decimal("0.02"),
    )
    with serving(settings) as live:
        ring(live).create("the first one")
        yield live


@pytest.fixture
def locked(_locked: Live) -> Live:
    """A server that asks for keys; an edit costs 0.02 USD."""
    _locked.engine.reset()
    _locked.engine.macs = 1
    return _locked


def ring(live: Live) -> KeyRing:
    return KeyRing(Database.of(live.settings))


def holder(live: Live, name: str, *, retries: int = 0, **limits: Any) -> openai.OpenAI:
    """The SDK with a new key of that name."""
    _, token = ring(live).create(name, **limits)
    return openai.OpenAI(base_url=f"{live.url}/openai/v1", api_key=token, max_retries=retries)


def native(client: openai.OpenAI) -> httpx.Client:
    """What fetches results later: the same server and key."""
    server = str(client.base_url).removesuffix("/openai/v1/")
    return httpx.Client(base_url=server, headers={"Authorization": f"Bearer {client.api_key}"})


def ended(client: openai.OpenAI, place: str) -> dict[str, Any]:
    """The request object, once the job has ended."""
    with native(client) as http:
        wait_for(lambda: http.get(place).json()["duration_ms"] is not None)
        return http.get(place).json()  # type: ignore[no-any-return]


def test_a_wrong_key_is_an_authentication_error(locked: Live) -> None:
    client = holder(locked, "revoked", retries=2)
    assert edit(client, png()).size == "48x32"
    ring(locked).revoke("revoked")
    refused = fails(openai.AuthenticationError, "AUTHENTICATION_FAILED", edit, client, png())
    assert refused.type == "authentication_error"
    assert refused.response.headers["www-authenticate"] == "Bearer"
    stranger = client.with_options(api_key="none")
    fails(openai.AuthenticationError, "AUTHENTICATION_FAILED", edit, stranger, png())
    fails(openai.AuthenticationError, "AUTHENTICATION_FAILED", stranger.models.list)
    assert len(locked.engine.jobs) == 1


def test_a_rate_limit_is_waited_out_by_the_sdk(locked: Live) -> None:
    client = holder(locked, "hasty", requests_per_minute=30)
    dry = {"extra_query": {"dryRun": True}}
    limited = None
    for _ in range(60):
        try:
            edit(client, png(), **dry)
        except openai.RateLimitError as error:
            limited = error
            break
    assert limited is not None
    assert (limited.code, limited.type) == ("RATE_LIMITED", "rate_limit_error")
    assert 1 <= int(limited.response.headers["retry-after"]) <= 3
    assert edit(client.with_options(max_retries=1), png(), **dry).estimated is True


def test_what_a_key_cannot_pay_is_a_402_and_not_tried_again(locked: Live) -> None:
    client = holder(locked, "poor", retries=2, spending_limit_micros=30_000)
    assert edit(client, png()).metadata["cost"] == 0.02
    refused = fails(openai.APIStatusError, "INSUFFICIENT_BALANCE", edit, client, png())
    assert (refused.status_code, refused.type) == (402, "insufficient_quota")
    assert "$0.010000 is available" in refused.message
    with native(client) as http:
        summary = http.get("/v1/requests?summary=true").json()["summary"]
        assert (summary["by_status"]["completed"], summary["by_status"]["rejected"]) == (1, 1)
        assert http.get("/v1/balance").json()["available"] == {"amount": 0.01, "currency": "usd"}


def test_a_model_that_the_key_is_not_for_is_not_found(locked: Live) -> None:
    client = holder(locked, "small", models=["tiny-x2"])
    fails(openai.NotFoundError, "MODEL_DISABLED", edit, client, png())
    assert edit(client, png(), model="tiny-x2", extra_body={"scale_factor": 2}).size == "24x16"


def test_a_job_by_the_header_of_preferences(locked: Live) -> None:
    client = holder(locked, "patient")
    locked.engine.held = True
    accepted = client.images.with_raw_response.edit(
        model="real-esrgan",
        image=png(),
        prompt="",
        user="ada",
        extra_headers={"Prefer": "respond-async", "x-session-id": "scan-7"},
    )
    assert accepted.http_response.status_code == 202
    assert accepted.headers["Preference-Applied"] == "respond-async"
    place = accepted.headers["Location"]
    assert place == f"/v1/requests/{accepted.headers['x-request-id']}"
    assert accepted.parse().model_extra["status"] == "pending"  # type: ignore[index]
    locked.engine.held = False
    job = ended(client, place)
    assert (job["status"], job["user"], job["session_id"]) == ("completed", "ada", "scan-7")
    assert job["response"]["size"] == "48x32"
    with native(client) as http:
        assert http.get(job["response"]["data"][0]["url"]).headers["content-type"] == "image/png"
    # The SDK's own client reads the native paths, too.
    url = f"{locked.url}{place}"
    again: Any = client.get(url, cast_to=object)
    assert again["id"] == job["id"]


def test_a_job_by_a_field_and_what_the_field_means_to_others(locked: Live) -> None:
    client = holder(locked, "fields")
    accepted = edit(client, png(), extra_body={"background": True}, response_format="b64_json")
    assert (accepted.object, accepted.background, accepted.data) == ("request", True, None)
    job = ended(client, f"/v1/requests/{accepted.id}")
    assert job["response"]["data"][0]["b64_json"]
    # OpenAI's own values of the parameter are no wish for a job.
    for colour in ("transparent", "opaque", "auto"):
        assert edit(client, png(), background=colour).size == "48x32"


def test_a_repeat_is_the_same_job(locked: Live) -> None:
    client = holder(locked, "again")
    headers = {"Prefer": "respond-async", "Idempotency-Key": "page-12"}
    first = edit(client, png_ := png(), extra_headers=headers)
    assert edit(client, png_, extra_headers=headers).id == first.id
    other = fails(
        openai.BadRequestError,
        "INVALID_REQUEST",
        lambda: edit(client, png_, extra_body={"scale_factor": 2}, extra_headers=headers),
    )
    assert other.param == "Idempotency-Key"
    assert ended(client, f"/v1/requests/{first.id}")["status"] == "completed"
    assert len(locked.engine.jobs) == 1
    # Nor is a foreground one done or billed twice.
    once = {"Idempotency-Key": "page-13"}
    links = {edit(client, png_, extra_headers=once).data[0].url for _ in range(2)}
    assert len(links) == 1
    assert len(locked.engine.jobs) == 2
    with native(client) as http:
        newest = http.get("/v1/requests?limit=1").json()["data"][0]["id"]
        assert http.delete(f"/v1/requests/{newest}/payloads").json()["media_deleted"] == 1
    gone = fails(
        openai.NotFoundError,
        "INVALID_REQUEST",
        lambda: edit(client, png_, extra_headers=once),
    )
    assert "was deleted" in gone.message


def test_what_takes_longer_than_the_sdk_waits_is_refused_with_the_way_out(locked: Live) -> None:
    client = holder(locked, "short").with_options(timeout=100)
    locked.engine.macs = 10**12
    refused = fails(openai.BadRequestError, "INVALID_REQUEST", edit, client, png())
    assert refused.param == "background"
    assert "Prefer: respond-async" in refused.message
    later = edit(client, png(), extra_headers={"Prefer": "respond-async"})
    assert ended(client, f"/v1/requests/{later.id}")["status"] == "completed"


def test_a_job_is_cancelled(locked: Live) -> None:
    client = holder(locked, "sorry", spending_limit_micros=20_000)
    locked.engine.held = True
    job = edit(client, png(), extra_body={"background": "true"})
    assert locked.engine.begun.wait(30)
    with native(client) as http:
        assert http.get("/v1/balance").json()["available"]["amount"] == 0
        assert http.delete(f"/v1/requests/{job.id}").json()["status"] == "cancelled"
        assert http.get("/v1/balance").json()["available"]["amount"] == 0.02
    assert locked.engine.cancelled.wait(30)
