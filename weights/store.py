"""Files of weights installed on this machine: a folder of networks with a record beside each, and
below it the parts of pipelines.

Registers, finds and removes them; recognises known files by their hash; finds networks that were
merely dropped in. Never loads a network: whether a file can be used is decided before it is
registered, or when it first runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from pathlib import Path

from upscale import logs
from upscale.errors import CheckpointError, InvalidParameter, ModelNotFound
from upscale.weights.hashes import HashIndex, hash_file
from upscale.weights.headers import SUFFIXES, loaded_suffix
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.records import Record, read_record, write_json

log = logs.get("weights")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Network:
    """Weights that a caller can name as a model.

    `serves` are models of the catalogue that it may answer for; `licence` and `author` are ''
    where unknown. `blend_path` is a second checkpoint to mix in: `blend` is the weight of `path`,
    the rest is that of `blend_path`.
    """

    name: str
    path: Path
    sha256: str
    bundled: bool
    serves: tuple[str, ...]
    licence: str
    author: str
    blend_path: Path | None = None
    blend: float = 1.0


@dataclass(frozen=True)
class Part:
    """An installed piece of a pipeline: `known` says of which, and which piece."""

    known: KnownFile
    path: Path
    sha256: str


class Store:
    """The folder `folder`, which need not exist yet. Safe to use from several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hashes = HashIndex(folder / ".index.json")

    def networks(self) -> list[Network]:
        """All networks: the bundled one first, then by name. Skips what it cannot read."""
        bundled = _bundled()
        installed = sorted(self._installed().values(), key=lambda network: network.name)
        return [*([bundled] if bundled else []), *_with_partners(installed)]

    def find(self, name: str) -> Network | None:
        """The network called `name`, in any case."""
        wanted = name.lower()
        return next((network for network in self.networks() if network.name == wanted), None)

    def parts(self, model: str | None = None) -> list[Part]:
        """The installed parts of pipelines, those of the catalogue's `model` only where one is
        given. Trusts their records: their hashes are taken when they arrive and by `verify`.
        """
        found = (self.part(known) for known in load_manifest().files if known.is_part)
        return [p for p in found if p is not None and model in (None, p.known.family)]

    def part(self, known: KnownFile) -> Part | None:
        """A known part, None where it is not installed as it was recorded."""
        path = self.place_of(known)
        try:
            record = self.record_of(path)
        except (OSError, ValueError) as fault:
            log.warning("part skipped", extra=logs.fields(file=path.name, reason=str(fault)))
            return None
        if record is None or not path.is_file():
            return None
        return Part(known, path, record.sha256)

    def place_of(self, known: KnownFile) -> Path:
        """Where a known file lies once it is installed."""
        return (self.folder / "parts" if known.is_part else self.folder) / known.stored

    def record_of(self, path: Path) -> Record | None:
        """The record of a file in the store. Raises ValueError for a broken one, OSError."""
        return read_record(self._record_path(path))

    def files(self) -> list[Path]:
        """All installed files, broken ones too: networks by name, then parts."""
        found: list[Path] = []
        for folder in (self.folder, self.folder / "parts"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found += sorted(path for path in folder.iterdir() if self._is_weights(path))
        return found

    def files_by_name(self) -> dict[str, Path]:
        """The installed files under the names that commands know them by."""
        return {name_from(path.stem): path for path in self.files()}

    def check(self, file: Path, *, name: str | None, serves: str | None, replace: bool) -> None:
        """Raise what `register` would raise for these arguments as things stand; writes nothing."""
        name = _wanted_name(file, name, serves)
        earlier = self._installed().get(name)
        if earlier is None or replace:
            return
        try:
            differs = hash_file(file) != earlier.sha256
        except OSError as fault:
            raise CheckpointError(f"{file.name}: {fault.strerror or fault}.") from fault
        if differs:
            raise _taken(name)

    def register(
        self,
        file: Path,
        *,
        name: str | None,
        serves: str | None,
        replace: bool,
        record: Record | None = None,
    ) -> Network:
        """Copy `file` into the store, under `name` or one made from the file's; returns it.

        The copy appears whole or not at all. Registering the same content again only renews the
        record. `record` holds what else is known of it. Raises InvalidParameter for a name that
        cannot be used, CheckpointError when the file cannot be read or another of that name is
        there and `replace` is False.
        """
        name = _wanted_name(file, name, serves)
        scratch, sha256 = self._copied(file)
        record = record or Record()
        try:
            fresh = _renewed(record, sha256, origin=record.origin or file.name, serves=serves)
            return self.adopt(scratch, name, loaded_suffix(file), fresh, replace=replace)
        finally:
            scratch.unlink(missing_ok=True)

    def register_part(self, file: Path, known: KnownFile, record: Record | None = None) -> Part:
        """Copy the file of a known part into the store; the same rules hold."""
        scratch, sha256 = self._copied(file)
        record = record or Record()
        try:
            fresh = _renewed(record, sha256, origin=record.origin or file.name, serves=None)
            return self.adopt_part(scratch, known, fresh)
        finally:
            scratch.unlink(missing_ok=True)

    def adopt(
        self, scratch: Path, name: str, suffix: str, record: Record, *, replace: bool
    ) -> Network:
        """Make a network of `scratch`, a whole file on the store's disk, whose hash is the
        record's. As `register`, but the file is moved.
        """
        earlier = self._installed().get(checked_name(name))
        target = self.folder / f"{name}{suffix}"
        changed = earlier is not None and earlier.sha256 != record.sha256
        if changed and not replace:
            raise _taken(name)
        try:
            # A record that does not fit the file would be worse than none, should we be cut off.
            if changed:
                self._record_path(target).unlink(missing_ok=True)
            os.replace(scratch, target)
            if earlier is not None and earlier.path != target:
                earlier.path.unlink(missing_ok=True)
            self._write_record(target, record)
        except OSError as fault:
            raise CheckpointError(f"{target}: {fault.strerror or fault}.") from fault
        found = self.find(name)
        if found is None:
            raise CheckpointError(f"'{name}' was written and is not there any more.")
        return found

    def adopt_part(self, scratch: Path, known: KnownFile, record: Record) -> Part:
        """Make a known part of `scratch`, a whole file on the store's disk, by moving it."""
        target = self.place_of(known)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._record_path(target).unlink(missing_ok=True)
            os.replace(scratch, target)
            write_json(self._record_path(target), record.to_json())
        except OSError as fault:
            raise CheckpointError(f"{target}: {fault.strerror or fault}.") from fault
        return Part(known, target, record.sha256)

    def remove(self, name: str) -> None:
        """Remove an installed network or part with its record.

        Raises ModelNotFound for an unknown name, InvalidParameter for the bundled network.
        """
        network = self.find(name)
        if network is not None and network.bundled:
            raise InvalidParameter("name", name, "an installed network, not the bundled one")
        path = network.path if network is not None else self._file_called(name)
        if path is None:
            raise ModelNotFound(name)
        path.unlink(missing_ok=True)
        self._record_path(path).unlink(missing_ok=True)

    def _file_called(self, name: str) -> Path | None:
        """A part, or a network that is hidden because something is wrong with it."""
        wanted = name.lower()
        return next((p for p in self.files() if name_from(p.stem) == wanted), None)

    def _installed(self) -> dict[str, Network]:
        found: dict[str, Network] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._hashes:
            for path in sorted(self.folder.iterdir()):
                if not self._is_weights(path):
                    continue
                network = self._read(path)
                if network is None:
                    continue
                if network.name in found:
                    log.warning("two files of one name", extra=logs.fields(ignored=path.name))
                    continue
                found[network.name] = network
        return found

    def _is_weights(self, path: Path) -> bool:
        """Whether it is one of the files that the store is for, by its name."""
        if path.name.startswith("."):
            return False
        if path.parent == self.folder:
            return path.suffix.lower() in SUFFIXES
        return path.suffix != ".record"

    def _read(self, path: Path) -> Network | None:
        """The network of one file; None, with a warning, where there is something wrong with it."""
        try:
            name = checked_name(name_from(path.stem))
            sha256 = self._hashes.of(path)
            record = self.record_of(path) or Record()
        except (OSError, ValueError, InvalidParameter) as fault:
            log.warning("network skipped", extra=logs.fields(file=path.name, reason=str(fault)))
            return None
        if record.sha256 not in ("", sha256):
            log.warning(
                "network skipped",
                extra=logs.fields(file=path.name, reason="its content is not what was installed"),
            )
            return None
        known = load_manifest().by_sha256(sha256) or load_manifest().by_id(record.known)
        serves = list(record.serves)
        serves += [model for model in (known.serves if known else ()) if model not in serves]
        return Network(
            name=name,
            path=path,
            sha256=sha256,
            bundled=False,
            serves=tuple(serves),
            licence=(known.licence if known else None) or record.licence,
            author=(known.author if known else None) or record.author,
        )

    def _write_record(self, target: Path, record: Record) -> None:
        """Write a record, keeping what an earlier one of the same content says beyond it."""
        earlier: Record | None = None
        with contextlib.suppress(ValueError):
            earlier = self.record_of(target)
        if earlier is not None and earlier.sha256 == record.sha256:
            if not record.serves:
                record = replace(record, serves=earlier.serves)
            told = {k: v for k, v in vars(earlier).items() if v and not vars(record)[k]}
            record = replace(record, **told, installed=earlier.installed or record.installed)
        write_json(self._record_path(target), record.to_json())

    def _record_path(self, path: Path) -> Path:
        """Records of networks go by the network's name, those of parts by the whole file's."""
        if path.parent == self.folder:
            return path.with_name(f"{name_from(path.stem)}.json")
        return path.with_name(f"{path.name}.record")

    def _copied(self, file: Path) -> tuple[Path, str]:
        """A whole copy under a scratch name in the folder, and the hash of what it holds."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return self._copy(file)
        except OSError as fault:
            raise CheckpointError(f"{file.name}: {fault.strerror or fault}.") from fault

    def _copy(self, file: Path) -> tuple[Path, str]:
        handle, name = tempfile.mkstemp(prefix=".upscale-", suffix=".part", dir=self.folder)
        scratch, digest = Path(name), hashlib.sha256()
        try:
            with file.open("rb") as source, os.fdopen(handle, "wb") as copy:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    copy.write(chunk)
                copy.flush()
                os.fsync(copy.fileno())
            scratch.chmod(0o644)
            if hash_file(scratch) != digest.hexdigest():
                raise CheckpointError(f"{file.name}: its copy in {self.folder} differs from it.")
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        return scratch, digest.hexdigest()


def name_from(stem: str) -> str:
    """A network's name from a file's: lower case, anything odd becomes a dash."""
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:100]


def checked_name(name: str) -> str:
    """`name` if a network may be called so; raises InvalidParameter."""
    if not _NAME.fullmatch(name):
        raise InvalidParameter("name", name, "a-z, 0-9, dot, dash and underscore, at most 100")
    if name in load_manifest().reserved:
        raise InvalidParameter("name", name, "a name that is no model of the catalogue")
    return name


def installed_name(name: str, installed: Container[str]) -> str:
    """Which of the names `installed` is meant by `name`, which may also be another one of a known
    file. Raises ModelNotFound.
    """
    known = load_manifest().find(name)
    for candidate in (name.lower(), known.id if known else ""):
        if candidate in installed:
            return candidate
    raise ModelNotFound(name)


def known_id(network: Network) -> str:
    """Which known file it is, by content or else by name; its own name where it is none."""
    known = load_manifest().by_sha256(network.sha256)
    return known.id if known else network.name


def _renewed(record: Record, sha256: str, *, origin: str, serves: str | None) -> Record:
    models = [*record.serves, *([serves] if serves and serves not in record.serves else [])]
    return replace(record, sha256=sha256, origin=origin, serves=tuple(models))


def _wanted_name(file: Path, name: str | None, serves: str | None) -> str:
    """What to call `file`, its ending and the model that it serves being fine."""
    if loaded_suffix(file) not in SUFFIXES:
        raise CheckpointError(
            f"{file.name}: a checkpoint ends in {', '.join(SUFFIXES)}, not in '{file.suffix}'."
        )
    name = checked_name(name if name is not None else name_from(_plain_stem(file)))
    models = load_manifest().models
    if serves is not None and serves not in models:
        raise InvalidParameter("serves", serves, ", ".join(sorted(models)))
    return name


def _plain_stem(file: Path) -> str:
    """The name without its ending, both of them for `.pth.tar`."""
    return Path(file.stem).stem if file.suffix.lower() == ".tar" else file.stem


def _taken(name: str) -> CheckpointError:
    return CheckpointError(
        f"A network called '{name}' is installed and its content differs. "
        "Choose another name, or ask for it to be replaced."
    )


def _with_partners(networks: list[Network]) -> list[Network]:
    """The networks, those that can be mixed with another installed one with its path."""
    manifest = load_manifest()
    paths = {known_id(network): network.path for network in networks}
    return [
        replace(network, blend_path=paths.get(manifest.blends.get(known_id(network), "")))
        for network in networks
    ]


@lru_cache(maxsize=1)
def _bundled() -> Network | None:
    entry = load_manifest().bundled
    path = Path(str(resources.files("upscale.weights").joinpath("bundled", entry.file)))
    if not path.is_file():
        return None
    return Network(
        name=entry.id,
        path=path,
        sha256=hash_file(path),
        bundled=True,
        serves=(),
        licence=entry.licence,
        author=entry.author,
    )
