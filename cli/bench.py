"""`upscale bench`: hands over to the benchmarks of the repository, which no installed copy has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import upscale
from upscale.errors import InvalidRequest


def run_benchmarks(arguments: list[str]) -> int:
    """Run `python -m benchmarks.run`; returns its exit code."""
    root = Path(upscale.__file__).resolve().parents[1]
    if not (root / "benchmarks" / "run.py").is_file():
        raise InvalidRequest("The benchmarks come with a checkout of the repository only.")
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
    return subprocess.run(command, cwd=root, check=False).returncode
