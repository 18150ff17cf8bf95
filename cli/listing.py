"""`upscale models`, `upscale weights list` and `info`: what can be named and what can be had, as
text or as JSON.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from upscale.cli.console import say
from upscale.errors import ModelNotFound
from upscale.models.catalogue import CatalogueModel, load_catalogue
from upscale.models.facts import FactsCache
from upscale.server.choosing import how_to_install, pull_command, pull_for
from upscale.settings import Settings
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.records import Record
from upscale.weights.store import Network, Part, Store, known_id


@dataclass(frozen=True)
class Filters:
    """What `weights list` shows; empty ones let everything pass."""

    words: tuple[str, ...] = ()
    use: str | None = None
    licence: str | None = None
    scale: int | None = None
    state: str | None = None

    def pass_(self, row: dict[str, Any]) -> bool:
        """Whether a row is shown: all filters must fit, words anywhere in what is known of it."""
        facts = [row["name"], row["title"], row["author"], row["licence"], row["architecture"]]
        text = " ".join(str(f) for f in [*facts, *row["use"], *row["serves"], row["about"]] if f)
        return (
            all(word.lower() in text.lower() for word in self.words)
            and (self.use is None or any(self.use.lower() in use for use in row["use"]))
            and (self.licence is None or self.licence.lower() in _terms(row).lower())
            and (self.scale is None or row["scale"] == self.scale)
            and (self.state is None or (row["state"] == "available") == (self.state == "available"))
        )


def print_weights(settings: Settings, filters: Filters, *, as_json: bool) -> None:
    """Installed files, the bundled network, and known files that can be pulled."""
    rows = [row for row in _rows(settings) if filters.pass_(row)]
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    if not rows:
        say("Nothing fits.")
        return
    header = ("name", "x", "state", "size", "licence", "author", "for")
    say(_table(header, [_weights_cells(row) for row in rows]))
    if any(row["state"] == "available" for row in rows):
        say("\nPull one: upscale weights pull NAME; more about it: upscale weights info NAME")


def print_info(settings: Settings, name: str, *, as_json: bool) -> None:
    """All that is known of one file, installed or not. Raises ModelNotFound."""
    known = load_manifest().find(name)
    wanted = {name.lower(), known.id if known else ""}
    row = next((row for row in _rows(settings) if row["name"] in wanted), None)
    if row is None:
        names = [known.id for known in load_manifest().files]
        raise ModelNotFound(name, load_catalogue().suggest(name, names))
    if row["sha256"] and row["state"] != "available" and row["kind"] == "network":
        facts = FactsCache(settings.cache_folder / "networks").load(row["sha256"])
        row["measured"] = facts.contract.to_json() if facts else None
    if as_json:
        say(json.dumps(row, indent=2))
        return
    for key, value in row.items():
        shown = _shown(key, value)
        if shown:
            say(f"{key.replace('_', ' ') + ':':14}{shown}")
    if row["state"] == "available":
        say(f"\n{row['install']}")


def print_networks(settings: Settings, *, as_json: bool) -> None:
    """The networks that this machine can run."""
    rows = [_network(n) for n in Store(settings.weights_folder).networks()]
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    header = ("network", "serves", "licence", "author", "file")
    say(_table(header, [_cells(row) for row in rows]))


def print_models(settings: Settings, *, as_json: bool) -> None:
    """The models of the catalogue with what serves each here, then the networks."""
    networks = Store(settings.weights_folder).networks()
    rows = [_model(model, networks) for model in load_catalogue().models]
    if as_json:
        own = [_network(n) for n in networks]
        say(json.dumps({"models": rows, "networks": own}, indent=2))
        return
    header = ("model", "factors", "served by")
    cells = [(row["id"], row["factors"], row["network"] or f"- ({row['enable']})") for row in rows]
    say(_table(header, cells))
    say("")
    print_networks(settings, as_json=False)


def _rows(settings: Settings) -> list[dict[str, Any]]:
    """Bundled and installed ones first, then what is not."""
    store, manifest = Store(settings.weights_folder), load_manifest()
    networks, parts = store.networks(), store.parts()
    rows = [_installed_row(store, network) for network in networks]
    rows += [_part_row(part) for part in parts]
    there = {known_id(network) for network in networks} | {part.known.id for part in parts}
    rows += [_known_row(known) for known in manifest.files if known.id not in there]
    return rows


def _known_row(known: KnownFile) -> dict[str, Any]:
    """A known file that is not installed."""
    install = pull_command(known)
    if known.url is None:
        install = "upscale weights import FILE" + (f" (from {known.page})" if known.page else "")
    return {
        "name": known.id,
        "state": "available",
        "kind": known.kind,
        "title": known.title,
        "about": known.about,
        "scale": known.scale,
        "architecture": known.architecture,
        "use": list(known.use),
        "bytes": known.bytes,
        "licence": known.licence,
        "commercial": known.commercial,
        "author": known.author,
        "serves": list(known.serves),
        "family": known.family,
        "role": known.role,
        "precision": known.precision,
        "sha256": known.sha256,
        "hash": "checked" if known.checked else "unverified" if known.sha256 else "unknown",
        "source": known.source,
        "file": known.file,
        "url": known.url,
        "page": known.page,
        "path": None,
        "bundled": False,
        "denoise": known.id in load_manifest().blends,
        "install": install,
    }


def _installed_row(store: Store, network: Network) -> dict[str, Any]:
    known = load_manifest().by_id(known_id(network))
    record = Record()
    if not network.bundled:
        with contextlib.suppress(OSError, ValueError):  # removed or broken since it was listed
            record = store.record_of(network.path) or record
    row = _known_row(known or _unlisted(network))
    matches = known is not None and known.sha256 == network.sha256
    row |= _network(network)
    row |= {
        "state": "bundled" if network.bundled else "installed",
        "bytes": _size(network),
        "scale": row["scale"] or record.scale or None,
        "architecture": row["architecture"] or record.architecture or None,
        "licence": network.licence or None,
        "author": network.author or None,
        "url": record.url or row["url"],
        "hash": row["hash"] if matches else "recorded here",
        "install": None,
    }
    return row


def _unlisted(network: Network) -> KnownFile:
    """A network that is not among the known files, as one of them."""
    bundled = load_manifest().bundled
    if not network.bundled:
        return KnownFile(network.name)
    return KnownFile(
        bundled.id,
        scale=bundled.scale,
        architecture=bundled.architecture,
        use=bundled.use,
        commercial=True,
    )


def _part_row(part: Part) -> dict[str, Any]:
    row = _known_row(part.known)
    matches = part.known.sha256 == part.sha256
    return row | {
        "state": "installed",
        "bytes": part.path.stat().st_size if part.path.exists() else part.known.bytes,
        "sha256": part.sha256,
        "path": str(part.path),
        "hash": row["hash"] if matches else "recorded here",
        "install": None,
    }


def _size(network: Network) -> int | None:
    try:
        return network.path.stat().st_size
    except OSError:
        return None


def _weights_cells(row: dict[str, Any]) -> tuple[str, ...]:
    size = "-" if row["bytes"] is None else f"{row['bytes'] / 1e6:.1f} MB"
    use = ", ".join(row["use"])
    if row["kind"] == "part":
        use = f"{row['role']} of {row['family']}"
    scale = "-" if row["scale"] is None else str(row["scale"])
    state = row["state"]
    if state == "available" and row["url"] is None:
        state = "by hand"
    return row["name"], scale, state, size, _terms(row), row["author"] or "unknown", use


def _terms(row: dict[str, Any]) -> str:
    licence = row["licence"] or "unstated"
    return f"{licence} (non-commercial)" if row["commercial"] is False else licence


def _shown(key: str, value: Any) -> str:
    """A fact in words; '' for what is not known or goes without saying."""
    if key == "install" or value is None or value == []:
        return ""
    if key == "bytes":
        return f"{value:,}"
    if key == "commercial":
        return "use allowed" if value else "use NOT allowed"
    if key == "hash":
        return {
            "checked": "checked by those who made this list",
            "unverified": "as the source records it, not checked by those who made this list",
            "unknown": "none published; recorded when it is first pulled, and checked from then on",
            "recorded here": "recorded when it was installed",
        }[value]
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in value.items() if v is not None)
    return str(value)


def _model(model: CatalogueModel, networks: list[Network]) -> dict[str, Any]:
    network, best = model.choose(networks), pull_for(model)
    known = (load_manifest().by_id(p.id) for p in model.networks if p.up_to is None)
    return {
        "id": model.id,
        "name": model.name,
        "aliases": list(model.aliases),
        "factors": "its own" if model.scale.kind == "fixed" else model.scale.allowed,
        "default": None if model.scale.default is None else str(model.scale.default),
        "servable": network is not None,
        "network": network.name if network else None,
        "enable": None if network else how_to_install(model),
        "pull": best.id if best else None,
        "known_files": [k.file for k in known if k is not None],
        "parameters": [parameter.name for parameter in model.parameters],
    }


def _network(network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "bundled": network.bundled,
        "serves": list(network.serves),
        "licence": network.licence,
        "author": network.author,
        "sha256": network.sha256,
        "path": str(network.path),
        "denoise": network.blend_path is not None,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    where = "bundled" if row["bundled"] else row["path"]
    serves = ", ".join(row["serves"]) or "-"
    return row["name"], serves, row["licence"] or "unknown", row["author"] or "unknown", where


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell, the last one free."""
    every = [header, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]
    return "\n".join(lines)
