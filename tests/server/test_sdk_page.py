"""Every example of the page on clients runs as it stands, but for the server's address."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.live import Live
from tests.server.test_sdk_node import installed as installed

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sdks.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"


def blocks(language: str, live: Live) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) >= (1 if language == "console" else 3)
    return "".join(found).replace(ADDRESS, live.url)


def test_python(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(blocks("python", live), names)
    assert len(live.engine.jobs) == 2


def test_curl(live: Live) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not there")
    commands = re.split(r"^\$ ", blocks("console", live), flags=re.MULTILINE)[1:]
    assert len(commands) == 2
    for command in commands:
        run = ["sh", "-c", command.replace("curl ", "curl --silent --fail ")]
        subprocess.run(run, cwd=ROOT, check=True, capture_output=True)
    assert len(live.engine.jobs) == 1


@pytest.mark.slow
def test_node(live: Live, installed: Path) -> None:
    (installed / "page.mjs").write_text('import fs from "node:fs";\n' + blocks("js", live))
    shutil.copytree(ROOT / "examples", installed / "examples", dirs_exist_ok=True)
    run = ["node", "page.mjs"]
    done = subprocess.run(run, cwd=installed, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(live.engine.jobs) == 2
