"""Results into files: only from the hosts of the provider, checked again at every redirect and
after resolution, without the key, with a cap on bytes; broken downloads are tried again.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from upscale.errors import OutputFault
from upscale.providers.outcome import Failure, Kind
from upscale.providers.pinning import first_reply, pinned
from upscale.providers.site import host_of, plain_url
from upscale.providers.transport import CONNECT_SECONDS, PASSING, STALL_SECONDS, Transport

_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}
_MAX_REDIRECTS = 3
_TRIES = 3
_SECONDS = 900.0
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"II*\0", b"MM\0*")
_BRANDS = (b"ftypavif", b"ftypavis", b"ftypmif1")


@dataclass(frozen=True)
class Downloaded:
    """A file that arrived: where from (no path, no query), its bytes, what its server called it."""

    host: str
    size: int
    mime: str


class _Passing(Exception):
    """Worth another try; the text says what happened."""


async def download(
    transport: Transport,
    url: object,
    target: Path,
    *,
    max_bytes: int,
    with_key: bool = False,
) -> Downloaded:
    """Fetch `url` into the new file `target`, readable by this user alone.

    `with_key`: where an API host asks for the key, it gets it. Raises Failure (BAD_RESULT) and
    OutputFault; the file is gone then.
    """
    why = ""
    for attempt in range(_TRIES):
        if attempt:
            await transport.clock.sleep(transport.clock.spread(0.5 * 2 ** (attempt - 1)))
        try:
            async with asyncio.timeout(_SECONDS):
                return await _follow(transport, url, target, max_bytes, with_key)
        except TimeoutError:
            why = f"its download took longer than {_SECONDS:g} seconds"
        except _Passing as fault:
            why = str(fault)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        target.unlink(missing_ok=True)
    raise _bad(why)


async def _follow(
    transport: Transport, text: object, target: Path, max_bytes: int, with_key: bool
) -> Downloaded:
    url = plain_url(text)
    headers: dict[str, str] = {}
    for _ in range(_MAX_REDIRECTS + 2):
        if url is None:
            raise _bad("its link is no URL")
        barred = transport.site.bars_file(url)
        if barred is not None and not (with_key and transport.site.api_url(str(url))):
            raise _bad(f"its link is not followed: {barred}")
        further = await _one(transport, url, headers, target, max_bytes)
        if isinstance(further, Downloaded):
            return further
        if further is None:  # the key is asked for
            if headers or not with_key or transport.site.api_url(str(url)) is None:
                raise _bad("its link is refused")
            url, headers = plain_url(transport.site.api_url(str(url))), dict(transport.site.auth)
        else:
            url, headers = further, {}
    raise _bad(f"its link redirects more than {_MAX_REDIRECTS} times")


async def _one(
    transport: Transport,
    url: httpx.URL,
    headers: Mapping[str, str],
    target: Path,
    max_bytes: int,
) -> Downloaded | httpx.URL | None:
    """One request: the file, where it redirects to, or None where it is refused."""
    addresses = await _addresses(transport, url)
    async with httpx.AsyncClient(
        verify=await transport.tls(),
        trust_env=False,  # a proxy would connect to addresses that were not checked
        timeout=httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS),
    ) as client:
        try:
            sent = {**_HEADERS, **headers}
            requests = [pinned(client, url, address, headers=sent) for address in addresses]
            response = await first_reply(client, requests)
            try:
                if response.has_redirect_location:
                    return _joined(url, response.headers["location"])
                if response.status_code in (401, 403):
                    return None
                if response.status_code in PASSING:
                    raise _Passing(f"its link answered {response.status_code}")
                if response.status_code != 200:
                    raise _bad(f"its link answered {response.status_code}")
                size = await _receive(response, target, max_bytes)
            finally:
                await response.aclose()
        except httpx.HTTPError as fault:
            raise _Passing("its download broke off") from fault
    mime = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return Downloaded(host_of(url), size, mime)


async def _receive(response: httpx.Response, target: Path, max_bytes: int) -> int:
    length, got = response.headers.get("content-length", ""), 0
    if length.isdecimal() and int(length) > max_bytes:
        raise _bad(f"it is {int(length):,} bytes; at most {max_bytes:,} were expected")
    with _storing(), _new_file(target) as file:
        async for piece in response.aiter_raw(1 << 18):
            got += len(piece)
            if got > max_bytes:
                raise _bad(f"it is larger than the {max_bytes:,} bytes that were expected")
            await asyncio.to_thread(file.write, piece)
    if length.isdecimal() and got != int(length):
        raise _Passing("its download broke off")
    check_signature(target)
    return got


def check_signature(path: Path) -> None:
    """Raise Failure (BAD_RESULT) for a file that does not begin as a picture does."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head.startswith(_SIGNATURES) and head[4:12] not in _BRANDS:
        raise _bad("it is no picture" if head else "it is empty")


def _new_file(path: Path) -> BinaryIO:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    return os.fdopen(handle, "wb")


def write_base64(text: str, target: Path, max_bytes: int) -> int:
    """Decode `text` into the new file `target`; its bytes. Raises Failure (BAD_RESULT) for what is
    no picture or larger than `max_bytes`, OutputFault.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if len(content) > max_bytes:
        raise _bad("it is too large")
    with _storing(), _new_file(target) as file:
        file.write(content)
    check_signature(target)
    return len(content)


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or "the disk fails"
        raise OutputFault(f"The result cannot be stored: {reason}.") from fault


async def _addresses(transport: Transport, url: httpx.URL) -> list[str]:
    """Addresses that may be connected to, checked."""
    try:
        return await transport.addresses(url)
    except PermissionError:
        raise _bad("the host of its link has a private or reserved address") from None
    except OSError as fault:
        raise _Passing("the host of its link cannot be resolved") from fault


def _joined(url: httpx.URL, location: str) -> httpx.URL:
    try:
        joined = plain_url(str(url.join(location)))
    except (httpx.InvalidURL, ValueError):
        joined = None
    if joined is None:
        raise _bad("its link redirects to no URL")
    return joined


def _bad(reason: str) -> Failure:
    return Failure(Kind.BAD_RESULT, f"the result cannot be used: {reason}.")
