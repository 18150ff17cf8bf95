"""Image URLs into files, without being led astray: addresses checked after resolution, redirects
checked again, bytes and time capped.

The connection goes to the address that was checked, so that a name that resolves differently a
moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from upscale import __version__
from upscale.errors import InvalidRequest, TooLarge
from upscale.server.addresses import covers, is_public, resolve
from upscale.server.spool import private_file, storing
from upscale.settings import Settings, host_names

Resolver = Callable[[str, int], Awaitable[list[str]]]

_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 3
_CONNECT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}
_HEADERS = {
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",
    "User-Agent": f"upscale/{__version__}",
}


class Fetcher:
    """Fetches for one server. `resolver` gives the addresses of a host and port."""

    def __init__(self, settings: Settings, resolver: Resolver = resolve) -> None:
        self._max_bytes = settings.max_body_bytes
        self._seconds = settings.fetch_timeout_seconds
        self._local_only = settings.local_only
        self._local_hosts = host_names(settings.local_hosts)
        self._fetch_hosts = host_names(settings.fetch_hosts)
        self._resolver = resolver
        self._tls: ssl.SSLContext | None = None

    async def fetch(
        self, url: str, target: Path, count: Callable[[int], None] = lambda _: None
    ) -> None:
        """Fetch `url` into the new file `target`; `count` is told of bytes before they are written.

        Raises InvalidRequest, naming `image`, for whatever keeps it from arriving; TooLarge when
        it passes the limit on bytes.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._follow(_parsed(url), target, count)
        except TimeoutError:
            raise _refused(f"it did not arrive within {self._seconds:g} seconds") from None
        except httpx.HTTPError as fault:
            reason = "the connection failed or broke off"
            if isinstance(fault, httpx.ConnectError):
                reason = "its host cannot be reached"
            raise _refused(reason) from fault

    async def _follow(self, url: httpx.URL, target: Path, count: Callable[[int], None]) -> None:
        for _ in range(_MAX_REDIRECTS + 1):
            further = await self._one(url, target, count)
            if further is None:
                return
            url = further
        raise _refused(f"it redirects more than {_MAX_REDIRECTS} times")

    async def _one(
        self, url: httpx.URL, target: Path, count: Callable[[int], None]
    ) -> httpx.URL | None:
        """One request; returns where it redirects to."""
        addresses = await self._addresses(url)
        async with httpx.AsyncClient(
            verify=await self._context(),
            trust_env=False,  # a proxy would connect to addresses that were not checked
            timeout=httpx.Timeout(self._seconds, connect=_CONNECT_SECONDS),
        ) as client:
            response = await _connect(client, url, addresses)
            try:
                if response.has_redirect_location:
                    return _parsed(response.headers["location"], url)
                if response.status_code != 200:
                    raise _refused(f"its server answered {response.status_code}")
                await self._receive(response, target, count)
            finally:
                await response.aclose()
        return None

    async def _receive(
        self, response: httpx.Response, target: Path, count: Callable[[int], None]
    ) -> None:
        length, got = response.headers.get("content-length", ""), 0
        if length.isdecimal():
            self._check_size(int(length))
        with storing("the image"), private_file(target) as file:
            async for piece in response.aiter_raw(1 << 16):
                got += len(piece)
                self._check_size(got)
                count(len(piece))
                file.write(piece)

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(
                "The file behind the image URL", got=size, limit=self._max_bytes, unit="bytes"
            )

    async def _addresses(self, url: httpx.URL) -> list[str]:
        """Addresses that may be connected to, checked."""
        host = url.raw_host.decode("ascii").lower().strip("[]")
        ours = host in self._local_hosts
        if self._local_only and not ours:
            raise _refused(
                "this server makes no outgoing connections (UPSCALE_LOCAL_ONLY); send the file"
            )
        if not ours and self._fetch_hosts and not covers(self._fetch_hosts, host):
            raise _refused("its host is not among those that this server fetches from")
        try:
            found = await self._resolver(host, url.port or _PORTS[url.scheme])
        except OSError as fault:
            raise _refused("its host name cannot be resolved") from fault
        if not found:
            raise _refused("its host name cannot be resolved")
        if not ours and not all(is_public(address) for address in found):
            raise _refused(
                "its host has a private or reserved address; send the file, or name the host in "
                "UPSCALE_LOCAL_HOSTS on the server"
            )
        return found[:_MAX_ADDRESSES]

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        return self._tls


def _parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        parsed = httpx.URL(url.strip()) if base is None else base.join(url)
        host, port = parsed.raw_host, parsed.port
    except (httpx.InvalidURL, UnicodeError) as fault:
        raise _refused("it is not a valid URL") from fault
    if parsed.scheme not in _PORTS:
        raise _refused("only http and https URLs are fetched")
    if not host:
        raise _refused("it names no host")
    if port is not None and not 0 < port < 65536:
        raise _refused("its port is none")
    if parsed.userinfo:
        raise _refused("it holds a user name or password")
    return parsed


async def _connect(
    client: httpx.AsyncClient, url: httpx.URL, addresses: list[str]
) -> httpx.Response:
    """The reply, its body still to come, of the first address that can be connected to."""
    *others, last = addresses
    for address in others:
        try:
            return await client.send(_pinned(client, url, address), stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            continue
    return await client.send(_pinned(client, url, last), stream=True)


def _pinned(client: httpx.AsyncClient, url: httpx.URL, address: str) -> httpx.Request:
    """A request to `address` that is, for the server and its certificate, one to the URL's host."""
    host = url.raw_host.decode("ascii")
    return client.build_request(
        "GET",
        url.copy_with(host=address, fragment=None),
        headers={**_HEADERS, "Host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": host},
    )


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The image URL cannot be used: {reason}.", field="image")
