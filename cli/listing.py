"""`upscale models` and `upscale weights list`: what can be named, as a table or as JSON."""

from __future__ import annotations

import json
from typing import Any

from upscale.cli.console import say
from upscale.settings import Settings
from upscale.weights.store import Network, Store


def print_networks(settings: Settings, *, as_json: bool) -> None:
    """The networks that this machine can run."""
    rows = [_network(n) for n in Store(settings.weights_folder).networks()]
    if as_json:
        say(json.dumps(rows, indent=2))
        return
    header = ("network", "serves", "licence", "author", "file")
    say(_table(header, [_cells(row) for row in rows]))


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


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their widest cell, the last one free."""
    every = [header, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]
    return "\n".join(lines)
