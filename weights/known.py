"""The list of known files (`manifest.toml`): who made them, where they lie, what they serve.

Data only. Knows nothing of what is installed.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Literal

Format = Literal["safetensors", "pth", "pt", "gguf", "json"]


@dataclass(frozen=True)
class KnownFile:
    """A public file of weights. What nobody knows is None.

    `id` is the network's name once installed, `bytes` its size, `serves` models of the catalogue.
    `page` is an address for people where no program can get it. `checked`: whether those who made
    the list have hashed the file themselves. `commercial`: whether the licence allows such use.
    A `part` belongs to the pipeline of the model `family` and is no network by itself.
    """

    id: str
    file: str | None = None
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    scale: int | None = None
    licence: str | None = None
    author: str | None = None
    serves: tuple[str, ...] = ()
    title: str | None = None
    kind: Literal["network", "part"] = "network"
    family: str | None = None
    role: str | None = None
    format: Format | None = None
    page: str | None = None
    sha256_prefix: str | None = None
    checked: bool = False
    architecture: str | None = None
    precision: str | None = None
    use: tuple[str, ...] = ()
    commercial: bool | None = None
    about: str | None = None
    source: str | None = None

    @property
    def is_part(self) -> bool:
        """Whether it is a piece of a pipeline rather than a network."""
        return self.kind == "part"

    @property
    def stored(self) -> str:
        """Its name in the store, in an export and on a mirror: `id` and the ending of its format.

        Networks are named by the endings that are loaded, so a `.pt` or `.pth.tar` is a `.pth`.
        """
        ending = self.format or PurePosixPath(self.file or "a.pth").suffix.removeprefix(".")
        return f"{self.id}.{'pth' if ending == 'pt' and not self.is_part else ending}"

    @property
    def needs_consent(self) -> bool:
        """Whether it is pulled only after its licence was accepted."""
        return self.commercial is not True

    @property
    def terms(self) -> str:
        """Its licence in words."""
        if self.licence is None:
            return "licence not stated"
        return f"{self.licence}, non-commercial" if self.commercial is False else self.licence

    @property
    def size(self) -> str:
        """Its size in words."""
        return "size unknown" if self.bytes is None else f"{self.bytes / 1e6:.1f} MB"

    @property
    def described(self) -> str:
        """What a person must know before fetching it: size, licence, author."""
        by = [f"by {self.author}"] if self.author else []
        return ", ".join([self.size, self.terms, *by])


@dataclass(frozen=True)
class Bundled:
    """The network that comes with the product."""

    id: str
    file: str
    scale: int
    architecture: str
    use: tuple[str, ...]
    licence: str
    author: str


@dataclass(frozen=True)
class Manifest:
    """All known files. `models` may be served, `aliases` are other names of theirs; `blends` maps a
    network to the one that is mixed into it, `sets` the name of a model to the files pulled for it.
    """

    files: tuple[KnownFile, ...]
    bundled: Bundled
    models: frozenset[str]
    aliases: frozenset[str]
    blends: dict[str, str]
    sets: dict[str, tuple[str, ...]]

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

    def find(self, name: str) -> KnownFile | None:
        """The known file that a person means: by id, title or file name, whatever its case and
        punctuation. None where nothing, or more than one, fits.
        """
        exact = self.by_id(name.lower())
        if exact is not None:
            return exact
        wanted = {_letters(name), _letters(_stem(name))} - {""}
        found = [known for known in self.files if wanted & _names(known)]
        return found[0] if len(found) == 1 else None

    def parts(self, model: str) -> tuple[KnownFile, ...]:
        """The pieces of the pipeline of a model of the catalogue."""
        return tuple(known for known in self.files if known.is_part and known.family == model)


@lru_cache(maxsize=1)
def load_manifest() -> Manifest:
    """The manifest that comes with the package."""
    text = resources.files("upscale.weights").joinpath("manifest.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return Manifest(
        files=tuple(_known(entry) for entry in data["file"]),
        bundled=Bundled(**{**data["bundled"], "use": tuple(data["bundled"]["use"])}),
        models=frozenset(data["models"]),
        aliases=frozenset(data["aliases"]),
        blends={entry["network"]: entry["with"] for entry in data["blend"]},
        sets={name: tuple(entry["files"]) for entry in data["set"] for name in entry["names"]},
    )


def _known(entry: dict[str, Any]) -> KnownFile:
    lists = {key: tuple(entry.get(key, ())) for key in ("serves", "use")}
    return KnownFile(**{**entry, **lists})


def _names(known: KnownFile) -> set[str]:
    """What people may call it, letters and digits only."""
    # Several publishers call their file `model` or `config`: that names nothing.
    own = _stem(known.file) if known.file and len(_stem(known.file)) > 6 else ""
    return {_letters(known.id), _letters(known.title or ""), _letters(own)} - {""}


def _stem(file: str) -> str:
    """The name of a file without its endings of known formats."""
    return re.sub(r"(\.(safetensors|pth|pt|ckpt|gguf|tar))+$", "", file, flags=re.IGNORECASE)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())
