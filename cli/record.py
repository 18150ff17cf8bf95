"""The record of a batch: a file of JSON lines beside its results, one for each picture that was
finished or failed, so that a later run goes on where this one stopped.

Only ever appended to: whoever is killed leaves at most a torn last line, which counts for nothing.
Knows files by size, times and hash; knows nothing of pictures, networks and servers.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from upscale.cli.console import complain
from upscale.cli.placing import scratch_name
from upscale.errors import OutputFault
from upscale.weights.hashes import hash_file
from upscale.weights.locks import locked

NAME = ".upscale-batch.jsonl"
LOCK = ".upscale-batch.lock"

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

Settings = dict[str, Any]
"""What decides a result besides its source, as plain data; what is left out is as usual."""


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a file from another: bytes, and times in nanoseconds."""

    bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file as it is now. Raises OSError."""
        facts = path.stat()
        return cls(facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


@dataclass(frozen=True)
class Done:
    """A picture that was finished. Names are relative to the record's folder.

    `replaced`: a file stood where the result was put, and was to give way to it; `receipt`: one was
    to be written beside it.
    """

    source: str
    stamp: Stamp
    sha256: str
    settings: Settings
    output: str
    output_bytes: int
    output_mtime_ns: int
    replaced: bool
    width: int
    height: int
    seconds: float
    receipt: bool

    def to_json(self) -> dict[str, Any]:
        """A line of the record."""
        return {
            "state": "done",
            "source": {"name": self.source, **vars(self.stamp), "sha256": self.sha256},
            "settings": self.settings,
            "output": {
                "name": self.output,
                "bytes": self.output_bytes,
                "mtime_ns": self.output_mtime_ns,
                "replaced": self.replaced,
                "width": self.width,
                "height": self.height,
            },
            "seconds": self.seconds,
            "receipt": self.receipt,
        }

    @classmethod
    def from_json(cls, line: dict[str, Any]) -> Done:
        """The inverse. Raises KeyError, TypeError, ValueError for what is none."""
        source, output = line["source"], line["output"]
        return cls(
            source=str(source["name"]),
            stamp=Stamp(*(int(source[name]) for name in ("bytes", "mtime_ns", "ctime_ns"))),
            sha256=str(source["sha256"]),
            settings=dict(line["settings"]),
            output=str(output["name"]),
            output_bytes=int(output["bytes"]),
            output_mtime_ns=int(output["mtime_ns"]),
            replaced=bool(output["replaced"]),
            width=int(output["width"]),
            height=int(output["height"]),
            seconds=float(line["seconds"]),
            receipt=bool(line["receipt"]),
        )


class Record:
    """The record in the folder `folder`, as it was read; `opened` is for those that write to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.id = ""
        self._done: dict[tuple[str, str], Done] = {}
        self._made: dict[str, list[Done]] = {}
        self._writable = self._torn = False
        self._read()

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator[Record]:
        """The record, held for this process alone; made where there is none.

        What a killed run left half done is removed. Raises OutputFault, where another process
        holds it too.
        """

        def busy() -> None:
            raise OutputFault(
                f"Another upscale command is at work in {folder}. Wait for its end, or choose "
                "another folder."
            )

        with ExitStack() as stack:
            try:
                stack.enter_context(locked(folder / LOCK, waiting=busy))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise _unwritable(folder / LOCK, error) from error
                complain(f"{folder} is on a file system without locks: run one command at a time.")
            record = cls(folder)
            record._begin()
            yield record

    def source_name(self, path: Path) -> str:
        """How a file is called in here."""
        try:
            return os.path.relpath(os.path.abspath(path), os.path.abspath(self.folder))
        except ValueError:  # another drive
            return os.path.abspath(path)

    def find(self, source: Path, settings: Settings) -> Done | None:
        """What was made of a file with these settings, unless something else was, in its place."""
        made = self._done.get((self.source_name(source), _key(settings)))
        last = self._made[made.output][-1:] if made is not None else []
        return made if made in last else None

    def made(self, target: Path) -> bool:
        """Whether `target` is called as a result of this batch."""
        return bool(self._made.get(self.source_name(target)))

    def owned(self, target: Path, source: Path) -> Done | None:
        """What the record says of the file `target` if it was made of `source`, and is as it was
        made; else None.
        """
        try:
            there = Stamp.of(target)
        except OSError:
            return None
        name, state = self.source_name(source), (there.bytes, there.mtime_ns)
        return next(
            (
                made
                for made in reversed(self._made.get(self.source_name(target), []))
                if made.source == name and (made.output_bytes, made.output_mtime_ns) == state
            ),
            None,
        )

    def is_done(self, made: Done, source: Path) -> bool:
        """Whether a result is still there and its source unchanged. Raises OSError for the source.

        A source with new times is read: copied and touched ones are the same picture.
        """
        try:
            there = Stamp.of(self.folder / made.output)
        except OSError:
            return False
        if there.bytes != made.output_bytes:
            return False
        # Until a result is put in the place of another file, that one stands under its name.
        if made.replaced and there.mtime_ns != made.output_mtime_ns:
            return False
        now = Stamp.of(source)
        if now == made.stamp:
            return True
        if now.bytes != made.stamp.bytes or hash_file(source) != made.sha256:
            return False
        if self._writable:
            self.add(Done(**{**vars(made), "stamp": now}))
        return True

    def add(self, done: Done) -> None:
        """Note a finished picture, before its result is put in place. Raises OutputFault."""
        self._append(done.to_json())
        self._note(done)

    def void(self, done: Done) -> None:
        """Take back what `add` noted: the result could not be put in place."""
        line = {"state": "void", "source": {"name": done.source}, "settings": done.settings}
        self._append({**line, "output": {"name": done.output}})
        self._forget(done.source, done.settings)

    def add_failure(self, source: Path, problem: str) -> None:
        """Note a picture that could not be upscaled; it is tried again by the next run."""
        name = self.source_name(source)
        self._append({"state": "failed", "source": {"name": name}, "problem": problem})

    def scratch(self) -> str:
        """A new name, of which the next run knows that it is a leftover of this one."""
        return scratch_name(self.id)

    def tidy(self, folders: set[Path]) -> None:
        """Remove what a killed run left half done in the `folders`, and where it put results."""
        mine = f".upscale-{self.id}-"
        for folder in folders | {(self.folder / name).parent for name in self._made}:
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if name.startswith(mine) and name.endswith(".part"):
                        (folder / name).unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputFault(
                f"The record {self.path} cannot be read: {error.strerror}."
            ) from error
        self._torn = not data.endswith(b"\n") and data != b""
        for raw in data.split(b"\n"):
            try:
                self._take(json.loads(raw))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue  # torn, or another's

    def _take(self, line: dict[str, Any]) -> None:
        state = line["state"]
        if state == "done":
            self._note(Done.from_json(line))
        elif state == "void":
            self._forget(line["source"]["name"], line["settings"])
        elif state == "begun" and str(line["id"]).isalnum():
            self.id = str(line["id"])

    def _note(self, done: Done) -> None:
        self._done[done.source, _key(done.settings)] = done
        self._made.setdefault(done.output, []).append(done)

    def _forget(self, source: str, settings: Settings) -> None:
        done = self._done.pop((source, _key(settings)), None)
        if done is not None:
            self._made[done.output].remove(done)

    def _begin(self) -> None:
        self._writable = True
        if not self.id:
            self.id = secrets.token_hex(4)
            self._append({"state": "begun", "id": self.id, "version": 1})

    def _append(self, line: dict[str, Any]) -> None:
        dated = {**line, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        # A torn line before it must not take this one along.
        data = b"\n" * self._torn + json.dumps(dated).encode("ascii") + b"\n"
        self._torn = True
        try:
            # All of it by one call, or none that counts.
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                if os.write(handle, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._torn = False


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True)


def _unwritable(path: Path, error: OSError) -> OutputFault:
    return OutputFault(f"The record {path} cannot be written: {error.strerror or error}.")
