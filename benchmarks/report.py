"""The report: a page of tables for people, and the same figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_report(results: dict[str, Any], folder: Path) -> Path:
    """Write `<date>-<processor>.md` and `.json` into `folder`; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [w for w in results["machine"]["cpu"].lower().split() if w.isalnum()]
    stem = "-".join([results["date"], *words[:3], f"{results['machine']['cores']}-cores"])
    page = folder / f"{stem}.md"
    page.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    page.write_text(render(results), encoding="utf-8")
    return page


def render(results: dict[str, Any]) -> str:
    """The page."""
    parts = [_head(results), _contenders(results), _http(results), _large(results)]
    return "\n".join(part for part in parts if part)


def _head(results: dict[str, Any]) -> str:
    machine = results["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in machine["packages"].items() if v != "absent")
    gpu = ", ".join(machine["gpu"]) or "no GPU"
    return f"""\
# Measured on {results["date"]}

- Machine: {machine["cpu"]}, {machine["cores"]} cores ({", ".join(machine["flags"])}), \
{machine["memory_gib"]} GiB, {gpu}; {machine["system"]}
- Python {machine["python"]}, {packages}; commit {machine["commit"]}
- Network: {results["checkpoint"]}
- Command: `{results["command"]}`
"""


def _contenders(results: dict[str, Any]) -> str:
    rows = results["contenders"]
    side, best = results["side"], rows.get("ours", {}).get("median")
    lines = [
        f"## {side} x {side} to {4 * side} x {4 * side}, PNG file to PNG file\n",
        f"Warm processes, medians of {results['rounds']} alternating rounds [least to most]. "
        "Memory is the peak of the summed PSS of the process tree, in a round of its own. "
        "PSNR is to our fp32 result.\n",
        "| contender | precision | seconds | times ours | peak MB | PSNR dB | PNG MB | start s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        if "skipped" in row:
            lines.append(f"| {row['label']} | | skipped: {row['skipped']} | | | | | |")
            continue
        ratio = f"{row['median'] / best:.2f}" if best else ""
        like = row.get("psnr")
        likeness = "" if "psnr" not in row else "equal" if like is None else f"{like:.1f}"
        cells = [
            row["label"],
            row["precision"],
            _span(row["times"], row["median"]),
            ratio,
            _mb(row["peak"]),
            likeness,
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['startup']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    first = rows.get("ours", {}).get("first_startup")
    if first:
        lines.append(
            f"\nOnce on a machine, a network's Contract and precisions are measured: {first:.1f} s "
            "with the start."
        )
    return "\n".join(lines) + "\n"


def _http(results: dict[str, Any]) -> str:
    facts = results.get("http")
    if not facts:
        return ""
    return (
        "## Through the server\n\n"
        f"The same picture: {_span(facts['times'], facts['median'])} s a request, of which "
        f"{1000 * facts['overhead']:.0f} ms are not the engine's (upload, checks, reply).\n"
    )


def _large(results: dict[str, Any]) -> str:
    if not results.get("large"):
        return ""
    lines = [
        "## Large pictures, PNG\n",
        "One run each; the command line with its start, the server warm. Peak of summed PSS.\n",
        "| result | command line s | peak MB | through HTTP s | peak MB |",
        "|---|---|---|---|---|",
    ]
    for row in results["large"]:
        command, http, side = row["command"], row["http"], 4 * row["side"]
        lines.append(
            f"| {side} x {side} | {command['seconds']:.1f} | {_mb(command['peak'])} | "
            f"{http['seconds']:.1f} | {_mb(http['peak'])} |"
        )
    return "\n".join(lines) + "\n"


def _span(times: list[float], middle: float) -> str:
    return f"{middle:.2f} [{min(times):.2f}-{max(times):.2f}]"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"
