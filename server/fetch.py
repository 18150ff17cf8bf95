"""Image URLs into files: bytes and time capped, each redirect checked like the first URL
(`outgoing` has the rules on addresses).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx

from upscale.errors import InvalidRequest, TooLarge
from upscale.providers.addresses import covers, resolve
from upscale.server.outgoing import Outgoing, Resolver, Unusable, host_of, parsed
from upscale.server.spool import private_file, storing
from upscale.settings import Settings, host_names

_MAX_REDIRECTS = 3
_ACCEPT = {"Accept": "image/*,*/*;q=0.5"}


class Fetcher:
    """Fetches for one server. `resolver` gives the addresses of a host and port."""

    def __init__(self, settings: Settings, resolver: Resolver = resolve) -> None:
        self._max_bytes = settings.max_body_bytes
        self._seconds = settings.fetch_timeout_seconds
        self._fetch_hosts = host_names(settings.fetch_hosts)
        self._outgoing = Outgoing(settings, resolver)

    async def fetch(
        self, url: str, target: Path, count: Callable[[int], None] = lambda _: None
    ) -> None:
        """Fetch `url` into the new file `target`; `count` is told of bytes before they are written.

        Raises InvalidRequest, naming `image`, for whatever keeps it from arriving; TooLarge when
        it passes the limit on bytes.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._follow(parsed(url), target, count)
        except TimeoutError:
            raise _refused(f"it did not arrive within {self._seconds:g} seconds") from None
        except Unusable as fault:
            advice = "; send the file instead" if fault.barred else ""
            raise _refused(f"{fault}{advice}") from fault
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
        raise Unusable(f"it redirects more than {_MAX_REDIRECTS} times")

    async def _one(
        self, url: httpx.URL, target: Path, count: Callable[[int], None]
    ) -> httpx.URL | None:
        """One request; returns where it redirects to."""
        self._check_host(url)
        async with self._outgoing.exchange(
            "GET", url, seconds=self._seconds, headers=_ACCEPT
        ) as response:
            if response.has_redirect_location:
                return parsed(response.headers["location"], url)
            if response.status_code != 200:
                raise Unusable(f"its server answered {response.status_code}")
            await self._receive(response, target, count)
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

    def _check_host(self, url: httpx.URL) -> None:
        """Raises Unusable for a host that is not among those fetched from."""
        self._outgoing.check(url)
        if not self._fetch_hosts or self._outgoing.is_of_the_house(url):
            return
        if not covers(self._fetch_hosts, host_of(url)):
            raise Unusable("its host is not among those that this server fetches from", barred=True)


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(f"The image URL cannot be used: {reason}.", field="image")
