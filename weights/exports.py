"""Installed files as one folder or tar, to carry them to machines without internet or to serve
them as a mirror; and such a folder or tar into a store.

An index with hashes, records and licences comes first. Files in it are named as a mirror serves
them. Nothing is unpacked by the names that a tar has: only what its index lists is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from upscale.errors import CheckpointError, OutputFault
from upscale.weights.hashes import hash_file
from upscale.weights.headers import Limits, loaded_suffix, read_header
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.records import Record
from upscale.weights.store import Store, checked_name, installed_name, name_from

INDEX = "upscale-weights.json"
LICENCES = "LICENCES.txt"

_SCHEMA = 1
_CHUNK = 1 << 20
_MAX_INDEX = 16 << 20
_FILE = re.compile(r"[a-z0-9][a-z0-9._-]{0,120}")


@dataclass(frozen=True)
class Entry:
    """One file of an export: `name` is what it is installed as, `file` its name in there."""

    name: str
    file: str
    bytes: int
    sha256: str
    record: Record
    path: Path = Path()

    def to_json(self) -> dict[str, Any]:
        """Plain data for the index."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("path", "record")}
        return {**kept, "record": self.record.to_json()}


def export(
    store: Store, names: list[str], target: Path, told: Callable[[Entry], None] = lambda _: None
) -> list[Entry]:
    """Write installed files, those called `names` or all, into the folder or `.tar` `target`.

    `told` is called for each before it is copied. Raises ModelNotFound for a name that is not
    installed, CheckpointError for a file that is not what was installed, OutputFault.
    """
    entries = [_entry(store, path) for path in _chosen(store, names)]
    if not entries:
        raise CheckpointError("Nothing is installed that could be exported.")
    try:
        with _writing_to(target) as writer:
            index = {"schema": _SCHEMA, "files": [entry.to_json() for entry in entries]}
            writer.add(INDEX, (json.dumps(index, indent=1) + "\n").encode())
            writer.add(LICENCES, _licences(entries).encode())
            written: set[str] = set()
            for entry in entries:
                if entry.file not in written:
                    told(entry)
                    writer.copy(entry.file, entry.path)
                    written.add(entry.file)
    except OSError as fault:
        raise OutputFault(f"{target}: {fault.strerror or fault}.") from fault
    return entries


def is_export(path: Path) -> bool:
    """Whether a folder or file is what `export` writes."""
    if path.is_dir():
        return (path / INDEX).is_file()
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return head.startswith(INDEX.encode() + b"\0") and head[257:262] == b"ustar"


def import_export(
    store: Store,
    source: Path,
    *,
    limits: Limits,
    replace_others: bool,
    told: Callable[[Entry], None] = lambda _: None,
) -> list[Entry]:
    """Install all that an export holds; `told` is called for each that was.

    Each file must have the hash that the index says and pass the checks of any import. Raises
    CheckpointError; what was installed before stays.
    """
    try:
        with _reading_from(source) as reader:
            entries = _index(source, reader)
            for entry in entries:
                _install(store, entry, reader, limits, replace_others)
                told(entry)
    except (OSError, tarfile.TarError) as fault:
        raise CheckpointError(f"{source}: {fault}.") from fault
    return entries


def _chosen(store: Store, names: list[str]) -> list[Path]:
    if not names:
        return store.files()
    files = store.files_by_name()
    return list(dict.fromkeys(files[installed_name(name, files)] for name in names))


def _entry(store: Store, path: Path) -> Entry:
    try:
        record, sha256 = store.record_of(path) or Record(installed=""), hash_file(path)
        size = path.stat().st_size
    except (OSError, ValueError) as fault:
        raise CheckpointError(f"{path.name}: {fault}.") from fault
    if record.sha256 not in ("", sha256):
        raise CheckpointError(
            f"{path.name} is not what was installed: its sha256 is {sha256}, {record.sha256} was "
            "recorded. Remove it and install it again."
        )
    known = load_manifest().by_sha256(sha256) or load_manifest().by_id(record.known)
    if known is not None:
        record = replace(
            record,
            known=known.id,
            licence=known.licence or record.licence,
            author=known.author or record.author,
        )
    name = name_from(path.stem)
    file = known.stored if known is not None else f"{name}{path.suffix.lower()}"
    return Entry(name, file, size, sha256, replace(record, sha256=sha256), path)


def _licences(entries: list[Entry]) -> str:
    lines = ["What lies here, who made it, and under which licence.", ""]
    for entry in entries:
        known = load_manifest().by_id(entry.record.known)
        terms = known.terms if known else entry.record.licence or "licence unknown"
        address = (known.url or known.page if known else "") or entry.record.url
        lines += [entry.file, f"  author:  {entry.record.author or 'unknown'}"]
        lines += [f"  licence: {terms}", f"  sha256:  {entry.sha256}"]
        lines += [f"  from:    {address}"] if address else []
        lines += [""]
    return "\n".join(lines)


def _install(
    store: Store, entry: Entry, reader: _Reader, limits: Limits, replace_others: bool
) -> None:
    known = load_manifest().by_sha256(entry.sha256) or load_manifest().by_id(entry.record.known)
    with _unpacked(store, entry, reader) as file:
        if known is not None and known.is_part:
            _check_part(known, entry)
            store.adopt_part(file, known, entry.record)
            return
        read_header(file, limits)
        suffix = loaded_suffix(file)
        store.adopt(file, checked_name(entry.name), suffix, entry.record, replace=replace_others)


def _check_part(known: KnownFile, entry: Entry) -> None:
    if known.sha256 not in (None, entry.sha256):
        raise CheckpointError(
            f"{entry.file} is not '{known.id}': its sha256 is {entry.sha256}, {known.sha256} was "
            "expected."
        )


@contextmanager
def _unpacked(store: Store, entry: Entry, reader: _Reader) -> Iterator[Path]:
    """The file of an entry on the store's disk, with the size and the hash of the index."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".upscale-", dir=store.folder) as folder:
        target, digest, got = Path(folder) / entry.file, hashlib.sha256(), 0
        with reader.open(entry.file) as source, target.open("wb") as copy:
            while chunk := source.read(_CHUNK):
                got += len(chunk)
                if got > entry.bytes:
                    break
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        if got != entry.bytes or digest.hexdigest() != entry.sha256:
            raise CheckpointError(
                f"{entry.file} is not what the index says: its sha256 is {digest.hexdigest()}, "
                f"{entry.sha256} was expected."
            )
        yield target


def _index(source: Path, reader: _Reader) -> list[Entry]:
    try:
        with reader.open(INDEX) as file:
            data = json.loads(file.read(_MAX_INDEX))
        if data["schema"] != _SCHEMA:
            raise ValueError(f"it is of schema {data['schema']}, {_SCHEMA} is understood")
        return [_read_entry(item) for item in data["files"]]
    except (KeyError, TypeError, ValueError) as fault:
        raise CheckpointError(f"{source}: its index cannot be read: {fault}.") from fault


def _read_entry(item: dict[str, Any]) -> Entry:
    entry = Entry(
        name=str(item["name"]),
        file=str(item["file"]),
        bytes=int(item["bytes"]),
        sha256=str(item["sha256"]),
        record=Record.from_json(item["record"]),
    )
    if not _FILE.fullmatch(entry.file) or entry.record.sha256 != entry.sha256:
        raise ValueError(f"its entry {entry.file[:60]!r} is not a proper one")
    models = load_manifest().models
    serves = tuple(model for model in entry.record.serves if model in models)
    return replace(entry, record=replace(entry.record, serves=serves))


class _Reader(Protocol):
    def open(self, name: str) -> IO[bytes]:
        """The content of a file; raises OSError where it is not there."""


class _Folder:
    """An export as a folder, to be read or written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str) -> IO[bytes]:
        return (self._folder / name).open("rb")

    def add(self, name: str, content: bytes) -> None:
        scratch = self._folder / f".{name}.part"
        scratch.write_bytes(content)
        scratch.replace(self._folder / name)

    def copy(self, name: str, path: Path) -> None:
        scratch = self._folder / f".{name}.part"
        try:
            with path.open("rb") as source, scratch.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    copy.write(chunk)
            scratch.replace(self._folder / name)
        finally:
            scratch.unlink(missing_ok=True)


class _Tar:
    """An export as a tar, to be read or written."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def open(self, name: str) -> IO[bytes]:
        try:
            member = self._tar.getmember(name)
        except KeyError:
            raise FileNotFoundError(f"{name} is not in it") from None
        file = self._tar.extractfile(member) if member.isreg() else None
        if file is None:
            raise FileNotFoundError(f"{name} is no file in it")
        return file

    def add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        self._tar.addfile(member, io.BytesIO(content))

    def copy(self, name: str, path: Path) -> None:
        with path.open("rb") as source:
            member = tarfile.TarInfo(name)
            member.size, member.mode = os.fstat(source.fileno()).st_size, 0o644
            self._tar.addfile(member, source)


@contextmanager
def _writing_to(target: Path) -> Iterator[_Folder | _Tar]:
    if target.suffix.lower() != ".tar":
        target.mkdir(parents=True, exist_ok=True)
        yield _Folder(target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".upscale-", suffix=".part", dir=target.parent)
    scratch = Path(name)
    try:
        # The index is the first member, and its header begins the file: no extended headers.
        with (
            os.fdopen(handle, "wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            yield _Tar(tar)
        scratch.chmod(0o644)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _reading_from(source: Path) -> Iterator[_Reader]:
    if source.is_dir():
        yield _Folder(source)
        return
    with tarfile.open(source, mode="r:") as tar:
        yield _Tar(tar)
