"""HTTP to one provider. A paid call is made once and its failure is told exactly: not sent, or in
doubt. Free calls are repeated. The key goes to the API's hosts only; redirects are not followed.
Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import httpx

from upscale import __version__
from upscale.providers import numbers
from upscale.providers.addresses import is_public, resolve
from upscale.providers.body import Body, Sending
from upscale.providers.clock import Clock
from upscale.providers.outcome import Failure, Kind
from upscale.providers.pinning import first_reply, pinned
from upscale.providers.site import Site, host_of, plain_url

CONNECT_SECONDS = 5.0
STALL_SECONDS = 30.0
_REPLY_BYTES = 4 << 20
_SLOWEST_BYTES = 20_000  # a second, of what is sent
_READ_SECONDS = 300.0  # for a body that trickles
_MAX_ADDRESSES = 3
_PORTS = {"http": 80, "https": 443}
_BACK_OFF, _LONGEST_WAIT = 0.5, 8.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which a free call is worth repeating."""


@dataclass(frozen=True)
class Reply:
    """A reply; `cut`: its body broke off."""

    status: int
    headers: httpx.Headers
    content: bytes
    cut: bool = False

    @property
    def good(self) -> bool:
        """Whether the status says that it went well."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is none."""
        value = self.value()
        return value if isinstance(value, dict) else {}

    def value(self) -> Any:
        """The body as JSON has it; None where it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return None

    def retry_after(self, wall: float) -> float | None:
        """Seconds that the provider asks to wait."""
        said = self.headers.get("retry-after", "").strip()
        plain = numbers.seconds(said)
        if plain is not None:
            return plain
        try:
            return max(0.0, parsedate_to_datetime(said).timestamp() - wall)
        except (ValueError, TypeError, OverflowError):
            return None


class Transport:
    """Calls to the API of one `site`."""

    def __init__(self, site: Site, *, clock: Clock | None = None, resolver: Any = resolve) -> None:
        self.site, self.clock, self.resolver = site, clock or Clock(), resolver
        self._client: httpx.AsyncClient | None = None
        # It would write URLs with the signatures in them.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    async def aclose(self) -> None:
        """Close what is open."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def paid(
        self,
        url: str,
        body: Body,
        *,
        headers: Mapping[str, str] | None = None,
        first_byte: float = 30.0,
        max_bytes: int = _REPLY_BYTES,
        within: float = _READ_SECONDS,
        handed_over: Callable[[], None] = lambda: None,
    ) -> Reply:
        """One POST, made once, on a connection of its own, its reply whole `within` seconds.
        `handed_over` is called before the last byte goes: from then on it may have arrived.

        Raises Failure: UNREACHED where it certainly did not arrive, IN_DOUBT where it may have.
        """
        self._check(url)
        sending = Sending(body, handed_over)
        limits = httpx.Timeout(
            STALL_SECONDS, connect=CONNECT_SECONDS, write=STALL_SECONDS, read=first_byte
        )
        sent = {
            **self.site.auth,
            **(headers or {}),
            "Content-Type": body.content_type,
            "Content-Length": str(sending.length),
        }
        try:
            # A connection that was kept may be closed by now, and nobody could tell what arrived.
            async with httpx.AsyncClient(
                verify=await self.tls(),
                trust_env=False,
                timeout=limits,
                headers=_headers(),
                limits=httpx.Limits(max_keepalive_connections=0),
            ) as client:
                request = client.build_request("POST", url, headers=sent, content=sending)
                # In all, too: what comes byte by byte would never be late.
                most = first_byte + CONNECT_SECONDS + sending.length / _SLOWEST_BYTES
                began = time.monotonic()
                async with asyncio.timeout(min(most, within)):
                    response = await client.send(request, stream=True)
                try:
                    left = within - (time.monotonic() - began)
                    return await _read(response, max_bytes, min(_READ_SECONDS, left))
                finally:
                    await response.aclose()
        except (httpx.HTTPError, OSError) as fault:  # a TimeoutError is an OSError
            early = isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            if early or not sending.complete:
                raise Failure(Kind.UNREACHED, f"not reached ({_why(fault)}).") from None
            raise Failure(
                Kind.IN_DOUBT, f"the request was sent and no reply came ({_why(fault)})."
            ) from None

    async def free(
        self,
        method: str,
        url: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        tries: int = 3,
        seconds: float = 30.0,
        key: bool = True,
        max_bytes: int = _REPLY_BYTES,
    ) -> Reply:
        """A call that costs nothing and may be repeated: up to `tries` times, with back-off.

        Without `key` it goes to a host of the provider's files. Raises Failure (UNREACHED, BARRED).
        """
        addresses: Sequence[str] = ()
        if key:
            self._check(url)
        else:
            addresses = await self.check_file(url)
        auth = self.site.auth if key else {}
        reply: Reply | None = None
        why = ""
        for attempt in range(tries):
            if attempt:
                asked = reply.retry_after(self.clock.wall()) if reply is not None else None
                pause = self.clock.spread(_BACK_OFF * 2 ** (attempt - 1))
                await self.clock.sleep(min(_LONGEST_WAIT, max(pause, asked or 0.0)))
            try:
                reply = await self._once(
                    method, url, body, {**auth, **(headers or {})}, seconds, max_bytes, addresses
                )
            except (httpx.HTTPError, OSError) as fault:
                reply, why = None, _why(fault)
                continue
            if reply.status not in PASSING and not reply.cut:
                return reply
        if reply is None or reply.cut:
            raise Failure(Kind.UNREACHED, f"not reached ({why or 'the reply broke off'}).")
        return reply

    async def _once(
        self,
        method: str,
        url: str,
        body: Body | None,
        headers: Mapping[str, str],
        seconds: float,
        max_bytes: int,
        addresses: Sequence[str],
    ) -> Reply:
        size = 0 if body is None else body.length
        sent = dict(headers)
        if body is not None:
            sent |= {"Content-Type": body.content_type, "Content-Length": str(size)}
        limits = httpx.Timeout(seconds, connect=CONNECT_SECONDS, write=STALL_SECONDS)

        def content() -> Sending | None:
            return None if body is None else Sending(body)

        async with asyncio.timeout(seconds + CONNECT_SECONDS + size / _SLOWEST_BYTES):
            if addresses:  # of a host that a reply named: connected to as it was checked
                async with await self._new_client() as client:
                    client.timeout = limits
                    there = httpx.URL(url)
                    tries = [
                        pinned(client, there, at, method=method, headers=sent, content=content())
                        for at in addresses
                    ]
                    return await _whole(await first_reply(client, tries), max_bytes)
            if self._client is None:
                self._client = await self._new_client()
            request = self._client.build_request(
                method, url, headers=sent, content=content(), timeout=limits
            )
            return await _whole(await self._client.send(request, stream=True), max_bytes)

    async def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=await self.tls(), trust_env=False, headers=_headers())

    async def tls(self) -> ssl.SSLContext:
        """The certificates that are believed."""
        return await asyncio.to_thread(_tls)

    def _check(self, url: str) -> None:
        parsed = plain_url(url)
        if parsed is None or not self.site.is_api(url):
            raise Failure(Kind.BARRED, "the URL is not the provider's API.")
        barred = self.site.bars_host(host_of(parsed))
        if barred is not None:
            raise Failure(Kind.BARRED, f"not asked: {barred}.")

    async def addresses(self, url: httpx.URL) -> list[str]:
        """Addresses of a URL's host that may be connected to. Raises OSError where there are none,
        PermissionError where one of them is private.
        """
        host = host_of(url)
        found = await self.resolver(host, url.port or _PORTS[url.scheme])
        if not found:
            raise OSError(f"{host[:100]} has no address")
        if not self.site.is_ours(host) and not all(is_public(address) for address in found):
            raise PermissionError(f"{host[:100]} has a private or reserved address")
        return list(found[:_MAX_ADDRESSES])

    async def check_file(self, url: str) -> list[str]:
        """The addresses of a place for files that a reply named. Raises Failure (BARRED)."""
        found: list[str] = []
        parsed = plain_url(url)
        barred = "it is no URL" if parsed is None else self.site.bars_file(parsed)
        if barred is None and parsed is not None:
            try:
                found = await self.addresses(parsed)
            except OSError as fault:
                private = isinstance(fault, PermissionError)
                barred = "its address is private or reserved" if private else "it has no address"
        if barred is not None:
            raise Failure(Kind.BARRED, f"the URL that it gave for files is not used: {barred}.")
        return found


async def _whole(response: httpx.Response, max_bytes: int) -> Reply:
    try:
        return await _read(response, max_bytes)
    finally:
        await response.aclose()


async def _read(response: httpx.Response, max_bytes: int, seconds: float = _READ_SECONDS) -> Reply:
    content = bytearray()
    cut = False
    try:
        async with asyncio.timeout(seconds):
            async for piece in response.aiter_bytes():
                content += piece
                if len(content) > max_bytes:
                    cut = True
                    break
    except (httpx.HTTPError, OSError):
        cut = True
    return Reply(response.status_code, response.headers, bytes(content), cut)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _headers() -> dict[str, str]:
    return {"User-Agent": f"upscale/{__version__}", "Accept": "application/json"}


def _why(fault: Exception) -> str:
    """A failure of the connection in a few words; its own may hold URLs."""
    words: dict[type[Exception], str] = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ConnectError: "no connection",
        httpx.ReadTimeout: "no answer in time",
        httpx.WriteTimeout: "the upload stood still",
        httpx.WriteError: "the upload broke off",
    }
    return words.get(type(fault), "the connection broke off")
