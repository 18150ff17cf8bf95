"""Whether installed files are still what was installed: each is hashed anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscale.weights.hashes import hash_file
from upscale.weights.known import load_manifest
from upscale.weights.records import Record
from upscale.weights.store import Store, installed_name


@dataclass(frozen=True)
class Finding:
    """What came of one file. `expected` is the hash that it should have, '' where none is known:
    it is then `unrecorded`, having been dropped in by hand.
    """

    name: str
    path: Path
    state: Literal["ok", "unrecorded", "changed", "unreadable"]
    sha256: str = ""
    expected: str = ""
    reason: str = ""

    @property
    def bad(self) -> bool:
        """Whether something is wrong with it."""
        return self.state in ("changed", "unreadable")


def verify(store: Store, names: list[str]) -> Iterator[Finding]:
    """Hash the installed files called `names`, or all, one after the other.

    Raises ModelNotFound for a name that is not installed, before any work.
    """
    files = store.files_by_name()
    files |= {network.name: network.path for network in store.networks() if network.bundled}
    wanted = list(files)
    if names:
        wanted = [installed_name(name, files) for name in names]
    return (_finding(store, name, files[name]) for name in wanted)


def _finding(store: Store, name: str, path: Path) -> Finding:
    try:
        sha256 = hash_file(path)
        record = store.record_of(path) if path.is_relative_to(store.folder) else _packed(path)
    except (OSError, ValueError, KeyError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        return Finding(name, path, "unreadable", reason=reason)
    known = load_manifest().by_id(record.known) if record else None
    expected = (known.sha256 if known else None) or (record.sha256 if record else "")
    if not expected:
        state: Literal["ok", "unrecorded"] = "unrecorded"
        if load_manifest().by_sha256(sha256) is not None:
            state = "ok"
        return Finding(name, path, state, sha256)
    return Finding(name, path, "ok" if sha256 == expected else "changed", sha256, expected)


def _packed(path: Path) -> Record | None:
    """What the product says of the network that comes with it."""
    data = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Record(sha256=str(data["sha256"]))
