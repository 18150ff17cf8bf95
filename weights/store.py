"""Networks installed on this machine: a folder of checkpoints with a record beside each.

Registers, finds and removes them; recognises known files by their hash; finds files that were
merely dropped in. Never loads a network: whether a file can be used is decided before it is
registered, or when it first runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from upscale import logs
from upscale.errors import CheckpointError, InvalidParameter, ModelNotFound
from upscale.weights.hashes import HashIndex, hash_file
from upscale.weights.known import load_manifest

log = logs.get("weights")

SUFFIXES = (".safetensors", ".pth", ".ckpt")

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


class Store:
    """The folder `folder`, which need not exist yet. Safe to use from several processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        self, file: Path, *, name: str | None, serves: str | None, replace: bool
    ) -> Network:
        """Copy `file` into the store, under `name` or one made from the file's; returns it.

        The copy appears whole or not at all. Registering the same content again only renews the
        record. Raises InvalidParameter for a name that cannot be used, CheckpointError when the
        file cannot be read or another of that name is there and `replace` is False.
        """
        name = _wanted_name(file, name, serves)
        earlier = self._installed().get(name)
        target = self._folder / f"{name}{file.suffix.lower()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            scratch, sha256 = self._copy(file)
        except OSError as fault:
            raise CheckpointError(f"{file.name}: {fault.strerror or fault}.") from fault
        try:
            if earlier is not None and earlier.sha256 != sha256 and not replace:
                raise _taken(name)
            # A record that does not fit the file would be worse than none, should we be cut off.
            if earlier is not None and earlier.sha256 != sha256:
                self._record_path(name).unlink(missing_ok=True)
            os.replace(scratch, target)
            if earlier is not None and earlier.path != target:
                earlier.path.unlink(missing_ok=True)
            self._write_record(name, sha256, origin=file.name, serves=serves)
        except OSError as fault:
            raise CheckpointError(f"{target}: {fault.strerror or fault}.") from fault
        finally:
            scratch.unlink(missing_ok=True)
        found = self.find(name)
        if found is None:
            raise CheckpointError(f"'{name}' was written and is not there any more.")
        return found

    def remove(self, name: str) -> None:
        """Remove an installed network with its record.

        Raises ModelNotFound for an unknown name, InvalidParameter for the bundled network.
        """
        network = self.find(name)
        if network is None:
            raise ModelNotFound(name)
        if network.bundled:
            raise InvalidParameter("name", name, "an installed network, not the bundled one")
        network.path.unlink(missing_ok=True)
        self._record_path(network.name).unlink(missing_ok=True)

    def _installed(self) -> dict[str, Network]:
        found: dict[str, Network] = {}
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._hashes:
            for path in sorted(self._folder.iterdir()):
                if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                    continue
                network = self._read(path)
                if network is None:
                    continue
                if network.name in found:
                    log.warning("two files of one name", extra=logs.fields(ignored=path.name))
                    continue
                found[network.name] = network
        return found

    def _read(self, path: Path) -> Network | None:
        """The network of one file; None, with a warning, where there is something wrong with it."""
        try:
            name = checked_name(name_from(path.stem))
            sha256 = self._hashes.of(path)
            record = self._record(name)
        except (OSError, ValueError, InvalidParameter) as fault:
            log.warning("network skipped", extra=logs.fields(file=path.name, reason=str(fault)))
            return None
        if record.get("sha256", sha256) != sha256:
            log.warning(
                "network skipped",
                extra=logs.fields(file=path.name, reason="its content is not what was installed"),
            )
            return None
        manifest = load_manifest()
        known = manifest.by_sha256(sha256)
        serves = list(record.get("serves", ()))
        serves += [model for model in (known.serves if known else ()) if model not in serves]
        return Network(
            name=name,
            path=path,
            sha256=sha256,
            bundled=False,
            serves=tuple(serves),
            licence=known.licence if known else "",
            author=known.author if known else "",
        )

    def _record(self, name: str) -> dict[str, Any]:
        try:
            text = self._record_path(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        record = json.loads(text)
        if not isinstance(record, dict) or not isinstance(record.get("serves", []), list):
            raise ValueError(f"the record {name}.json is not one")
        return record

    def _write_record(self, name: str, sha256: str, *, origin: str, serves: str | None) -> None:
        with contextlib.suppress(ValueError):
            before = self._record(name) if serves is None else {}
            if before.get("sha256") == sha256:
                return
        record = {
            "sha256": sha256,
            "origin": origin,
            "serves": [serves] if serves else [],
            "installed": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        scratch = self._record_path(name).with_name(f".{name}.json.part")
        scratch.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(scratch, self._record_path(name))

    def _record_path(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _copy(self, file: Path) -> tuple[Path, str]:
        """A whole copy under a scratch name in the folder, and the hash of what it holds."""
        handle, name = tempfile.mkstemp(prefix=".upscale-", suffix=".part", dir=self._folder)
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
                raise CheckpointError(f"{file.name}: its copy in {self._folder} differs from it.")
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


def _wanted_name(file: Path, name: str | None, serves: str | None) -> str:
    """What to call `file`, its ending and the model that it serves being fine."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise CheckpointError(
            f"{file.name}: a checkpoint ends in {', '.join(SUFFIXES)}, not in '{suffix}'."
        )
    name = checked_name(name if name is not None else name_from(file.stem))
    models = load_manifest().models
    if serves is not None and serves not in models:
        raise InvalidParameter("serves", serves, ", ".join(sorted(models)))
    return name


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


def known_id(network: Network) -> str:
    """Which known file it is, by content or else by name; its own name where it is none."""
    known = load_manifest().by_sha256(network.sha256)
    return known.id if known else network.name


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
