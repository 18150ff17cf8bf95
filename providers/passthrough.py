"""Requests for models that nobody here knows, forwarded as they came: to an OpenAI-compatible
server of the house, or to the hosted gateway. Bodies go through in both directions as they arrive;
nothing is repeated, nothing is kept. Of the query nothing goes along but that it is a dry run: the
rest is no part of the interface, and may hold a caller's secrets.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from upscale.providers import answers
from upscale.providers.addresses import resolve
from upscale.providers.body import Relayed
from upscale.providers.clock import Clock
from upscale.providers.outcome import Failure, Kind
from upscale.providers.pinning import first_reply, pinned
from upscale.providers.site import Site
from upscale.providers.sites import key_of, site_of, unusable
from upscale.providers.transport import CONNECT_SECONDS, STALL_SECONDS, Transport
from upscale.settings import Settings, host_names

PREFIX = "/openai/v1"
_HOST = "passthrough"
_GATEWAY_HOST = "api.lumenfall.ai"
_SECONDS = 300.0
# With what follows the number, so that none is taken for whole that is still arriving.
_COST = re.compile(rb'"cost"\s{0,9}:\s{0,9}"?([0-9][0-9.eE+-]{0,40})["\s,}\]]')
_LONGEST_COST = 80
# What JSON's numbers hold exactly everywhere, and any database.
MOST_MICROS = (1 << 53) - 1
_SHORTEST_SECRET = 6

# What goes along; keys, cookies and addresses of callers do not.
_SENT = frozenset(
    {"content-type", "content-length", "content-encoding", "accept", "accept-language"}
)
# Encodings that httpx undoes by itself everywhere.
_UNDONE = ("identity", "gzip", "deflate")
_KEPT = frozenset(
    {
        "content-type",
        "content-length",
        "content-encoding",
        "retry-after",
        "cache-control",
        "x-should-retry",
    }
)
_KEPT_PREFIX = "x-lumenfall-"


@dataclass
class Forwarded:
    """A reply on its way. `cost_micros` is known as soon as the piece has come that tells it; `cut`
    where the reply broke off; `refused` where it says that nothing was done.
    """

    status: int
    headers: dict[str, str]
    response: httpx.Response = field(repr=False)
    cost_micros: int | None = None
    cut: bool = False
    refused: bool = False

    def __post_init__(self) -> None:
        encoding = self.response.headers.get("content-encoding", "identity")
        self.plain = encoding.strip().lower() in _UNDONE
        if self.plain and self.headers.pop("content-encoding", None) is not None:
            self.headers.pop("content-length", None)  # it is another one now

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives, without an encoding that can be undone here (nobody has asked for
        one). Raises Failure where it breaks off.
        """
        seen = b""
        try:
            async for piece in (
                self.response.aiter_bytes() if self.plain else self.response.aiter_raw()
            ):
                seen = seen[-_LONGEST_COST:] + piece
                costs = [_micros(found[1].decode()) for found in _COST.finditer(seen)]
                # Of several the largest: a part of it may be told besides.
                self.cost_micros = max(
                    (cost for cost in (self.cost_micros, *costs) if cost is not None), default=None
                )
                yield piece
        except (httpx.HTTPError, OSError):
            self.cut = True
            raise Failure(
                Kind.IN_DOUBT, "its reply broke off.", http=self.status, billed="maybe"
            ) from None


class Passthrough:
    """Forwards to one place. `provider` and `name` say which; `knows_dry_runs` until it has taken
    one for a run.
    """

    def __init__(self, site: Site, host: str, prefix: str, name: str, transport: Transport) -> None:
        self.provider, self.name = site.provider, name
        self.knows_dry_runs = True
        self._site, self._host, self._prefix = site, host, prefix
        self._transport = transport
        self._secrets = _spellings(site.secret)

    async def in_house(self) -> tuple[str, ...] | None:
        """The addresses that requests may go to for staying in the house, all private; none where
        the settings name the host as one of the house, any then. None: it is elsewhere.
        """
        if self.provider != _HOST:
            return None
        if self.host in self._site.local_hosts:
            return ()
        port = urlsplit(self._site.url(self._host, "")).port
        try:
            found = await self._transport.resolver(self.host, port or 443)
        except OSError:
            return None
        private = bool(found) and all(_is_private(address) for address in found)
        return tuple(found) if private else None

    def scrubbed(self, content: bytes, most: int) -> bytes:
        """At most `most` bytes of a body, without the key."""
        for secret in self._secrets:
            content = content.replace(secret, b"***")
        if len(content) <= most:
            return content
        # Where it is cut a part of the key might stand.
        return content[: most - max(map(len, self._secrets), default=0)]

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
        dry_run: bool = False,
        headers: Mapping[str, str],
        body: AsyncIterable[bytes],
        addresses: Sequence[str] = (),
    ) -> AsyncIterator[Forwarded]:
        """The reply to a request of ours at `path` (below /openai/v1), its body still to come.
        `addresses`: nowhere else; else wherever the host's name leads.

        Raises Failure: UNREACHED, IN_DOUBT, and KEY and BALANCE where the refusal is ours to mend.
        """
        url = self._site.url(self._host, self._prefix + _plain(path)) + (
            "?dryRun=true" if dry_run else ""
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
            sent |= {**self._site.auth, "Accept-Encoding": "identity"}
            at = httpx.URL(url)
            requests = [
                pinned(client, at, address, method=method, headers=sent, content=sending)
                for address in addresses
            ] or [client.build_request(method, at, headers=sent, content=sending)]
            response = await self._send(client, requests, sending)
            try:
                await self._refuse(response)
                status = response.status_code
                kept = self._kept(response.headers)
                yield Forwarded(status, kept, response, refused=status in answers.REFUSED)
            finally:
                await response.aclose()

    async def _send(
        self, client: httpx.AsyncClient, requests: Sequence[httpx.Request], sending: Relayed
    ) -> httpx.Response:
        try:
            return await first_reply(client, requests)
        except (httpx.HTTPError, OSError) as fault:
            early = isinstance(fault, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            if early or not sending.complete:
                raise Failure(Kind.UNREACHED, "it cannot be reached.") from None
            raise Failure(Kind.IN_DOUBT, "the request was sent and no reply came.") from None

    async def _refuse(self, response: httpx.Response) -> None:
        kinds = {401: Kind.KEY, 402: Kind.BALANCE, 403: Kind.KEY}
        if 300 <= response.status_code < 400:
            # It may follow a deed (303).
            raise Failure(
                Kind.IN_DOUBT,
                "it answered with a redirect, which is not followed.",
                http=response.status_code,
            )
        if response.status_code in kinds and self._site.secret:
            with contextlib.suppress(httpx.HTTPError):
                await response.aread()
            raise Failure(
                kinds[response.status_code],
                f"the server's own account there was refused (HTTP {response.status_code}).",
                http=response.status_code,
            )

    def _kept(self, headers: httpx.Headers) -> dict[str, str]:
        """The headers that are handed on: those that can be, and tell nothing of the key."""
        return {
            name: value
            for name, value in headers.items()
            if (name in _KEPT or name.startswith(_KEPT_PREFIX))
            and _is_sendable(value)
            and not any(secret in value.encode("latin-1") for secret in self._secrets)
        }


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


def _is_private(address: str) -> bool:
    """Whether an address is of this machine or of a network of one's own."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    ip = getattr(ip, "ipv4_mapped", None) or ip
    # Link-local addresses are those of clouds' own services, too.
    odd = ip.is_link_local or ip.is_unspecified
    return (ip.is_private or ip.is_loopback) and not odd


def _is_sendable(value: str) -> bool:
    """Whether a header may have this value on its way to a caller."""
    return value.isprintable() and value.encode("latin-1", "ignore").decode("latin-1") == value


def _spellings(secret: str) -> tuple[bytes, ...]:
    """A secret as it may stand in a body."""
    if len(secret) < _SHORTEST_SECRET:
        return ()
    escaped = json.dumps(secret)[1:-1]
    found = (secret, escaped, escaped.replace("/", "\\/"), quote(secret, safe=""))
    return tuple(dict.fromkeys(each.encode() for each in found))


def _micros(text: str) -> int | None:
    """Dollars as millionths of one; None for what is no number, or one that nothing can cost."""
    try:
        micros = Decimal(text) * 1_000_000
        return round(micros) if 0 <= micros <= MOST_MICROS else None
    except ArithmeticError:
        return None
