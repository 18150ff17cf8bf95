"""The short table of the README, put between its two marks from a run's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

START, END = "<!-- figures -->", "<!-- end of figures -->"


def update_readme(results: dict[str, Any], page: Path, readme: Path) -> None:
    """Replace what stands between the marks in `readme`; `page` is the full report."""
    text = readme.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    link = page.resolve().relative_to(readme.resolve().parent).as_posix()
    readme.write_text(f"{before}{START}\n{table(results, link)}\n{END}{after}", encoding="utf-8")


def table(results: dict[str, Any], link: str) -> str:
    """Seconds and peak of memory, file to file, with the machine they were measured on."""
    machine, side = results["machine"], results["side"]
    gpu = ", ".join(machine["gpu"]) or "no GPU"
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['flags'])}), {gpu}; "
        f"{results['checkpoint']}; PNG to PNG, medians of {results['rounds']} alternating rounds; "
        f"`{results['command']}`, {results['date']} ([all of it]({link})).\n",
        "| what | who | seconds | peak MB |",
        "|---|---|---|---|",
    ]
    what = f"{side} to {4 * side} pixels a side"
    for row in results["contenders"].values():
        if "skipped" not in row:
            lines.append(
                f"| {what} | {row['label']} ({row['precision']}) | {row['median']:.1f} | "
                f"{row['peak'] / 1e6:.0f} |"
            )
    for large in results["large"]:
        what = f"{large['side']} to {4 * large['side']} pixels a side"
        for how, who in (("command", "upscale, command line"), ("http", "upscale, HTTP")):
            one = large[how]
            lines.append(f"| {what} | {who} | {one['seconds']:.1f} | {one['peak'] / 1e6:.0f} |")
    overhead = 1000 * results["http"]["overhead"]
    lines.append(f"\nA request over HTTP costs {overhead:.0f} ms more than the work itself.")
    return "\n".join(lines)
