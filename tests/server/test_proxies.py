"""The address in links, behind proxies that are trusted or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from starlette.requests import Request

from tests.server.live import Live, serving
from upscale.server.proxies import caller_address, caller_base
from upscale.settings import Settings


def asked(client: str = "10.0.0.1", **headers: str) -> Request:
    raw = [(k.replace("_", "-").lower().encode(), v.encode()) for k, v in headers.items()]
    scope = {
        "type": "http",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "path": "/x",
        "headers": [(b"host", b"inner:8000"), *raw],
        "client": (client, 1234),
    }
    return Request(scope)


def base(trusted: str, client: str = "10.0.0.1", **headers: str) -> str:
    return caller_base(asked(client, **headers), trusted)


def test_a_trusted_proxy_is_believed() -> None:
    told = {
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Host": "images.example.com",
        "X_Forwarded_Prefix": "/upscale/",
    }
    assert base("10.0.0.0/8", **told) == "https://images.example.com/upscale"
    assert base("::1, 10.0.0.1", **told) == "https://images.example.com/upscale"
    assert base("10.0.0.0/8", "::ffff:10.0.0.1", **told) == "https://images.example.com/upscale"
    assert base("10.0.0.0/8", "192.0.2.1", **told) == "http://inner:8000"
    assert base("", **told) == "http://inner:8000"
    assert base("10.0.0.0/8") == "http://inner:8000"


@pytest.mark.parametrize(
    ("client", "told", "address"),
    [
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),  # not trusted
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),  # the first is anybody's word
        ("10.0.0.1", "203.0.113.7, 10.0.0.2", "203.0.113.7"),  # two proxies
        ("10.0.0.1", "203.0.113.7, unknown", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.9", "10.0.0.9"),
        ("unknown", "203.0.113.7", ""),
    ],
)
def test_the_address_of_a_caller_is_told_by_trusted_proxies(
    client: str, told: str, address: str
) -> None:
    headers = {"X_Forwarded_For": told} if told else {}
    assert caller_address(asked(client, **headers), "10.0.0.0/8") == address


def test_the_last_value_counts_the_one_that_the_proxy_wrote() -> None:
    forged = {"X_Forwarded_Proto": "http, https", "X_Forwarded_Host": "evil.test, good.test:444"}
    assert base("10.0.0.0/8", **forged) == "https://good.test:444"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X_Forwarded_Proto", "javascript"),
        ("X_Forwarded_Host", "a/b"),
        ("X_Forwarded_Host", "user@host"),
        ("X_Forwarded_Host", 'a"><script>'),
        ("X_Forwarded_Prefix", "//evil.test"),
        ("X_Forwarded_Prefix", "no-slash"),
        ("X_Forwarded_Prefix", "/a?b"),
    ],
)
def test_values_that_are_no_addresses_are_ignored(name: str, value: str) -> None:
    assert base("10.0.0.0/8", **{name: value}) == "http://inner:8000"


def test_a_network_that_is_none_keeps_the_server_from_starting() -> None:
    with pytest.raises(ValidationError):
        Settings(trusted_proxies="10.0.0.0/99")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that trusts a proxy on this machine, as all do unless told otherwise."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("behind"))) as live:
        yield live


TOLD = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.test", "X-Forwarded-Prefix": "/u"}


def link(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(reply.json()["data"][0]["url"])


def test_links_carry_the_proxys_address_and_are_read_from_the_disk(behind: Live) -> None:
    url = link(behind.edit({"model": "bundled-x4"}, headers=TOLD))
    assert url.startswith("https://a.test/u/media/")
    fields = {"model": "bundled-x4", "image": url}
    again = behind.client.post("/openai/v1/images/edits", data=fields, headers=TOLD)
    assert again.json()["size"] == "192x128"
    gone = f"https://a.test/u/media/{'0' * 27}.png"
    lost = behind.client.post(
        "/openai/v1/images/edits", data={**fields, "image": gone}, headers=TOLD
    )
    assert "expired" in lost.json()["error"]["message"]


def test_a_public_url_wins_and_nobody_need_be_trusted(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path / "alone", trusted_proxies="")) as alone:
        url = link(alone.edit({"model": "bundled-x4"}, headers=TOLD))
    assert url.startswith(f"{alone.url}/media/")
    settings = Settings(data_dir=tmp_path / "public", public_url="https://p.test/x/")
    with serving(settings) as public:
        url = link(public.edit({"model": "bundled-x4"}, headers=TOLD))
    assert url.startswith("https://p.test/x/media/")
