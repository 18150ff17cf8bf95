"""Processes under measurement: warm contenders on a pipe, a command from start to end, a server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.memory import PeakSampler

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


class Warm:
    """A contender in a process of its own. `skipped` says why it cannot run, else ''."""

    def __init__(self, name: str, checkpoint: Path, python: Path, env: Mapping[str, str]) -> None:
        began = time.perf_counter()
        self.name = name
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, checkpoint],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        hello = self._answer()
        self.startup = time.perf_counter() - began
        self.skipped = str(hello.get("skipped", ""))
        self.facts = {k: v for k, v in hello.items() if k in ("torch", "threads")}

    def run(self, source: Path, target: Path) -> float:
        """Seconds from file to file."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"source": str(source), "target": str(target)}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.facts["precision"] = answer["precision"]
        return float(answer["seconds"])

    def run_watched(self, source: Path, target: Path) -> tuple[float, int]:
        """Seconds and the peak of memory in bytes; asking for the memory costs a little time."""
        with PeakSampler(self._process.pid) as sampler:
            seconds = self.run(source, target)
        return seconds, sampler.peak

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"skipped": "its process ended"}
        return dict(json.loads(line))


@dataclass(frozen=True)
class Outcome:
    """Of one measured run: wall seconds, peak of memory in bytes, the receipt's seconds where one
    came."""

    seconds: float
    peak: int
    engine_seconds: float | None = None


def run_command(source: Path, target: Path, model: str, env: Mapping[str, str]) -> Outcome:
    """`upscale image` from its start to its end."""
    command = [sys.executable, "-m", "upscale.cli", "image", str(source), "-o", str(target)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "-m", model, "--overwrite", "--receipt"],
        env=dict(env),
        stdout=subprocess.DEVNULL,
    )
    with PeakSampler(process.pid) as sampler:
        code = process.wait()
    seconds = time.perf_counter() - began
    if code != 0:
        raise RuntimeError(f"upscale image ended with {code}")
    receipt = json.loads(target.with_name(target.name + ".json").read_text())
    return Outcome(seconds, sampler.peak, receipt["seconds"]["total"])


class Server:
    """A running `upscale serve` and a client of it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._client = httpx.Client(base_url=url, timeout=3600)

    def upscale(self, source: Path, model: str, *, watched: bool = False) -> Outcome:
        """One request that asks for a link; the link is not followed inside the time."""
        if not watched:
            return self._request(source, model)
        with PeakSampler(self._process.pid) as sampler:
            outcome = self._request(source, model)
        return Outcome(outcome.seconds, sampler.peak, outcome.engine_seconds)

    def _request(self, source: Path, model: str) -> Outcome:
        began = time.perf_counter()
        with source.open("rb") as file:
            reply = self._client.post(
                "/openai/v1/images/edits",
                files={"image": (source.name, file, "image/png")},
                data={"model": model, "scale_factor": "4", "output_format": "png"},
            )
        seconds = time.perf_counter() - began
        reply.raise_for_status()
        receipt = reply.json()["metadata"]["receipt"]
        return Outcome(seconds, 0, float(receipt["seconds"]["total"]))


@contextmanager
def serving(env: Mapping[str, str]) -> Iterator[Server]:
    """A server on a free port of the loopback, ready to work."""
    process = subprocess.Popen(
        [sys.executable, "-m", "upscale.cli", "serve", "--port", "0"],
        env={**env, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "http://" in line:
                address = line[line.index("http://") :].split()[0]
                yield Server(process, "/".join(address.split("/")[:3]))
                return
        raise RuntimeError("the server ended before it was ready")
    finally:
        process.terminate()
        process.wait()
