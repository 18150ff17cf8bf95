"""All good and broken pictures of the test data through a real server with a real worker."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests import corpora
from tests.server.live import EDITS, check_error, picture

PROGRAM = """
import sys
from pathlib import Path
from upscale import logs
from upscale.server.main import serve
from upscale.settings import Settings
folder = Path(sys.argv[1])
logs.setup("info")
serve(
    Settings(port=0, data_dir=folder / "data", weights_dir=folder / "weights", device="cpu"),
    ready=lambda url, _: print(url, flush=True),
)
"""

pytestmark = pytest.mark.slow

SECONDS = 10  # for a file, on a machine that does other things too
MORE_MB = 500  # of memory than after the first picture

# A line of our own log: nothing else may stand on standard error.
LINE = re.compile(r"\d\d:\d\d:\d\d (debug|info|warning|error) +\w+: .*")


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
def test_every_file_is_upscaled_or_refused_and_no_process_ends(tmp_path: Path) -> None:
    cases = corpora.cases()
    fields = {"model": corpora.tiny_network(tmp_path / "weights"), "scale_factor": corpora.SCALE}
    with _server(tmp_path) as (process, url), httpx.Client(base_url=url, timeout=120) as client:

        def edit(data: bytes) -> tuple[httpx.Response, float]:
            began = time.monotonic()
            reply = client.post(EDITS, data=fields, files={"image": data})
            return reply, time.monotonic() - began

        assert edit(picture())[0].status_code == 200
        before = _peaks(process)
        upscaled = 0
        for case in cases:
            reply, seconds = edit(case.path.read_bytes())
            assert seconds < SECONDS, case.name
            if reply.status_code == 200:
                result = tmp_path / "result"
                result.write_bytes(client.get(reply.json()["data"][0]["url"]).content)
                corpora.check_result(case, result)
                upscaled += 1
                continue
            assert reply.status_code in (400, 413), f"{case.name}: {reply.text}"
            message = check_error(reply, reply.status_code, param=reply.json()["error"]["param"])
            assert not case.must_work, f"{case.name}: {message}"
            assert len(message) > 20, case.name
            assert corpora.REFUSED.get(case.name, "") in message
        assert upscaled > len(cases) / 2
        after = _peaks(process)
        assert after.keys() == before.keys()  # the same processes: server, worker, helper
        assert all(after[pid] - before[pid] < MORE_MB for pid in before)
    log = (tmp_path / "log").read_text()
    assert [line for line in log.splitlines() if not LINE.fullmatch(line)] == []
    assert " error " not in log


@contextmanager
def _server(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    arguments = [sys.executable, "-c", PROGRAM, str(folder)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        yield psutil.Process(process.pid), process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def _peaks(root: psutil.Process) -> dict[int, int]:
    """The largest memory that each process of a tree ever had, in MB."""
    found = {}
    for process in (root, *root.children(recursive=True)):
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+)", status)
        found[process.pid] = int(peak[1]) // 1024 if peak else 0
    return found
