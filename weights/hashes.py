"""Hashes of files, remembered by size and time of change so that listing a folder is quick.

The index is a cache: unreadable, missing or unwritable, it costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from pathlib import Path
from types import TracebackType


def hash_file(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashIndex:
    """The hashes of the files beside the index file at `path`.

    Used as a context: entering reads the index, leaving writes it where something is new. One
    thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, list[object]] = {}
        self._changed = False

    def __enter__(self) -> HashIndex:
        self._lock.acquire()
        self._changed = False
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(read, dict):
                self._known |= {k: v for k, v in read.items() if isinstance(v, list)}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._changed:
                with contextlib.suppress(OSError):
                    self._write()
        finally:
            self._lock.release()

    def of(self, path: Path) -> str:
        """The sha256 of `path`, a file in the index's folder. Raises OSError."""
        facts = path.stat()
        entry = self._known.get(path.name, [])
        if len(entry) == 3 and entry[:2] == [facts.st_size, facts.st_mtime_ns]:
            return str(entry[2])
        sha256 = hash_file(path)
        self._known[path.name] = [facts.st_size, facts.st_mtime_ns, sha256]
        self._changed = True
        return sha256

    def _write(self) -> None:
        folder = self._path.parent
        there = {name: entry for name, entry in self._known.items() if (folder / name).exists()}
        handle, scratch = tempfile.mkstemp(prefix=".upscale-", suffix=".part", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(there, file)
            os.replace(scratch, self._path)
        finally:
            Path(scratch).unlink(missing_ok=True)
