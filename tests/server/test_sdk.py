"""The OpenAI Python SDK against the server, as its users write it: the version of this environment,
and in the slow test the newest of each older line, in environments of their own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from tests.sdk import python_sdk
from tests.server.live import Live, png
from upscale.errors import QueueFull, ServerFault, UpscaleError

OLDER = ("2.54.0", "1.109.1")
ORDINARY = ("all_forms", "models", "errors", "chain", "at_once")
# What the engine fails with, and how often it is asked.
FAILURES: dict[str, tuple[UpscaleError | Exception, int]] = {
    "failing": (ServerFault("It failed."), 1),
    "busy": (QueueFull("The queue is full.", retry_after=1), 2),
}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    return path


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/openai/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("step", ORDINARY)
def test_the_newest_sdk(client: openai.OpenAI, image: Path, step: str) -> None:
    getattr(python_sdk, step)(client, image)


@pytest.mark.parametrize("step", list(FAILURES))
def test_a_failed_upscale_does_not_run_three_times(
    live: Live, client: openai.OpenAI, image: Path, step: str
) -> None:
    count_runs(live, step, lambda: getattr(python_sdk, step)(client, image))


def count_runs(live: Live, step: str, run: Callable[[], None]) -> None:
    live.engine.jobs.clear()
    live.engine.failure, times = FAILURES[step]
    run()
    live.engine.failure = None
    assert len(live.engine.jobs) == times


@pytest.fixture(scope="module", params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with an older SDK."""
    folder = tmp_path_factory.mktemp("sdk")
    make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(make, check=True, capture_output=True)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    install.append(f"openai=={request.param}")
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"openai {request.param} cannot be installed: {done.stderr.strip()[-200:]}")
    return python


@pytest.mark.slow
def test_older_sdks(live: Live, older: Path, image: Path) -> None:
    def run(*steps: str) -> None:
        script = str(Path(python_sdk.__file__))
        command = [str(older), script, live.url, str(image), *steps]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    run(*ORDINARY)
    for step in FAILURES:
        count_runs(live, step, lambda step=step: run(step))  # type: ignore[misc]
