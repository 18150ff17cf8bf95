"""What is remembered of an installed file: a small JSON file beside it.

Also the hashes of files that were pulled although nobody had published one: seen once, they are
held to it from then on, even after they were removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """Where an installed file came from. What is not known is '' or empty.

    `origin` is the name of the file that was installed, `url` the address that it was pulled from,
    `known` the id in the list of known files, `installed` a time in UTC.
    """

    sha256: str = ""
    origin: str = ""
    serves: tuple[str, ...] = ()
    installed: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    url: str = ""
    known: str = ""
    licence: str = ""
    author: str = ""
    architecture: str = ""
    scale: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, without what is not known."""
        kept = {key: value for key, value in asdict(self).items() if value}
        return {**kept, "serves": list(self.serves)}

    @classmethod
    def from_json(cls, data: object) -> Record:
        """The inverse of `to_json`; raises ValueError. Fields of later versions are ignored."""
        if not isinstance(data, dict):
            raise ValueError("it is not an object")
        serves = data.get("serves", [])
        if not isinstance(serves, list) or not all(isinstance(model, str) for model in serves):
            raise ValueError("its `serves` is no list of names")
        texts = ("sha256", "origin", "installed", "url", "known", "licence", "author")
        found = {key: data[key] for key in (*texts, "architecture") if key in data}
        if not all(isinstance(value, str) for value in found.values()):
            raise ValueError("it holds something else than text")
        scale = data.get("scale", 0)
        if not isinstance(scale, int):
            raise ValueError("its `scale` is no number")
        return cls(**{"installed": "", **found}, serves=tuple(serves), scale=scale)


def read_record(path: Path) -> Record | None:
    """The record in a file, None where there is none. Raises ValueError for a broken one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Record.from_json(json.loads(text))


def write_json(path: Path, data: object) -> None:
    """Write `data` to `path`, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=".upscale-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=1) + "\n")
        Path(scratch).chmod(0o644)
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


class FirstSeen:
    """Hashes noted on first use, by id, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, id: str) -> str | None:
        """The hash that the file called `id` had when it was first pulled."""
        noted = self._read().get(id)
        return noted if isinstance(noted, str) else None

    def note(self, id: str, sha256: str) -> None:
        """From now on, `id` is to have this hash. Raises OSError."""
        write_json(self._path, {**self._read(), id: sha256})

    def _read(self) -> dict[str, object]:
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(read, dict):
                return read
        return {}
