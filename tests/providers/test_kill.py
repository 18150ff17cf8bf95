"""A process that is killed in the middle of a paid call: from its notes alone the job is found, or
its doubt is on record; nothing is paid twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.providers.rig import Rig
from tests.providers.stubs.base import Stub
from upscale.providers.outcome import Failure, Kind
from upscale.providers.task import RemoteJob

ROOT = Path(__file__).resolve().parents[2]

MOMENTS: dict[str, Callable[[Stub], bool]] = {
    "before the reply": lambda stub: stub.paid > 0,
    "while it runs": lambda stub: stub.calls["status"] > 2,
    "while the result comes": lambda stub: stub.calls["file"] > 0,
}


def killed(rig: Rig, moment: Callable[[Stub], bool]) -> RemoteJob | None:
    """Run the program, kill it at the moment; what it noted last."""
    done = subprocess.Popen(
        [sys.executable, "-m", "tests.providers.program", rig.provider, rig.stub.url, rig.folder],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert done.stdout is not None
        assert done.stdout.readline() == "ready\n"
        until = time.monotonic() + 20
        while not moment(rig.stub) and done.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.001)
    finally:
        os.kill(done.pid, signal.SIGKILL)
        done.wait()
    notes = rig.folder / "notes"
    lines = notes.read_text().splitlines() if notes.exists() else []
    return RemoteJob.from_json(json.loads(lines[-1])) if lines else None


@pytest.mark.parametrize("provider", ["fal", "replicate", "topaz"])
@pytest.mark.parametrize("moment", sorted(MOMENTS))
def test_a_killed_job_is_gone_on_with(
    provider: str, moment: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    rig.stub.fault = "slow_reply" if moment == "before the reply" else ""
    rig.stub.polls = 400 if moment == "while it runs" else 2
    job = killed(rig, MOMENTS[moment])
    assert job is not None
    assert job.state == ("sending" if moment == "before the reply" else job.state)
    rig.stub.fault, rig.stub.polls = "", 2
    result = rig.ask(lambda adapter: adapter.resume(rig.task(), job))
    assert result.job.id == next(iter(rig.stub.jobs))
    assert rig.stub.paid == 1


@pytest.mark.parametrize("provider", ["recraft", "vertex", "lumenfall"])
def test_what_cannot_be_asked_is_on_record_as_in_doubt(
    provider: str, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    rig.stub.fault = "slow_reply"
    job = killed(rig, MOMENTS["before the reply"])
    assert job is not None
    assert (job.state, job.billed) == ("sending", "maybe")
    with pytest.raises(Failure) as caught:
        rig.ask(lambda adapter: adapter.resume(rig.task(), job))
    assert (caught.value.kind, caught.value.billed) == (Kind.IN_DOUBT, "maybe")
    assert rig.stub.paid == 1
