"""Where uploads and results lie while a request is at work: a private folder for each request.

Every server process has a locked folder of its own; what a dead process left behind is removed
when the next one starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from upscale import logs
from upscale.errors import OutputFault

log = logs.get("server")

_SWEEP_SECONDS = 5.0


class Spool:
    """The folder `folder`, shared by server processes of one user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: Path | None = None
        self._lock: BinaryIO | None = None
        self._stale: list[Path] = []

    def open(self) -> None:
        """Make this process's folder, and remove those of processes that are gone."""
        private_folder(self._folder)
        for leftover in self._folder.iterdir():
            if leftover.is_dir() and _unlocked(leftover / "lock"):
                shutil.rmtree(leftover, ignore_errors=True)
        own = Path(tempfile.mkdtemp(dir=self._folder))
        self._lock = (own / "new").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Named when it is held: a process that starts now never sees it free.
        (own / "new").rename(own / "lock")
        self._own = own

    def close(self) -> None:
        """Remove this process's folder."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        self._own = self._lock = None

    @contextlib.contextmanager
    def request_folder(self) -> Iterator[Path]:
        """A private folder that is gone, with all that is in it, when the context ends."""
        if self._own is None:
            raise RuntimeError("the spool is not open")
        with storing("a request"):
            folder = Path(tempfile.mkdtemp(dir=self._own))
        try:
            yield folder
        finally:
            if not _removed(folder):
                log.info("request folder stays for now", extra=logs.fields(folder=folder.name))
                self._stale.append(folder)

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


def _unlocked(lock: Path) -> bool:
    """Whether no process holds `lock`."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
