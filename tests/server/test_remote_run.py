"""A remote run by itself: what an earlier process has paid for is never lost sight of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.providers.tools import make_task
from upscale.errors import RecordsFault, UpstreamError
from upscale.providers.routes import Candidate
from upscale.providers.task import RemoteJob
from upscale.server.owed import Owed
from upscale.server.remote_run import Earlier, RemoteRun


class Broken:
    """Providers at which nothing can be gone on with."""

    async def go_on(self, _c: Any, job: RemoteJob, attempts: list[Any], _k: Any) -> None:
        attempts.append(
            {"provider": job.provider, "endpoint": job.endpoint, "job": job.id, "billed": "yes"}
        )
        raise UpstreamError("its file is gone.")

    def can_ask(self, job: RemoteJob) -> bool:
        return True

    def host_of(self, provider: str) -> str:
        return f"{provider}.test"

    def keeps_jobs(self, provider: str) -> bool:
        return True


def run_of(folder: Path, n: int, keep: Any = None, earlier: Earlier | None = None) -> RemoteRun:
    """A run of `n` results at such providers."""
    task = make_task(folder, "seedvr-image-upscale", "fal")
    plan = SimpleNamespace(wish=SimpleNamespace(n=n), prices={}, asked=())
    providers, unused = Broken(), None
    given: tuple[Any, ...] = (providers, unused, unused, plan, folder, keep)
    return RemoteRun(*given, (Candidate(task.route, task),), earlier=earlier or Earlier())


def test_a_call_for_a_later_result_is_still_owed_where_an_earlier_one_fails(tmp_path: Path) -> None:
    jobs = {
        0: RemoteJob("fal", "a/b", id="one", state="done", billed="yes"),
        1: RemoteJob("fal", "a/b", id="two", state="running"),
    }
    earlier = Earlier(Owed(jobs, {0: 5, 1: 5}, spent_micros=3), ("fal.test",), 100)
    run = run_of(tmp_path, 2, earlier=earlier)
    with pytest.raises(UpstreamError):
        asyncio.run(run.results())
    owed = Owed.from_json(run.facts["remote_job"])
    assert owed.jobs[1] == jobs[1]
    assert owed.spent_micros == 3
    assert run.facts["idempotency_kept"]


def test_a_call_that_could_not_be_recorded_is_none(tmp_path: Path) -> None:
    async def keep(_: dict[str, Any], must: bool) -> None:
        if must:
            raise RecordsFault("The database is locked.")

    run = run_of(tmp_path, 1, keep)
    with pytest.raises(RecordsFault):
        asyncio.run(run.note(RemoteJob("fal", "a/b", mark="m")))
    assert run.jobs[0].billed == "no"
    assert run.facts["remote_job"] is None
    assert not run.facts["idempotency_kept"]
