"""With UPSCALE_LOCAL_ONLY=1 nothing but this machine is reached, whatever is asked for: seen by
Python's own audit events, by the kernel's calls, and where there is no way out at all.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "tests.server.local_only"]

_ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def run(*prefix: str, folder: Path) -> dict[str, Any]:
    command = [*prefix, *PROGRAM, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def works(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    )


def is_of_this_machine(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1", "localhost")


def test_nothing_else_is_connected_to_or_looked_up(tmp_path: Path) -> None:
    reached = run(folder=tmp_path)["reached"]
    assert reached
    assert [address for address in reached if not is_of_this_machine(address)] == []


def test_all_of_it_works_where_there_is_no_way_out(tmp_path: Path) -> None:
    alone = ("unshare", "--map-root-user", "--net")
    if not works(*alone):
        pytest.skip("this machine makes no network namespaces")
    told = run(*alone, folder=tmp_path)
    assert told["cut_off"]
    assert [address for address in told["reached"] if not is_of_this_machine(address)] == []


@pytest.mark.slow
def test_the_kernel_is_asked_for_no_other_address(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    trace = ("strace", "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(calls))
    if not works(*trace):
        pytest.skip("strace is not there, or may not trace")
    run(*trace, folder=tmp_path / "data")
    lines = calls.read_text(errors="replace").splitlines()
    # The program's own look at whether there is a way out is its last; it sends nothing.
    probes = [line for line in lines if "sin_port=htons(9)" in line]
    found = [
        next(filter(None, match.groups()))
        for line in lines
        if line not in probes
        for match in _ADDRESS.finditer(line)
    ]
    assert len(probes) == 1
    assert found
    assert [address for address in found if not is_of_this_machine(address)] == []
