"""A client of the hosted gateway's API for whoever has many pictures and time: sends files as they
lie on the disk, waits where the server is busy, tries again where a connection breaks, and fetches
results to the disk.

Knows nothing of batches: each call is about one picture. What concerns all of them is a Stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from upscale import __version__
from upscale.cli.batch import Stopped
from upscale.cli.console import printable
from upscale.cli.servers import ServerOptions
from upscale.errors import InvalidRequest, OutputFault, ServerFault

T = TypeVar("T")

# Seconds between attempts to connect; after the last of them the server counts as gone.
CONNECT_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# How often a picture's request may break off before it counts as failed, and what to wait before.
BREAKS = 3
BREAK_PAUSE = 2.0
# What a result needs to give way to a newer one, where the server has no room, is a minute.
FULL_PAUSE = 25.0
# How long a server may call itself busy, in seconds, before the batch is stopped.
PATIENCE = 1800.0
LONGEST_PAUSE = 60.0

_CONNECT_SECONDS = 10.0
# For sending to, and fetching from, a server that has gone silent. Its work may take any time.
_STALL_SECONDS = 120.0
_ANY_TIME = "604800"

_BROKEN = {408, 425, 502, 503, 504}
_ASK_KEY = " Name a key by --key-file FILE or UPSCALE_API_KEY."


class _Busy(Exception):
    """The server takes no work now; `pause` in seconds where it said so."""

    def __init__(self, pause: float | None) -> None:
        super().__init__(pause)
        self.pause = pause


class _Broken(Exception):
    """This attempt came to nothing, another one may not; `pause` before it, in seconds."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.pause = reason, pause


class _Gone(Exception):
    """The link to a result leads nowhere any more."""


@dataclass
class _Result:
    """A result on its way into `scratch`: `tag` tells whether what comes later is of the same."""

    url: httpx.URL
    scratch: Path
    tag: str = ""


class Client:
    """A server. `tell` gets a line about waits, not about each of them."""

    def __init__(self, server: ServerOptions, tell: Callable[[str], None]) -> None:
        self._server, self._tell = server, tell
        self._own = httpx.URL(server.edits)
        self._told = -LONGEST_PAUSE
        self._answered: float | None = None
        # Straight to the server, past any proxy of the environment.
        transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=server.in_flight),
            socket_options=_kept_alive(),
        )
        self._http = httpx.AsyncClient(
            transport=transport,
            headers={"User-Agent": f"upscale/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(_STALL_SECONDS, connect=_CONNECT_SECONDS, pool=None),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def model(self, name: str) -> dict[str, Any]:
        """What the server knows of a model."""

        async def attempt() -> dict[str, Any]:
            url = self._server.model(name)
            return _read(await self._http.get(url, headers=self._key(self._own)))

        return await self._patiently(attempt)

    async def quote(
        self, image: Path | bytes, fields: dict[str, str], suffix: str = ""
    ) -> dict[str, Any]:
        """What an edit would cost, and its plan. Raises as `edit`."""
        return await self._patiently(lambda: self._post(image, fields, suffix, dry_run=True))

    async def edit(
        self, image: Path, fields: dict[str, str], scratch: Path, suffix: str = ""
    ) -> dict[str, Any]:
        """Have a picture upscaled; its result is in `scratch` then. Returns the reply.

        Raises InvalidRequest, ServerFault for what is wrong with this picture, OutputFault where
        the disk is, OSError for the picture's file, Stopped for what concerns all.
        """
        for _ in range(2):
            reply = await self._patiently(self._attempts(image, fields, suffix))
            scratch.unlink(missing_ok=True)
            result = _Result(self._link(reply), scratch)
            with contextlib.suppress(_Gone):
                await self._patiently(functools.partial(self._fetch, result))
                return reply
        raise ServerFault("The link to the result leads nowhere, twice.")

    def _attempts(
        self, image: Path, fields: dict[str, str], suffix: str
    ) -> Callable[[], Awaitable[dict[str, Any]]]:
        """One edit, however often it is asked for: a server that knows the key of a repeat answers
        as it did, or would have, the first time. Nothing is done, or paid for, twice.
        """
        key, tries = secrets.token_hex(16), 0

        async def attempt() -> dict[str, Any]:
            nonlocal key, tries
            tries += 1
            try:
                return await self._post(image, fields, suffix, repeat=key)
            except (InvalidRequest, ServerFault):
                if tries == 1:
                    raise
            # The first one may have failed only because its connection broke.
            key, tries = secrets.token_hex(16), 0
            return await attempt()

        return attempt

    async def _post(
        self,
        image: Path | bytes,
        fields: dict[str, str],
        suffix: str,
        *,
        dry_run: bool = False,
        repeat: str = "",
    ) -> dict[str, Any]:
        headers = self._key(self._own)
        # We wait for as long as it takes, and the server may know.
        headers["x-stainless-read-timeout"] = _ANY_TIME
        if repeat:
            headers["Idempotency-Key"] = repeat
        with contextlib.ExitStack() as stack:
            source = image if isinstance(image, bytes) else stack.enter_context(image.open("rb"))
            # The picture's own name is nobody else's business.
            plain = suffix.isascii() and suffix[1:].isalnum()
            response = await self._http.post(
                self._own,
                params={"dryRun": "true"} if dry_run else None,
                data=fields,
                files={"image": (f"picture{suffix if plain else ''}", source)},
                headers=headers,
                timeout=httpx.Timeout(_STALL_SECONDS, connect=_CONNECT_SECONDS, read=None),
            )
        return _read(response)

    def _link(self, reply: dict[str, Any]) -> httpx.URL:
        try:
            link = self._own.join(str(reply["data"][0]["url"]))
        except (LookupError, TypeError, httpx.InvalidURL):
            raise ServerFault("The server's answer has no link to a result.") from None
        if link.scheme not in ("http", "https"):
            raise ServerFault("The server's answer has a link that cannot be fetched.")
        return link

    async def _fetch(self, result: _Result) -> None:
        """A result, or what an earlier connection left of it, into its scratch file."""
        have = _size(result.scratch) if result.tag else 0
        headers = self._key(result.url)
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": result.tag}
        async with self._http.stream("GET", result.url, headers=headers) as response:
            if response.status_code in (404, 410):
                raise _Gone
            if response.status_code == 416:
                result.tag = ""
                raise _Broken("its result is another than before", 0.0)
            if response.status_code not in (200, 206):
                await response.aread()
                _read(response)
            told = response.headers.get("content-range", "")
            goes_on = response.status_code == 206 and told.startswith(f"bytes {have}-")
            if response.status_code == 206 and not goes_on:
                raise _Broken("a part of its result came that was not asked for")
            tag = response.headers.get("etag", "")
            result.tag = tag if tag.startswith('"') else ""
            length = response.headers.get("content-length", "")
            await _save(response, result.scratch, append=goes_on)
        whole = int(length) + have * goes_on if length.isdecimal() else None
        if whole not in (None, _size(result.scratch)):
            raise _Broken(f"its result ended after {_size(result.scratch):,} of {whole:,} bytes")

    def _key(self, url: httpx.URL) -> dict[str, str]:
        """The key, for the server itself and no other that a link may lead to."""
        same = (url.scheme, url.host, url.port) == (
            self._own.scheme,
            self._own.host,
            self._own.port,
        )
        return {"Authorization": f"Bearer {self._server.key}"} if self._server.key and same else {}

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What an attempt at last returns, after as many as it is worth."""
        refused = breaks = busy = 0
        begun = time.monotonic()
        while True:
            try:
                answer = await attempt()
                self._answered = time.monotonic()
                return answer
            except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
                # A server that never answered is more likely a wrong address than one restarting.
                pauses = CONNECT_PAUSES if self._answered is not None else CONNECT_PAUSES[:2]
                if refused >= len(pauses):
                    secure = f" ({fault})" if self._own.scheme == "https" and str(fault) else ""
                    raise Stopped(
                        f"{self._server.url} cannot be reached{secure}. Is it running?"
                    ) from fault
                pause, what = pauses[refused], "cannot be reached"
                refused += 1
            except _Busy as fault:
                busy += 1
                if time.monotonic() - max(begun, self._answered or 0.0) > PATIENCE:
                    raise Stopped(
                        f"{self._server.url} has taken no picture for {PATIENCE / 60:.0f} minutes, "
                        "it is busy."
                    ) from fault
                pause = min(2.0 ** min(busy, 6), LONGEST_PAUSE)
                pause, what = fault.pause or pause, "is busy"
                refused = 0
            except (_Broken, httpx.TransportError) as fault:
                breaks += 1
                refused = 0
                reason = fault.reason if isinstance(fault, _Broken) else _told(fault)
                if breaks > BREAKS:
                    raise ServerFault(f"Given up after {breaks} attempts: {reason}.") from fault
                told = fault.pause if isinstance(fault, _Broken) else None
                pause, what = BREAK_PAUSE if told is None else told, "broke off"
            self._mention(f"{self._server.url} {what}; trying again in {pause:.0f} s.", pause)
            await asyncio.sleep(pause)

    def _mention(self, line: str, pause: float) -> None:
        now = time.monotonic()
        if pause >= 1 and now - self._told >= LONGEST_PAUSE:
            self._told = now
            self._tell(line)


def _read(response: httpx.Response) -> dict[str, Any]:
    """What a reply says, if it is a good one; else the error that it stands for."""
    try:
        body = response.json()
    except ValueError:
        body = None
    status = response.status_code
    if status == 200:
        if isinstance(body, dict):
            return body
        raise ServerFault("The server's answer is not one of this API. Is the address right?")
    error = body.get("error") if isinstance(body, dict) else None
    told = str(error.get("message") or "") if isinstance(error, dict) else ""
    message = printable(told[:2000]) or f"The server answers {status} {response.reason_phrase}."
    pause = _pause(response)
    # One that shuts down says when to come back; one that cannot use its records does not.
    if status == 429 or (status == 503 and pause is not None):
        raise _Busy(pause)
    if status == 507:
        raise _Broken(message.rstrip("."), FULL_PAUSE)
    if status in _BROKEN or (status == 500 and response.headers.get("x-should-retry") != "false"):
        raise _Broken(message.rstrip("."))
    if status in (401, 402, 403):
        raise Stopped(message + (_ASK_KEY if status == 401 else ""))
    if 300 <= status < 400:
        raise Stopped(f"The server answers {status}: give the address that it means, --server.")
    if status < 500:
        raise InvalidRequest(message)
    raise ServerFault(message)


def _pause(response: httpx.Response) -> float | None:
    """Seconds of Retry-After, if it tells them and means no more than a minute."""
    told = response.headers.get("retry-after", "").strip()
    return min(float(told), LONGEST_PAUSE) if told.isdecimal() else None


async def _save(response: httpx.Response, scratch: Path, *, append: bool) -> None:
    try:
        with scratch.open("ab" if append else "wb") as file:
            # As it comes: pieces of one size would lose what came before a break.
            async for piece in response.aiter_raw():
                file.write(piece)
    except OSError as error:
        why = error.strerror or error
        raise OutputFault(f"{scratch.parent} cannot be written: {why}.") from error


def _told(fault: httpx.TransportError) -> str:
    return (str(fault) or type(fault).__name__).rstrip(".")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _kept_alive() -> list[tuple[int, int, int]]:
    """A machine that is gone without a word is noticed within two minutes, whatever it works on."""
    wanted = [("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 6)]
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    return options + [
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in wanted
        if hasattr(socket, name)
    ]
