"""What nobody here knows goes to the gateway, or to a server of the house, as it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS, settings_for
from upscale.providers.outcome import Failure, Kind
from upscale.providers.passthrough import passthrough_of
from upscale.settings import Settings

BODY = b'{"model": "flux.2-max", "prompt": "a capybara", "odd": [1, 2]}'


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 7):
        yield content[at : at + 7]


def forward(settings: Settings, path: str = "/openai/v1/images/generations", **more: Any) -> Any:
    async def once() -> Any:
        target = passthrough_of(settings)
        assert target is not None
        headers = {
            "Content-Type": "application/json",
            "Authorization": "Bearer our-callers-key",
            "Cookie": "session=1",
            **more.pop("headers", {}),
        }
        body = _pieces(more.pop("body", BODY))
        given = {"headers": headers, "body": body, **more}
        async with target.forward("POST", path, **given) as reply:
            content = b"".join([piece async for piece in reply.pieces()])
            return reply, content

    return asyncio.run(once())


def test_a_generation_is_forwarded(stubs: dict[str, Stub]) -> None:
    stub = stubs["lumenfall"]
    reply, content = forward(settings_for(lumenfall=stub.url))
    assert reply.status == 200
    assert b"media.lumenfall.ai" in content
    assert reply.headers["x-lumenfall-provider"] == "gemini"
    assert "set-cookie" not in reply.headers
    job = stub.jobs["raw-1"]
    assert (job.sent["raw"], job.sent["type"]) == (BODY, "application/json")
    assert job.sent["query"] == ""
    sent = stub.seen[-1]
    assert sent["authorization"] == f"Bearer {KEYS['lumenfall']}"
    assert "cookie" not in sent


def test_the_base_url_may_be_given_as_clients_have_it(stubs: dict[str, Stub]) -> None:
    forward(settings_for(lumenfall=stubs["lumenfall"].url + "/openai/v1"))
    assert stubs["lumenfall"].paid == 1


def test_a_server_of_the_house_comes_first(stubs: dict[str, Stub]) -> None:
    stub = stubs["lumenfall"]
    settings = Settings(
        passthrough_base_url=f"{stub.url}/openai/v1/",
        passthrough_key=KEYS["lumenfall"],  # type: ignore[arg-type]
        gateway_key="another-key",  # type: ignore[arg-type]
        local_only=True,
        local_hosts="127.0.0.1",
    )
    assert forward(settings)[0].status == 200
    target = passthrough_of(settings)
    assert target is not None
    assert target.provider == "passthrough"


@pytest.mark.parametrize(
    ("fault", "kind", "billed"),
    [
        ("401", Kind.KEY, "no"),
        ("402", Kind.BALANCE, "no"),
        ("cut_reply", Kind.IN_DOUBT, "maybe"),
        ("half_reply", Kind.IN_DOUBT, "maybe"),
    ],
)
def test_what_fails_is_told(fault: str, kind: Kind, billed: str, stubs: dict[str, Stub]) -> None:
    stub = stubs["lumenfall"]
    stub.fault = fault
    with pytest.raises(Failure) as caught:
        forward(settings_for(lumenfall=stub.url))
    assert (caught.value.kind, caught.value.billed) == (kind, billed)
    assert stub.paid <= 1


def test_errors_of_the_request_come_back_as_they_are(stubs: dict[str, Stub]) -> None:
    stubs["lumenfall"].fault = "400"
    reply, content = forward(settings_for(lumenfall=stubs["lumenfall"].url))
    assert reply.status == 400
    assert b"bad value" in content


def test_a_dead_server_is_not_reached() -> None:
    with pytest.raises(Failure) as caught:
        forward(settings_for(lumenfall="http://127.0.0.1:1"))
    assert caught.value.kind is Kind.UNREACHED


@pytest.mark.parametrize(
    "path", ["/openai/v1/../../v1/keys", "/openai/v1/a/../b", "//evil", "/a b"]
)
def test_paths_stay_below_the_prefix(path: str, stubs: dict[str, Stub]) -> None:
    with pytest.raises(Failure) as caught:
        forward(settings_for(lumenfall=stubs["lumenfall"].url), path)
    assert caught.value.kind is Kind.BARRED
    assert not stubs["lumenfall"].seen


def test_without_either_there_is_nothing() -> None:
    assert passthrough_of(Settings()) is None
    closed = Settings(gateway_key="k", local_only=True)  # type: ignore[arg-type]
    assert passthrough_of(closed) is None
    house = Settings(passthrough_base_url="http://10.0.0.9/v1", local_only=True)
    assert passthrough_of(house) is None
