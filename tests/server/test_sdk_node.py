"""The OpenAI Node SDKs against the server; `tests/sdk/node` has what they do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sdk import python_sdk
from tests.server.live import Live, png
from tests.server.test_sdk import FAILURES, ORDINARY, count_runs

NODE = Path(python_sdk.__file__).parent / "node"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script beside the packages that the lock file names."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is not there")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "sdk.mjs"):
        shutil.copy(NODE / name, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--engine-strict=false"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed: {done.stderr.strip()[-300:]}")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("package", ["openai", "openai-6"])
def test_the_node_sdk(live: Live, installed: Path, tmp_path: Path, package: str) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(png())

    def run(*steps: str) -> None:
        command = ["node", "sdk.mjs", package, live.url, str(image), *steps]
        done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    run(*ORDINARY)
    for step in FAILURES:
        count_runs(live, step, lambda step=step: run(step))  # type: ignore[misc]


def test_the_lock_file_names_no_host() -> None:
    text = (NODE / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in text.replace("https://github.com/sponsors", "")
    assert '"integrity"' in text
