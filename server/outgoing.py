"""HTTP to hosts that others name, without being led astray: addresses are checked after resolution,
and the connection goes to the address that was checked, so that a name that resolves differently a
moment later gains nothing. Knows nothing of what is fetched or told; follows no redirect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import httpx

from upscale import __version__
from upscale.providers.addresses import is_public, resolve
from upscale.providers.pinning import first_reply, pinned
from upscale.settings import Settings, host_names

# Addresses of a host and port.
Resolver = Callable[[str, int], Awaitable[list[str]]]

_MAX_ADDRESSES = 3
_CONNECT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": f"upscale/{__version__}",
}


class Unusable(Exception):
    """A URL that cannot be used, or not now; the text completes "it cannot be used: ". `barred`:
    what bars it is a rule of this server.
    """

    def __init__(self, reason: str, *, barred: bool = False) -> None:
        super().__init__(reason)
        self.barred = barred


class Outgoing:
    """What one server may connect to: public addresses, and the hosts of the house."""

    def __init__(self, settings: Settings, resolver: Resolver = resolve) -> None:
        self._local_only = settings.local_only
        self._local_hosts = host_names(settings.local_hosts)
        self._resolver = resolver
        self._tls: ssl.SSLContext | None = None

    def is_of_the_house(self, url: httpx.URL) -> bool:
        """Whether UPSCALE_LOCAL_HOSTS names its host."""
        return host_of(url) in self._local_hosts

    def check(self, url: httpx.URL) -> None:
        """What can be told without looking its host up. Raises Unusable."""
        if self._local_only and not self.is_of_the_house(url):
            raise Unusable(
                "this server makes no outgoing connections (UPSCALE_LOCAL_ONLY)", barred=True
            )

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: httpx.URL,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The reply to a request, its body still to come; `seconds` is for each step of it.

        Raises Unusable and httpx.HTTPError.
        """
        addresses = await self._addresses(url)
        async with httpx.AsyncClient(
            verify=await self._context(),
            trust_env=False,  # a proxy would connect to addresses that were not checked
            timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
        ) as client:
            sent = {**_HEADERS, **(headers or {})}
            requests = [
                pinned(client, url, address, method=method, headers=sent, content=content)
                for address in addresses
            ]
            response = await first_reply(client, requests)
            try:
                yield response
            finally:
                await response.aclose()

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Addresses that may be connected to, checked."""
        self.check(url)
        try:
            found = await self._resolver(host_of(url), url.port or _PORTS[url.scheme])
        except OSError as fault:
            raise Unusable("its host name cannot be resolved") from fault
        if not found:
            raise Unusable("its host name cannot be resolved")
        if not self.is_of_the_house(url) and not all(is_public(address) for address in found):
            raise Unusable(
                "its host has a private or reserved address that UPSCALE_LOCAL_HOSTS does not "
                "name on the server",
                barred=True,
            )
        return found[:_MAX_ADDRESSES]

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        return self._tls


def parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    """`url`, perhaps relative to `base`. Raises Unusable for what is no plain http or https URL."""
    try:
        found = httpx.URL(url.strip()) if base is None else base.join(url)
        host, port = found.raw_host, found.port
    except (httpx.InvalidURL, UnicodeError) as fault:
        raise Unusable("it is not a valid URL") from fault
    if found.scheme not in _PORTS:
        raise Unusable("only http and https are spoken")
    if not host:
        raise Unusable("it names no host")
    if port is not None and not 0 < port < 65536:
        raise Unusable("its port is none")
    if found.userinfo:
        raise Unusable("it holds a user name or password")
    return found


def host_of(url: httpx.URL) -> str:
    """Its host, in lower case and without brackets."""
    return url.raw_host.decode("ascii").lower().strip("[]")
