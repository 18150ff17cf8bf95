"""Requests for models that nobody here knows, forwarded as they came: to an OpenAI-compatible
server of the house, or to the hosted gateway. Bodies go through in both directions as they arrive;
nothing is repeated, nothing is kept.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

import httpx

from upscale.providers.addresses import resolve
from upscale.providers.body import Relayed
from upscale.providers.clock import Clock
from upscale.providers.outcome import Failure, Kind
from upscale.providers.site import Site
from upscale.providers.sites import key_of, site_of, unusable
from upscale.providers.transport import CONNECT_SECONDS, STALL_SECONDS, Transport
from upscale.settings import Settings, host_names

PREFIX = "/openai/v1"
_HOST = "passthrough"
_GATEWAY_HOST = "api.lumenfall.ai"
_SECONDS = 300.0
_TAIL = 1 << 16
_COST = re.compile(rb'"cost"\s*:\s*"?([0-9][0-9.eE+-]*)')

# What goes along; keys, cookies and addresses of callers do not.
_SENT = frozenset({"content-type", "content-length", "accept", "accept-language"})
_KEPT = frozenset({"content-type", "content-length", "retry-after", "cache-control"})
_KEPT_PREFIX = "x-lumenfall-"


@dataclass
class Forwarded:
    """A reply on its way. `cost_micros` is known when `pieces` are at their end, where the reply
    tells it; `cut` where they broke off.
    """

    status: int
    headers: dict[str, str]
    response: httpx.Response = field(repr=False)
    cost_micros: int | None = None
    cut: bool = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises Failure where it breaks off."""
        tail = b""
        try:
            async for piece in self.response.aiter_raw():
                tail = (tail + piece)[-_TAIL:]
                yield piece
        except (httpx.HTTPError, OSError):
            self.cut = True
            raise Failure(
                Kind.IN_DOUBT, "its reply broke off.", http=self.status, billed="maybe"
            ) from None
        finally:
            self.cost_micros = _cost(tail)


class Passthrough:
    """Forwards to one place. `provider` and `name` say which, `is_ours` whether it belongs to the
    house.
    """

    def __init__(self, site: Site, host: str, prefix: str, name: str, transport: Transport) -> None:
        self.provider, self.name = site.provider, name
        self.is_ours = site.provider == _HOST  # a server of the house: nothing leaves it
        self._site, self._host, self._prefix = site, host, prefix
        self._transport = transport

    @property
    def host(self) -> str:
        """Where requests go."""
        return urlsplit(self._site.url(self._host, "")).hostname or ""

    @contextlib.asynccontextmanager
    async def forward(
        self,
        method: str,
        path: str,
        *,
        query: str,
        headers: Mapping[str, str],
        body: AsyncIterable[bytes],
    ) -> AsyncIterator[Forwarded]:
        """The reply to a request of ours at `path` (below /openai/v1), its body still to come.

        Raises Failure: UNREACHED, IN_DOUBT, and KEY and BALANCE where the refusal is ours to mend.
        """
        url = self._site.url(self._host, self._prefix + _plain(path)) + (
            f"?{query}" if query else ""
        )
        barred = self._site.bars_host(urlsplit(url).hostname or "")
        if barred is not None or not self._site.is_api(url):
            raise Failure(Kind.BARRED, f"not asked: {barred or 'the path is none of its own'}.")
        sending = Relayed(body)
        sent = {name: value for name, value in headers.items() if name.lower() in _SENT}
        limits = httpx.Timeout(_SECONDS, connect=CONNECT_SECONDS, write=STALL_SECONDS)
        async with httpx.AsyncClient(
            verify=await self._transport.tls(), trust_env=False, timeout=limits
        ) as client:
            request = client.build_request(
                method,
                url,
                headers={**sent, **self._site.auth, "Accept-Encoding": "identity"},
                content=sending,
            )
            response = await self._send(client, request, sending)
            try:
                await self._refuse(response)
                yield Forwarded(response.status_code, _kept(response.headers), response)
            finally:
                await response.aclose()

    async def _send(
        self, client: httpx.AsyncClient, request: httpx.Request, sending: Relayed
    ) -> httpx.Response:
        try:
            return await client.send(request, stream=True)
        except (httpx.HTTPError, OSError) as fault:
            early = isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            if early or not sending.complete:
                raise Failure(Kind.UNREACHED, "it cannot be reached.") from None
            raise Failure(Kind.IN_DOUBT, "the request was sent and no reply came.") from None

    async def _refuse(self, response: httpx.Response) -> None:
        kinds = {401: Kind.KEY, 402: Kind.BALANCE, 403: Kind.KEY}
        if response.status_code in kinds and self._site.secret:
            with contextlib.suppress(httpx.HTTPError):
                await response.aread()
            raise Failure(
                kinds[response.status_code],
                f"the server's own account there was refused (HTTP {response.status_code}).",
                http=response.status_code,
            )


def passthrough_of(
    settings: Settings, *, clock: Clock | None = None, resolver: Any = resolve
) -> Passthrough | None:
    """Where unknown models are forwarded to; None where nothing is configured."""
    base = settings.passthrough_base_url.strip().rstrip("/")
    if base:
        host = (urlsplit(base).hostname or "").lower()
        if settings.local_only and host not in host_names(settings.local_hosts):
            return None
        key = settings.passthrough_key.get_secret_value().strip()
        site = Site(
            provider=_HOST,
            api={_HOST: base},
            trusted=host,
            auth={"Authorization": f"Bearer {key}"} if key else {},
            secret=key,
            local_only=settings.local_only,
            local_hosts=host_names(settings.local_hosts),
        )
        transport = Transport(site, clock=clock, resolver=resolver)
        return Passthrough(site, _HOST, "", host, transport)
    if unusable("lumenfall", settings) is not None or not key_of("lumenfall", settings):
        return None
    site = site_of("lumenfall", settings)
    transport = Transport(site, clock=clock, resolver=resolver)
    return Passthrough(site, _GATEWAY_HOST, PREFIX, "Lumenfall", transport)


def _plain(path: str) -> str:
    """A path below the prefix, without ways out of it."""
    kept = path.removeprefix(PREFIX)
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", kept) or ".." in kept:
        raise Failure(Kind.BARRED, "not asked: the path is none of its own.")
    return kept


def _kept(headers: httpx.Headers) -> dict[str, str]:
    return {
        name: value
        for name, value in headers.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIX)
    }


def _cost(tail: bytes) -> int | None:
    """The last cost that a reply tells, in millionths of a dollar."""
    found = _COST.findall(tail)
    try:
        dollars = Decimal(found[-1].decode()) if found else None
    except InvalidOperation:
        return None
    return None if dollars is None else round(dollars * 1_000_000)
