"""Results behind links: unguessable names, gone after their time, within a quota of bytes.

A link is all that is needed to read a result, so names are random and appear in no log. Where the
bytes lie is a Storage's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from upscale import logs
from upscale.errors import MediaFull, NotFound, OutputFault, UpscaleError
from upscale.imaging.limits import FORMATS
from upscale.server.ids import random_token
from upscale.server.ranges import Answer, answer, http_date
from upscale.server.storage.stored import Reader, Storage, Stored

log = logs.get("server")

# Names of results of background jobs have a letter more, which says how long they live.
_TOKEN, _JOBS = 27, "j"
_NAME = re.compile(rf"[0-9A-Za-z]{{{_TOKEN}}}{_JOBS}?\.[a-z]{{3,4}}")
_LINK = re.compile(rf"https?://[^/?#]+(?:/[^?#]*)?/media/({_NAME.pattern})", re.I)
_TYPES = {facts.extension: facts.mime for facts in FORMATS.values()}
_MAX_SWEEP_SECONDS = 60.0
# What is younger gives way to no other result: its link may not have been read yet.
_FRESH_SECONDS = 60.0
# What was begun longer ago than this and is not there yet will never be.
_LEFTOVER_SECONDS = 3600.0
_PIECE = 1 << 18


class MediaStore:
    """Results live `ttl` seconds, those of background jobs `jobs_ttl` if that is more, and take at
    most `quota` bytes (0: any number).
    """

    def __init__(
        self,
        storage: Storage,
        ttl: int,
        quota: int = 0,
        fresh: float = _FRESH_SECONDS,
        *,
        jobs_ttl: int = 0,
    ) -> None:
        self._storage, self._ttl, self._quota, self._fresh = storage, ttl, quota, fresh
        self._jobs_ttl = max(ttl, jobs_ttl)
        self._lock = threading.Lock()
        self._arriving: dict[str, int] = {}
        self._served: Counter[str] = Counter()

    def open(self) -> None:
        """Make the place ready and remove what has expired. Raises OutputFault."""
        self._storage.open()
        self.sweep()

    def check(self) -> None:
        """Raise MediaFull where no result could be taken now, so that none is made in vain. Blocks.

        How large one will be is known only when it is there: `adopt` may still find no room.
        """
        if self._quota:
            with self._lock:
                used, free = self._occupied()
            if used - sum(entry.size for entry in free) >= self._quota:
                raise MediaFull(size=1, quota=self._quota)

    def adopt(self, result: Path, format: str, *, of_job: bool = False) -> str:
        """Take over a finished result, older ones making room; returns its name. `of_job`: nobody
        waits for it, so it lives as long as those of background jobs do.

        Blocks. Raises MediaFull where it cannot fit, OutputFault where it cannot be stored.
        """
        facts = FORMATS[format]
        name = random_token() + (_JOBS if of_job else "") + facts.extension
        with self._lock:
            self._make_room(name, result.stat().st_size)
        try:
            self._storage.keep(result, name, facts.mime)
        finally:
            with self._lock:
                self._arriving.pop(name, None)
        return name

    def copy(self, name: str, target: Path, count: Callable[[int], None] = lambda _: None) -> bool:
        """Put a result into the new file `target`; False where its time is over. Blocks.

        `count` is told of its bytes before they are written.
        """
        stored = self._alive(name)
        if stored is None:
            return False
        count(stored.size)
        return self._storage.copy(name, target)

    def discard(self, name: str) -> bool:
        """Remove a result before its time; False where it is gone already. Blocks."""
        there = self._alive(name) is not None
        if there:
            self._storage.remove(name)
        return there

    async def response(self, name: str, method: str, headers: Headers) -> Response:
        """The reply to a GET or HEAD. Raises NotFound."""
        stored = await anyio.to_thread.run_sync(self._alive, name)
        if stored is None:
            raise _gone()
        tag = f'"{hashlib.sha256(name.encode()).hexdigest()[:32]}"'
        lines = {name: ", ".join(headers.getlist(name)) for name in headers}
        what = answer(lines, stored.size, tag, stored.made, ranges=method != "HEAD")
        sent = self._headers(stored, tag, what)
        if what.status in (304, 412, 416) or method == "HEAD":
            return Response(status_code=what.status, headers=sent)
        return _Served(self, name, what, sent)

    @contextlib.contextmanager
    def serving(self, name: str) -> Iterator[None]:
        """Meanwhile it gives way to no other result."""
        with self._lock:
            self._served[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._served[name] -= 1
                self._served += Counter()  # forgets those at zero

    def read(self, name: str, what: Answer) -> Reader:
        """Blocks. Raises NotFound."""
        reader = self._storage.read(name, what.start, what.stop)
        if reader is None:
            raise _gone()
        return reader

    def sweep(self) -> None:
        """Remove what has expired, and what a crash left half done. Raises OutputFault."""
        now = time.time()
        try:
            for entry in self._storage.entries():
                if _NAME.fullmatch(entry.name) and self._end(entry) <= now:
                    self._storage.remove(entry.name)
            self._storage.tidy(_LEFTOVER_SECONDS)
        except OSError as fault:
            raise OutputFault(f"Cannot sweep media: {fault.strerror}.") from fault

    async def sweep_forever(self) -> None:
        """Sweep now and then until cancelled."""
        while True:
            await asyncio.sleep(min(_MAX_SWEEP_SECONDS, self._ttl / 2))
            try:
                await asyncio.to_thread(self.sweep)
            except UpscaleError as fault:
                log.warning("media not swept", extra=logs.fields(reason=fault.message))

    def _alive(self, name: str) -> Stored | None:
        if not _NAME.fullmatch(name) or _extension(name) not in _TYPES:
            return None
        stored = self._storage.find(name)
        return stored if stored is not None and self._end(stored) > time.time() else None

    def _end(self, stored: Stored) -> float:
        """When its time is over, in Unix seconds."""
        of_job = stored.name[_TOKEN] == _JOBS
        return stored.made + (self._jobs_ttl if of_job else self._ttl)

    def _headers(self, stored: Stored, tag: str, what: Answer) -> dict[str, str]:
        if what.status == 416:
            return {"Content-Range": f"bytes */{stored.size}"}
        left = int(self._end(stored) - time.time())
        headers = {
            "ETag": tag,
            "Last-Modified": http_date(stored.made),
            "Cache-Control": f"private, max-age={max(0, left)}",
            "Accept-Ranges": "bytes",
        }
        if what.status in (304, 412):
            return headers
        if what.status == 206:
            headers["Content-Range"] = f"bytes {what.start}-{what.stop - 1}/{stored.size}"
        when = time.strftime("%Y%m%d-%H%M%S", time.gmtime(stored.made))
        extension = _extension(stored.name)
        return {
            **headers,
            "Content-Type": _TYPES[extension],
            "Content-Length": str(what.stop - what.start),
            "Content-Disposition": f'inline; filename="upscaled-{when}{extension}"',
            "X-Content-Type-Options": "nosniff",
        }

    def _make_room(self, name: str, size: int) -> None:
        """Remove the oldest that may go until `size` bytes fit. The lock is held."""
        if not self._quota:
            return
        used, free = self._occupied()
        if used + size - sum(entry.size for entry in free) > self._quota:
            raise MediaFull(size=size, quota=self._quota)
        for entry in free:
            if used + size <= self._quota:
                break
            self._storage.remove(entry.name)
            used -= entry.size
        self._arriving[name] = size

    def _occupied(self) -> tuple[int, list[Stored]]:
        """Bytes in use or promised, and those that may give way, the oldest first. The lock is
        held.
        """
        there = self._storage.entries()
        names = {entry.name for entry in there}
        used = sum(entry.size for entry in there)
        used += sum(bytes for other, bytes in self._arriving.items() if other not in names)
        now = time.time()
        free = [
            entry
            for entry in sorted(there, key=lambda entry: entry.made)
            # What is of the future was made before the clock was set back.
            if not now - self._fresh < entry.made <= now + _FRESH_SECONDS
            and entry.name not in self._arriving
            and not self._served[entry.name]
            and _NAME.fullmatch(entry.name)
        ]
        return used, free


class _Served(StreamingResponse):
    """A result, or a part of it, read in threads as it is sent."""

    def __init__(
        self, store: MediaStore, name: str, what: Answer, headers: Mapping[str, str]
    ) -> None:
        super().__init__(self._pieces(), status_code=what.status, headers=headers)
        self._store, self._name, self._what = store, name, what
        self._reader: Reader | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open it, before anything is sent, and send it."""
        with self._store.serving(self._name):
            self._reader = await anyio.to_thread.run_sync(self._store.read, self._name, self._what)
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._reader.close()

    async def _pieces(self) -> AsyncIterator[bytes]:
        assert self._reader is not None
        left = self._what.stop - self._what.start
        while left:
            piece = await anyio.to_thread.run_sync(self._reader.read, min(_PIECE, left))
            if not piece:
                raise OutputFault("A result is shorter than it was: the storage lost a part.")
            left -= len(piece)
            yield piece


def linked_name(url: str) -> str | None:
    """The name in a media link, whichever the host; None for any other URL."""
    match = _LINK.fullmatch(url.split("?")[0].split("#")[0])
    return match[1] if match else None


def _extension(name: str) -> str:
    return name[name.index(".") :]


def _gone() -> NotFound:
    return NotFound("There is no such media link, or it has expired.")
