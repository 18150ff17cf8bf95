"""One file from an address to the disk, however often the connection breaks.

What has arrived stays in a partial file beside which stands what its server said of it, so that a
later attempt, of this process or another, goes on where the last one stopped. Knows nothing of
weights: whether the content is right is for the caller to say.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from upscale import __version__, logs
from upscale.errors import OutputFault, PullFault

log = logs.get("weights")

Allow = Callable[[httpx.URL], None]
Progress = Callable[[int, int | None], None]

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"upscale/{__version__}"}
_REDIRECTS = 5
_CONNECT_SECONDS = 15.0
_LONGEST_PAUSE = 30.0

# Failures in a row, with less than `_PROGRESS` bytes between them, after which it is given up.
_ATTEMPTS = 5
_PROGRESS = 1 << 20

# A connection that brings less than this many bytes a second, for as long as a stall may last, has
# stalled: some servers keep one open with a byte now and then.
_SLOWEST = 256

# Free disk space that is left alone, in bytes.
_SPARE = 64 << 20

_RETRIED = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Wanted:
    """A file at `url` of `expected` bytes (None: unknown), and of at most `most` in any case.

    `hashed`: whether the caller knows the hash that it must have. Only then are pieces joined of
    which no server says that they are of one file.
    """

    url: str
    expected: int | None
    most: int
    hashed: bool


@dataclass(frozen=True)
class _Origin:
    """What the server said of the file that a partial one is the beginning of."""

    url: str = ""
    validator: str = ""
    total: int | None = None


class _Broken(Exception):
    """An attempt failed in a way that another one may not; `pause` in seconds, if it was told."""

    def __init__(self, reason: str, pause: float | None = None, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.pause, self.final = reason, pause, final


class Transfer:
    """Fetches files. `allow` raises for addresses that may not be connected to, redirects
    included; `stall_seconds` is how long nothing may arrive; `pause` waits between attempts.
    """

    def __init__(
        self, *, allow: Allow, stall_seconds: float, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._allow, self._stall, self._pause = allow, stall_seconds, pause

    def fetch(self, wanted: Wanted, part: Path, progress: Progress) -> bool:
        """Bring the file into `part`; returns whether bytes of an earlier connection are in it.

        Raises PullFault where it does not arrive, OutputFault where it cannot be written. What has
        arrived stays in `part` unless it is of no use.
        """
        timeout = httpx.Timeout(self._stall, connect=min(_CONNECT_SECONDS, self._stall))
        failures, joined, most = 0, False, _size(part)
        with httpx.Client(timeout=timeout) as client:
            while True:
                try:
                    return self._attempt(client, wanted, part, progress) or joined
                except _Broken as fault:
                    arrived = _size(part)
                    failures = 1 if arrived - most >= _PROGRESS else failures + 1
                    joined, most = joined or arrived > 0, max(most, arrived)
                    if failures >= (2 if fault.final else _ATTEMPTS):
                        raise _given_up(wanted, part, fault) from fault
                    pause = 0.5 * 2 ** (failures - 1) if fault.pause is None else fault.pause
                    log.info(
                        "pull goes on",
                        extra=logs.fields(url=wanted.url, reason=fault.reason, pause=pause),
                    )
                    self._pause(min(pause, _LONGEST_PAUSE))

    def _attempt(
        self, client: httpx.Client, wanted: Wanted, part: Path, progress: Progress
    ) -> bool:
        """One connection, from where `part` ends; returns whether it went on from there."""
        have, origin = _resumable(wanted, part)
        if have and have in (wanted.expected, origin.total):
            return True
        headers = dict(_HEADERS)
        if have:
            headers["Range"] = f"bytes={have}-"
            if origin.validator:
                headers["If-Range"] = origin.validator
        with self._opened(client, wanted.url, headers) as response:
            if response.status_code == 416 or not _continues(response, have, origin):
                discard(part)
                raise _Broken("the file there is another than before", 0.0)
            start = have if response.status_code == 206 else 0
            total = _total(response, start)
            _check_reply(response, wanted, total)
            _check_disk(part, (wanted.expected or total or 0) - start)
            _note_origin(part, _Origin(wanted.url, _validator(response), total))
            self._receive(response, part, start, wanted, total, progress)
        arrived = _size(part)
        if arrived != (wanted.expected or total or arrived):
            raise _Broken(f"the connection ended after {arrived:,} bytes")
        return start > 0

    def _receive(
        self,
        response: httpx.Response,
        part: Path,
        start: int,
        wanted: Wanted,
        total: int | None,
        progress: Progress,
    ) -> None:
        got, expected = start, wanted.expected or total
        limit = min(wanted.most, expected or wanted.most)
        with _writing(part), part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            window, since = time.monotonic(), start
            progress(got, expected)
            for piece in _pieces(response):
                got += len(piece)
                if got > limit:
                    file.truncate(0)
                    raise PullFault(
                        f"{wanted.url} sends more than the {limit:,} bytes that it may have; "
                        "nothing of it is kept."
                    )
                file.write(piece)
                progress(got, expected)
                now = time.monotonic()
                if now - window >= self._stall:
                    if got - since < _SLOWEST * self._stall:
                        raise _Broken("hardly anything arrives")
                    window, since = now, got
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _opened(
        self, client: httpx.Client, address: str, headers: dict[str, str]
    ) -> Iterator[httpx.Response]:
        """The reply to a request, after redirects; a good one, or one about ranges."""
        url = _parsed(address)
        for _ in range(_REDIRECTS + 1):
            self._allow(url)
            try:
                response = client.send(
                    client.build_request("GET", url, headers=headers), stream=True
                )
            except httpx.ConnectError as fault:
                raise _Broken("its host cannot be reached", final=True) from fault
            except httpx.TimeoutException as fault:
                raise _Broken("nothing arrives") from fault
            except httpx.HTTPError as fault:
                raise _Broken(f"the connection failed ({type(fault).__name__})") from fault
            try:
                if not response.has_redirect_location:
                    _check_status(response, address)
                    yield response
                    return
                further = _parsed(str(url.join(response.headers["location"])))
            finally:
                response.close()
            if url.scheme == "https" and further.scheme != "https":
                raise PullFault(f"{address} redirects to an address without encryption; refused.")
            url = further
        raise PullFault(f"{address} redirects more than {_REDIRECTS} times.")


def discard(part: Path) -> None:
    """Remove a partial file and what is known of it."""
    part.unlink(missing_ok=True)
    _origin_path(part).unlink(missing_ok=True)


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    try:
        # As they come: pieces of one size would hold back, and lose, what came before a break.
        yield from response.iter_raw()
    except httpx.TimeoutException as fault:
        raise _Broken("nothing arrives any more") from fault
    except httpx.HTTPError as fault:
        raise _Broken("the connection broke off") from fault


def _parsed(address: str) -> httpx.URL:
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, UnicodeError) as fault:
        raise PullFault(f"{address} is not a valid address.") from fault
    if url.scheme not in ("http", "https") or not url.host:
        raise PullFault(f"{address} is not an http or https address.")
    return url


def _check_status(response: httpx.Response, address: str) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        return
    if status in _RETRIED:
        told = response.headers.get("retry-after", "")
        raise _Broken(f"its server answers {status}", float(told) if told.isdecimal() else None)
    raise PullFault(f"{address} cannot be pulled: its server answers {status}.")


def _check_reply(response: httpx.Response, wanted: Wanted, total: int | None) -> None:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise PullFault(f"{wanted.url} is sent in an encoding that was not asked for.")
    if response.headers.get("content-type", "").lower().startswith("text/html"):
        raise PullFault(f"{wanted.url} is a web page, not a file of weights.")
    if total is None:
        return
    if wanted.expected is not None and total != wanted.expected:
        raise PullFault(
            f"{wanted.url} has {total:,} bytes there, not the {wanted.expected:,} that it is known "
            "to have; nothing of it is kept."
        )
    if total > wanted.most:
        raise PullFault(f"{wanted.url} has {total:,} bytes; {wanted.most:,} are allowed.")


def _check_disk(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > 0 and free - _SPARE < needed:
        raise OutputFault(
            f"{needed / 1e6:,.0f} MB more are needed in {part.parent} and {free / 1e6:,.0f} MB are "
            "free; what has arrived is kept, and the same command goes on from there."
        )


def _continues(response: httpx.Response, have: int, origin: _Origin) -> bool:
    """Whether a reply with status 206 is the rest of what is there; other replies start anew."""
    if response.status_code != 206:
        return True
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", ""))
    if match is None or int(match[1]) != have:
        return False
    told, now = origin.validator, _validator(response)
    if told and now and told != now:
        return False
    return match[2] == "*" or origin.total in (None, int(match[2]))


def _total(response: httpx.Response, start: int) -> int | None:
    """Bytes of the whole file as the reply tells them."""
    whole = response.headers.get("content-range", "").rpartition("/")[2]
    if response.status_code == 206 and whole.isdecimal():
        return int(whole)
    length = response.headers.get("content-length", "")
    return start + int(length) if length.isdecimal() else None


def _validator(response: httpx.Response) -> str:
    """What says that two replies are of one file, as If-Range takes it."""
    tag = str(response.headers.get("etag", ""))
    return tag if tag.startswith('"') else str(response.headers.get("last-modified", ""))


def _resumable(wanted: Wanted, part: Path) -> tuple[int, _Origin]:
    """How much of the file is there, and of which; a beginning that is of no use is removed."""
    have, origin = _size(part), _read_origin(part)
    useful = wanted.hashed or (origin.url == wanted.url and origin.validator != "")
    if have and (not useful or have > min(wanted.most, wanted.expected or wanted.most)):
        discard(part)
        return 0, _Origin()
    if origin.url != wanted.url:
        # Another address, a mirror's for instance: its tags say nothing of this one.
        origin = _Origin()
    return have, origin


def _origin_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_origin(part: Path) -> _Origin:
    with contextlib.suppress(OSError, ValueError, TypeError):
        return _Origin(**json.loads(_origin_path(part).read_text(encoding="utf-8")))
    return _Origin()


def _note_origin(part: Path, origin: _Origin) -> None:
    with _writing(part):
        _origin_path(part).write_text(json.dumps(vars(origin)), encoding="utf-8")


@contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        why = "the disk is full" if fault.errno == errno.ENOSPC else f"{fault.strerror or fault}"
        raise OutputFault(
            f"{part.parent} cannot be written: {why}. What has arrived is kept, and the same "
            "command goes on from there."
        ) from fault


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _given_up(wanted: Wanted, part: Path, fault: _Broken) -> PullFault:
    kept = _size(part)
    text = f"{wanted.url} cannot be pulled: {fault.reason}."
    if fault.final:
        text += " Is this machine offline? `upscale weights export` and `import` carry files over."
    if kept:
        text += f" {kept:,} bytes are kept; the same command goes on from there."
    return PullFault(text)
