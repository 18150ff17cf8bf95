"""The list of known files (`manifest.toml`): who made them, where they lie, what they serve.

Data only. Knows nothing of what is installed.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources


@dataclass(frozen=True)
class KnownFile:
    """A public file of weights. `id` is the network's name, `bytes` its size, `serves` models."""

    id: str
    file: str
    url: str
    bytes: int
    sha256: str
    scale: int
    licence: str
    author: str
    serves: tuple[str, ...]

    @property
    def described(self) -> str:
        """What a person must know before fetching it: name, address, size, licence."""
        return f"{self.file} ({self.url}, {self.bytes / 1e6:.1f} MB, {self.licence})"


@dataclass(frozen=True)
class Bundled:
    """The network that comes with the product."""

    id: str
    file: str
    licence: str
    author: str


@dataclass(frozen=True)
class Manifest:
    """All known files. `models` may be served, `aliases` are other names of theirs; `blends` maps a
    network to the one that is mixed into it.
    """

    files: tuple[KnownFile, ...]
    bundled: Bundled
    models: frozenset[str]
    aliases: frozenset[str]
    blends: dict[str, str]

    @property
    def reserved(self) -> frozenset[str]:
        """Names that no installed network may have."""
        return self.models | self.aliases | {self.bundled.id}

    def by_id(self, id: str) -> KnownFile | None:
        """The known file of that name."""
        return next((known for known in self.files if known.id == id), None)

    def by_sha256(self, sha256: str) -> KnownFile | None:
        """The known file of that content."""
        return next((known for known in self.files if known.sha256 == sha256), None)


@lru_cache(maxsize=1)
def load_manifest() -> Manifest:
    """The manifest that comes with the package."""
    text = resources.files("upscale.weights").joinpath("manifest.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return Manifest(
        files=tuple(
            KnownFile(**{**entry, "serves": tuple(entry["serves"])}) for entry in data["file"]
        ),
        bundled=Bundled(**data["bundled"]),
        models=frozenset(data["models"]),
        aliases=frozenset(data["aliases"]),
        blends={entry["network"]: entry["with"] for entry in data["blend"]},
    )
