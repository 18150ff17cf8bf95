"""`upscale models` and `upscale weights list`: what can be named, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from upscale.cli.console import say
from upscale.models.catalogue import CatalogueModel, load_catalogue
from upscale.settings import Settings
from upscale.weights.known import load_manifest
from upscale.weights.store import Network, Store


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


def _model(model: CatalogueModel, networks: list[Network]) -> dict[str, Any]:
    network = model.choose(networks)
    known = (load_manifest().by_id(p.id) for p in model.networks if p.up_to is None)
    files = [k.file for k in known if k is not None]
    how = f"weights import {files[0]}" if files else f"weights import FILE --as {model.id}"
    return {
        "id": model.id,
        "name": model.name,
        "aliases": list(model.aliases),
        "factors": "its own" if model.scale.kind == "fixed" else model.scale.allowed,
        "default": None if model.scale.default is None else str(model.scale.default),
        "servable": network is not None,
        "network": network.name if network else None,
        "enable": None if network else f"upscale {how}",
        "known_files": files,
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
