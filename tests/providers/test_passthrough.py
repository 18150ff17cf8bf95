"""What nobody here knows goes to the gateway, or to a server of the house, as it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from starlette.responses import Response

from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS, settings_for
from upscale.providers.outcome import Failure, Kind
from upscale.providers.passthrough import Forwarded, passthrough_of
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
    stub: Any = stubs["lumenfall"]
    reply, content = forward(settings_for(lumenfall=stub.url))
    assert reply.status == 200
    assert b"media.lumenfall.ai" in content
    assert reply.headers["x-lumenfall-provider"] == "gemini"
    assert "set-cookie" not in reply.headers
    job = stub.jobs["raw-1"]
    assert (job.sent["raw"], job.sent["type"]) == (BODY, "application/json")
    assert stub.queries == [""]
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


def test_of_the_query_only_a_dry_run_goes_along(stubs: dict[str, Stub]) -> None:
    stub: Any = stubs["lumenfall"]
    forward(settings_for(lumenfall=stub.url), dry_run=True)
    assert (stub.queries, stub.paid) == (["dryRun=true"], 0)


@pytest.mark.parametrize(
    ("addresses", "named", "own"),
    [
        (["10.1.2.3", "fd00::7"], "", True),
        (["127.0.0.1", "::1", "::ffff:192.168.0.4"], "", True),
        (["10.1.2.3", "93.184.216.34"], "", False),
        (["2002:a01:203::1"], "", False),
        ([], "", False),
        (["93.184.216.34"], "images.example", True),
    ],
)
def test_the_house_is_where_all_addresses_are_private(
    addresses: list[str], named: str, own: bool
) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        assert (host, port) == ("images.example", 8001)
        return addresses

    settings = Settings(passthrough_base_url="http://images.example:8001/v1", local_hosts=named)
    target = passthrough_of(settings, resolver=resolver)
    assert target is not None
    found = asyncio.run(target.in_house())
    assert (found is not None) is own
    if own:
        assert found == (() if named else tuple(addresses))


def test_what_stays_in_the_house_goes_to_the_address_that_was_looked_at(
    stubs: dict[str, Stub],
) -> None:
    """Whatever its name leads to a moment later."""
    stub: Any = stubs["lumenfall"]
    port = urlsplit(stub.url).port
    asked: list[str] = []

    async def resolver(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["93.184.216.34"]

    settings = Settings(passthrough_base_url=f"http://images.example:{port}/openai/v1")
    target = passthrough_of(settings, resolver=resolver)
    assert target is not None

    async def once() -> int:
        addresses = await target.in_house()
        assert addresses == ("127.0.0.1",)
        async with target.forward(
            "POST",
            "/openai/v1/images/generations",
            headers={"content-type": "application/json"},
            body=_pieces(BODY),
            addresses=addresses,
        ) as reply:
            return reply.status

    asyncio.run(once())
    assert asked == ["images.example"]
    assert len(stub.seen) == 1


@pytest.mark.parametrize(
    ("content", "micros"),
    [
        (b'{"cost": 0.04}', 40_000),
        (b'{"cost":"0.05" , "a": 1}', 50_000),
        (b'{"metadata": {"cost": 0.04}, "b64_json": "' + b"A" * 200_000 + b'"}', 40_000),
        (b'{"b64_json": "' + b"A" * 200_000 + b'", "cost": 0.04}', 40_000),
        (b'{"metadata": {"cost": 0.04}, "usage": {"cost": 0}}', 40_000),
        (b'{"prompt": "\\"cost\\": 7"}', None),
        (b'{"cost": 1e99}', None),
        (b'{"cost": 1e999999999}', None),
        (b'{"cost": 9007199254.740992}', None),
        (b'{"cost": -1}', None),
        (b'{"cost": 0.0', None),
        (b'{"cost": "1e-9"}', 0),
        (b'{"cost": 1.2.3}', None),
    ],
)
@pytest.mark.parametrize("size", [7, 1 << 16])
def test_a_cost_is_found_wherever_it_is(content: bytes, micros: int | None, size: int) -> None:
    async def bytes_of() -> AsyncIterator[bytes]:
        for at in range(0, len(content), size):
            yield content[at : at + size]

    async def read() -> int | None:
        reply = Forwarded(200, {}, httpx.Response(200, content=bytes_of()))
        assert b"".join([piece async for piece in reply.pieces()]) == content
        return reply.cost_micros

    assert asyncio.run(read()) == micros


def test_headers_are_handed_on_that_can_be(stubs: dict[str, Stub]) -> None:
    stub: Any = stubs["lumenfall"]

    def answer(_: Any) -> Response:
        reply = Response(b"abc", headers={"Content-Encoding": "br", "X-Should-Retry": "false"})
        reply.raw_headers += [
            (b"x-lumenfall-model", "→".encode()),
            (b"x-lumenfall-echo", stub.key.encode()),
            (b"x-lumenfall-provider", b"gemini"),
        ]
        return reply

    stub.answer = answer
    reply, content = forward(settings_for(lumenfall=stub.url))
    assert content == b"abc"
    kept = {k: v for k, v in reply.headers.items() if k.startswith("x-") or k.endswith("encoding")}
    assert kept == {
        "content-encoding": "br",
        "x-should-retry": "false",
        "x-lumenfall-provider": "gemini",
    }


def test_a_body_is_scrubbed_of_the_key_in_any_spelling() -> None:
    key = 'se/cret+with"quote'
    target = passthrough_of(
        Settings(passthrough_base_url="http://127.0.0.1:1/v1", passthrough_key=key)  # type: ignore[arg-type]
    )
    assert target is not None
    told = json.dumps({"error": {"message": f"Bearer {key} " + "x" * 900}}).encode()
    for spelling in (told, told.replace(b"/", b"\\/"), b"key=" + quote(key, safe="").encode()):
        scrubbed = target.scrubbed(spelling, 1 << 16)
        assert b"cret" not in scrubbed
        assert len(scrubbed) > len(spelling) - 40
    assert b"se/c" not in target.scrubbed(b"x" * 30 + key.encode()[:9], 36)
