"""Starting and stopping the server: addresses, ports, signals, what is imported."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import EDITS, check_error, png
from upscale.errors import InvalidRequest, OutputFault, ServerFault
from upscale.server.main import check_address, serve
from upscale.server.records.database import Database
from upscale.settings import Settings

# A server whose engine is the tests' fake one, which has no worker to wait for.
PROGRAM = """
import sys
from pathlib import Path
import asyncio
from upscale.server import app, main
from upscale.settings import Settings
from tests.server.fake import FakeEngine

class Slow(FakeEngine):
    async def make(self, job):
        print("begun", flush=True)
        await asyncio.sleep(float(sys.argv[3]))
        await super().make(job)

app.Engine = Slow
settings = Settings(port=0, data_dir=Path(sys.argv[1]), drain_seconds=float(sys.argv[2]))
main.serve(settings, ready=lambda url, _: print(url, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_is_served(host: str) -> None:
    check_address(Settings(host=host), keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_other_addresses_need_a_word(host: str) -> None:
    with pytest.raises(InvalidRequest, match="UPSCALE_ALLOW_ANONYMOUS"):
        check_address(Settings(host=host), keys=False)
    check_address(Settings(host=host, allow_anonymous=True), keys=False)
    check_address(Settings(host=host), keys=True)


def never(url: str, keys: bool) -> None:
    """Told by no server of these tests."""
    raise AssertionError(url)


def test_the_records_are_opened_once_and_closed_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    for name in ("_revision", "close"):
        real = getattr(Database, name)

        def noted(self: Database, real: Any = real, name: str = name) -> Any:
            counted.append(name)
            return real(self)

        monkeypatch.setattr(Database, name, noted)
    settings = Settings(data_dir=tmp_path)
    database = Database.of(settings)
    database.open()
    database.close()
    counted.clear()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFault):
            serve(settings.model_copy(update={"port": port}), never)
    assert counted == ["_revision", "close"]


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerFault, match=f"port {port}: address already in use") as caught:
            serve(Settings(port=port, data_dir=tmp_path), never)
    assert "\n" not in caught.value.message


def test_a_data_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFault, match="Cannot store"):
        serve(Settings(port=0, data_dir=tmp_path / "file"), never)


@pytest.mark.parametrize(
    ("number", "drain_seconds", "job_seconds", "status"),
    [(signal.SIGTERM, 10, 0.5, 200), (signal.SIGINT, 1, 60, 503)],
)
def test_a_signal_ends_it_once_jobs_are_done_or_time_is_up(
    tmp_path: Path, number: signal.Signals, drain_seconds: int, job_seconds: float, status: int
) -> None:
    with running(tmp_path, drain_seconds, job_seconds) as process, ThreadPoolExecutor(1) as thread:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        files = {"image": png()}
        answer = thread.submit(
            httpx.post, url + EDITS, data={"model": "bundled-x4"}, files=files, timeout=30
        )
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        reply = answer.result()
        if status == 503:
            check_error(reply, 503, "INTERNAL_ERROR")
        assert reply.status_code == status
        assert process.wait(10) == 0
        assert process.stdout.read() == "ended\n"
    assert list((tmp_path / "spool").iterdir()) == []


def running(folder: Path, drain_seconds: int, job_seconds: float) -> subprocess.Popen[str]:
    numbers = [str(drain_seconds), str(job_seconds)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), *numbers],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )


def test_the_server_loads_neither_torch_nor_what_decodes_pixels() -> None:
    code = (
        "import sys, upscale.server.main;"
        "names = ['torch', 'upscale.imaging.decode', 'upscale.imaging.sinks', 'pyvips'];"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
