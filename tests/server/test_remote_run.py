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


def test_a_call_for_a_later_result_is_still_owed_where_an_earlier_one_fails(tmp_path: Path) -> None:
    jobs = {
        0: RemoteJob("fal", "a/b", id="one", state="done", billed="yes"),
        1: RemoteJob("fal", "a/b", id="two", state="running"),
    }
    earlier = Earlier(Owed(jobs, {0: 5, 1: 5}, spent_micros=3), ("fal.test",), 100)
    task = make_task(tmp_path, "seedvr-image-upscale", "fal")
    run = RemoteRun(
        Broken(),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        SimpleNamespace(wish=SimpleNamespace(n=2), prices={}, asked=()),  # type: ignore[arg-type]
        tmp_path,
        None,  # type: ignore[arg-type]
        earlier=earlier,
    )
    run.candidates = (Candidate(task.route, task),)
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

    task = make_task(tmp_path, "seedvr-image-upscale", "fal")
    run = RemoteRun(
        Broken(),  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        SimpleNamespace(wish=SimpleNamespace(n=1), prices={}, asked=()),  # type: ignore[arg-type]
        tmp_path,
        keep,
    )
    run.candidates = (Candidate(task.route, task),)
    with pytest.raises(RecordsFault):
        asyncio.run(run.note(RemoteJob("fal", "a/b", mark="m")))
    assert run.jobs[0].billed == "no"
    assert run.facts["remote_job"] is None
    assert not run.facts["idempotency_kept"]
