"""Runs all measurements and writes them down: `python -m benchmarks.run` (or `make bench`).

Every contender waits loaded in its own process; rounds go through all of them in turn, so that what
the machine does besides hits all alike. A first round, not counted, warms up and watches memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.checkpoint import provide_checkpoint
from benchmarks.contenders import CONTENDERS, PEERS
from benchmarks.likeness import psnr
from benchmarks.machine import machine_card
from benchmarks.picture import write_photograph
from benchmarks.processes import PEERS_PYTHON, ROOT, Warm, run_command, serving
from benchmarks.readme import update_readme
from benchmarks.report import write_report

RESULTS = Path(__file__).with_name("results")


def main() -> int:
    """Parse, measure, write."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="upscale-bench-", dir=options.folder) as name:
        results = measure(options, Path(name))
    words = [word for word in sys.argv[1:] if word != "--readme"]
    results["command"] = " ".join(["python -m benchmarks.run", *words])
    page = write_report(results, options.results)
    if options.readme:
        update_readme(results, page, ROOT / "README.md")
    print(page.read_text(encoding="utf-8"))
    print(f"Written to {page} and {page.with_suffix('.json')}")
    return 0


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures, as plain data. Times in seconds, memory in bytes, sides in pixels."""
    checkpoint, what = provide_checkpoint(folder / "weights")
    env = {
        **os.environ,
        "UPSCALE_DATA_DIR": str(folder / "data"),
        "UPSCALE_WEIGHTS_DIR": str(folder / "weights"),
        "UPSCALE_LOG_LEVEL": "warning",
    }
    _note("drawing pictures")
    sides = sorted({options.side, *options.large})
    pictures = {side: write_photograph(folder / f"{side}.png", side) for side in sides}
    results: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine_card(),
        "checkpoint": what,
        "side": options.side,
        "rounds": options.rounds,
    }
    results["contenders"] = _compare(options, checkpoint, pictures[options.side], folder, env)
    model = checkpoint.stem
    with serving(env) as server:
        results["http"] = _http(server, pictures[options.side], model, options.rounds)
        results["large"] = [
            _large(server, pictures[side], side, model, folder, env) for side in options.large
        ]
    return results


def _compare(
    options: argparse.Namespace,
    checkpoint: Path,
    picture: Path,
    folder: Path,
    env: Mapping[str, str],
) -> dict[str, Any]:
    began = time.perf_counter()
    Warm("ours", checkpoint, Path(sys.executable), env).close()
    rows: dict[str, Any] = {}
    warm: dict[str, Warm] = {}
    for name in options.contenders:
        row = rows[name] = {"label": CONTENDERS[name][0]}
        python = PEERS_PYTHON if name in PEERS else Path(sys.executable)
        if not python.exists():
            row["skipped"] = "not installed; `make bench-peers` does it"
            continue
        _note(f"starting {name}")
        contender = Warm(name, checkpoint, python, env)
        if contender.skipped:
            row["skipped"] = contender.skipped
            continue
        row |= {"startup": contender.startup, "times": []}
        if name == "ours":
            row["first_startup"] = time.perf_counter() - began
        warm[name] = contender
    for turn in range(options.rounds + 1):
        for name, contender in warm.items():
            target = folder / f"{name}.png"
            if turn == 0:
                rows[name]["warmup"], rows[name]["peak"] = contender.run_watched(picture, target)
            else:
                rows[name]["times"].append(contender.run(picture, target))
            _note(f"round {turn}: {name}")
    reference = folder / "ours-fp32.png"
    for name, contender in warm.items():
        contender.close()
        rows[name] |= contender.facts
        rows[name]["median"] = median(rows[name]["times"])
        rows[name]["bytes"] = (folder / f"{name}.png").stat().st_size
        if reference.exists():
            rows[name]["psnr"] = psnr(folder / f"{name}.png", reference)
    return rows


def _http(server: Any, picture: Path, model: str, rounds: int) -> dict[str, Any]:
    server.upscale(picture, model)
    outcomes = [server.upscale(picture, model) for _ in range(rounds)]
    _note("requests")
    return {
        "times": [o.seconds for o in outcomes],
        "median": median(o.seconds for o in outcomes),
        "overhead": median(o.seconds - o.engine_seconds for o in outcomes),
    }


def _large(
    server: Any, picture: Path, side: int, model: str, folder: Path, env: Mapping[str, str]
) -> dict[str, Any]:
    _note(f"{side} -> {4 * side}, command line")
    command = run_command(picture, folder / "large.png", model, env)
    _note(f"{side} -> {4 * side}, HTTP")
    request = server.upscale(picture, model, watched=True)
    return {
        "side": side,
        "command": vars(command),
        "http": vars(request),
    }


def _note(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="upscale bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--side", type=int, default=1024, help="input side of the comparison")
    parser.add_argument(
        "--large", type=int, nargs="*", default=[2048, 4096], help="input sides of large runs"
    )
    parser.add_argument(
        "--contenders", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS)
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the report")
    parser.add_argument("--readme", action="store_true", help="renew the README's table as well")
    parser.add_argument("--folder", type=Path, default=None, help="where to work (default: /tmp)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
