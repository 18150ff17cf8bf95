"""Where uploads and results lie while a request is at work: a private folder for each request.

Every server process has a locked folder of its own; what a dead process left behind is removed
when the next one starts. What requests write is counted, so that all of them together stay within
a limit and leave some of the disk free.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from upscale import logs
from upscale.errors import OutputFault, SpoolFull, TooLarge
from upscale.server.locks import is_held

log = logs.get("server")

_SWEEP_SECONDS = 5.0
_RETRY_SECONDS = 10


class Spool:
    """The folder `folder`, shared by server processes of one user.

    Requests of this process hold at most `max_bytes` in it, and take none of the last
    `min_free_bytes` of the disk. The pictures of background jobs count in it, and may take at most
    `parking` bytes while they wait: what is at work finds room beside them.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 1 << 62, min_free_bytes: int = 0) -> None:
        self._folder = folder
        self._max_bytes, self._min_free_bytes = max_bytes, min_free_bytes
        self._held = self._ahead = self._parked = 0
        # Counted down where a file is let go of, which may be anywhere: in `count` itself, too.
        self._counting = threading.RLock()
        self._own: Path | None = None
        self._lock: BinaryIO | None = None
        self._stale: list[Path] = []

    def open(self) -> None:
        """Make this process's folder, and remove those of processes that are gone."""
        private_folder(self._folder)
        with _alone(self._folder):
            for leftover in self._folder.iterdir():
                # Also where one died before it made its lock.
                if leftover.is_dir() and not is_held(leftover / "lock"):
                    shutil.rmtree(leftover, ignore_errors=True)
            own = Path(tempfile.mkdtemp(dir=self._folder))
            self._lock = (own / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._own = own

    def close(self) -> None:
        """Remove this process's folder."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        self._own = self._lock = None

    @property
    def held(self) -> int:
        """Bytes that the requests at work, and the pictures of jobs, have taken."""
        return self._held

    @property
    def parking(self) -> int:
        """Bytes that pictures of background jobs may take while they wait."""
        return self._max_bytes // 2

    @contextlib.contextmanager
    def request_folder(self) -> Iterator[RequestFolder]:
        """A private folder that is gone, with all that is in it, when the context ends."""
        if self._own is None:
            raise RuntimeError("the spool is not open")
        with storing("a request"):
            folder = RequestFolder(self, Path(tempfile.mkdtemp(dir=self._own)))
        try:
            yield folder
        finally:
            if not _removed(folder.path):
                log.info("request folder stays for now", extra=logs.fields(folder=folder.path.name))
                self._stale.append(folder.path)
            folder.give_back(folder.held)

    def check(self, size: int, held: int = 0, *, parked: bool = False) -> None:
        """Raise what stands against `size` bytes more for a request that holds `held`, or for a job
        whose picture is `parked` here. Where nothing else is at work, no picture that waits is in
        the way of a job: else none would ever make room.

        TooLarge where they would not fit an empty spool, SpoolFull where others are in the way,
        OutputFault where the disk is too full.
        """
        if held + size > self._max_bytes:
            raise TooLarge(
                "What this request needs on the server's disk",
                got=held + size,
                limit=self._max_bytes,
                unit="bytes",
                advice="Send a smaller file, or raise UPSCALE_MAX_SPOOL_BYTES on the server.",
                field=None,
            )
        alone = parked and self._held == self._parked
        if self._held + size > self._max_bytes and not alone:
            raise SpoolFull(
                "The server's folder for uploads and results is full of other requests. "
                "Try again later.",
                retry_after=_RETRY_SECONDS,
            )
        with storing("a request"):
            free = shutil.disk_usage(self._folder).free
        if size and free - self._ahead - size < self._min_free_bytes:
            raise OutputFault("Cannot store what this request needs: the disk is nearly full.")

    def count(self, size: int, *, ahead: int = 0, parked: int = 0) -> None:
        """Add to what is held, to what of it is not written yet, and to what of it are pictures of
        jobs.
        """
        with self._counting:
            self._held += size
            self._ahead += ahead
            self._parked += parked

    def sweep(self) -> None:
        """Try again to remove what could not be removed when its request ended."""
        for folder in self._stale[:]:
            if _removed(folder):
                self._stale.remove(folder)

    async def sweep_forever(self) -> None:
        """Sweep now and then until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            if self._stale:
                await asyncio.to_thread(self.sweep)


@dataclass
class RequestFolder:
    """The folder of one request; `held` counts the bytes that it has taken. Any thread may."""

    spool: Spool
    path: Path
    held: int = 0

    def check(self, size: int) -> None:
        """Raise what `take` would raise, and take nothing."""
        self.spool.check(size, self.held)

    def take(self, size: int) -> None:
        """Count `size` bytes that are about to be written. Raises what `Spool.check` raises."""
        self.check(size)
        self.spool.count(size)
        self.held += size

    def give_back(self, size: int) -> None:
        """The inverse of `take`, for files that are removed before the request ends."""
        self.spool.count(-size)
        self.held -= size

    @contextlib.contextmanager
    def ahead(self, size: int) -> Iterator[None]:
        """Take `size` bytes for files that grow within the context; the caller takes for good
        what of them stays. Raises what `take` raises.
        """
        self.take(size)
        self.spool.count(0, ahead=size)
        try:
            yield
        finally:
            self.spool.count(0, ahead=-size)
            self.give_back(size)

    def lend(self, file: BinaryIO, size: int) -> None:
        """Count `size` bytes of an open `file` until it is let go of: one that is read after the
        request's folder is removed takes its place on the disk until then.
        """
        self.spool.count(size)
        weakref.finalize(file, self.spool.count, -size).atexit = False


def private_folder(folder: Path) -> None:
    """Make `folder`, readable by this user alone. Raises OutputFault."""
    with storing(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)


def private_file(path: Path) -> BinaryIO:
    """Create and open a new file that this user alone can read."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b")


@contextlib.contextmanager
def storing(what: str) -> Iterator[None]:
    """Turns an OSError (disk full, folder read-only) into an OutputFault."""
    try:
        yield
    except OSError as fault:
        raise OutputFault(f"Cannot store {what} on the server: {fault.strerror}.") from fault


def _removed(folder: Path) -> bool:
    """Remove a folder; False where a cancelled job made one more file in there meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process opens a spool in `folder` meanwhile: none is seen half made."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
