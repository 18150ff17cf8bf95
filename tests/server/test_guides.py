"""The pages on keys and on jobs: every command and every line of Python on them runs, against a
server that asks for keys, but for the server's address and the ids.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.live import Live, serving, wait_for
from upscale.errors import QueueFull
from upscale.server.openapi.headers import ID
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8000"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(name), re.DOTALL)


def commands(name: str, program: str) -> list[str]:
    """The commands of a page that call `program`."""
    found = re.split(r"^\$ ", "".join(blocks(name, "console")), flags=re.MULTILINE)[1:]
    return [command for command in found if command.startswith(program)]


@pytest.fixture
def token(tmp_path: Path) -> str:
    """That of the key `scanner`, the server's first."""
    database = Database.of(Settings(data_dir=tmp_path))
    database.open()
    return KeyRing(database).create("scanner", spending_limit_micros=20_000_000)[1]


@pytest.fixture
def locked(tmp_path: Path, token: str) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path)) as live:
        live.client.headers["Authorization"] = f"Bearer {token}"
        live.engine.steps = 3
        yield live


def job_of(live: Live) -> str:
    """The id of a job that has ended."""
    made = live.edit({"model": "bundled-x4", "background": "true"})
    wait_for(lambda: bool(live.client.get(made.headers["location"]).json()["response"]))
    return made.headers["x-request-id"]


@pytest.mark.parametrize(("name", "count"), [("keys.md", 5), ("jobs.md", 6)])
def test_the_curl_commands(locked: Live, token: str, name: str, count: int) -> None:
    job, found = job_of(locked), commands(name, "curl")
    assert len(found) == count
    # The page on jobs leaves the key out, and says so.
    bearer = "" if name == "keys.md" else '-H "Authorization: Bearer $UPSCALE_KEY" '
    for command in found:
        line = command.replace("curl ", f"curl --silent --fail {bearer}", 1)
        line = line.replace(ADDRESS, locked.url).replace(ID, job)
        done = subprocess.run(
            ["sh", "-c", line],
            cwd=ROOT,
            env={**os.environ, "UPSCALE_KEY": token},
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout, line
    assert len(locked.engine.jobs) == (2 if name == "keys.md" else 3)


def test_the_commands_of_the_terminal(tmp_path: Path) -> None:
    found = commands("keys.md", "upscale")
    assert len(found) == 8
    for command in found:
        done = subprocess.run(
            [sys.executable, "-m", "upscale.cli", *shlex.split(command)[1:]],
            cwd=ROOT,
            env={**os.environ, "UPSCALE_DATA_DIR": str(tmp_path)},
            capture_output=True,
            timeout=120,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout, command
    database = Database.of(Settings(data_dir=tmp_path))
    database.open()
    keys = {key.name: key for key in KeyRing(database).list()}
    assert keys["scanner"].spending_limit_micros == 50_000_000
    assert keys["scanner"].megapixels_per_minute is None
    assert (keys["press"].priority, keys["press"].revoked is None) == (10, False)


def run(name: str, live: Live, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the Python of a page, as one script."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("UPSCALE_KEY", token)
    script = "".join(blocks(name, "python")).replace(ADDRESS, live.url)
    exec(script.replace('"none"', f'"{token}"'), {})


def test_the_python_of_the_page_on_keys(
    locked: Live, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("keys.md", locked, token, monkeypatch)
    assert "/media/" in capsys.readouterr().out
    locked.engine.failure = QueueFull("16 jobs are waiting.", retry_after=1)
    run("keys.md", locked, token, monkeypatch)
    assert "come back in 1 s (429)" in capsys.readouterr().out
    KeyRing(Database.of(locked.settings)).revoke("scanner")
    run("keys.md", locked, token, monkeypatch)
    assert "(401)" in capsys.readouterr().out


def test_the_python_of_the_page_on_jobs(
    locked: Live, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("jobs.md", locked, token, monkeypatch)
    link, *events, last = capsys.readouterr().out.splitlines()
    assert httpx.get(link).headers["content-type"] == "image/png"
    assert events
    assert events[-1].startswith('{"id":"req_')
    assert last == "completed"  # cancelled too late
    assert len(locked.engine.jobs) == 1


def test_the_json_of_the_pages_has_the_members_of_real_replies(locked: Live) -> None:
    job = job_of(locked)
    balance, purged, audit = (json.loads(block) for block in blocks("keys.md", "json"))
    real = locked.client.get("/v1/balance").json()
    assert (balance.keys(), balance["available"].keys()) == (real.keys(), real["available"].keys())
    assert purged.keys() == locked.client.delete(f"/v1/requests/{job}/payloads").json().keys()
    assert {"who", "what", "route", "sent_to"} <= audit.keys()
    [refusal] = (json.loads(block) for block in blocks("jobs.md", "json"))
    locked.engine.macs = 10**13
    late = locked.edit({"model": "bundled-x4"}, headers={"x-stainless-read-timeout": "600"})
    told, shown = late.json()["error"], refusal["error"]
    assert {**told, "message": ""} == {**shown, "message": ""}
    numbers = re.compile(r"\d+")
    assert numbers.sub("N", told["message"]) == numbers.sub("N", shown["message"])
