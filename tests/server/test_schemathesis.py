"""Requests made up from the served description: no 5xx, and no reply that it does not describe.

Ids of requests are now made up, now those of real ones.
`UPSCALE_TEST_EXAMPLES` of them for each operation; many more are for a machine that has the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.server.live import Live, wait_for

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from schemathesis import checks as _checks  # noqa: E402

from upscale.server import openapi  # noqa: E402

_EXAMPLES = int(os.environ.get("UPSCALE_TEST_EXAMPLES", "40"))
_CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance"]
_CHECKS += ["response_schema_conformance", "response_headers_conformance"]

schema = schemathesis.openapi.from_dict(openapi.document())
_known: Any = {each.__name__: each for each in _checks.CHECKS.get_all()}


@pytest.fixture(scope="module")
def ids(_shared: Live) -> Iterator[str]:
    """Ids of requests, over and over: served, refused, jobs with a link and with the file."""
    engine, client = _shared.engine, _shared.client

    def edit(**fields: str) -> str:
        return str(_shared.edit(fields).headers["x-request-id"])

    engine.reset()
    jobs = [edit(background="true"), edit(background="1", response_format="b64_json")]
    ended = [edit(), edit(scale_factor="99"), *jobs]
    for job in jobs:
        wait_for(lambda job=job: client.get(f"/v1/requests/{job}").json()["response"])  # type: ignore[misc]
    return cycle(ended)


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_route_answers_as_described(case: Any, live: Live, ids: Iterator[str]) -> None:
    real = next(ids)
    if "request_id" in case.path_parameters and len(case.path_parameters["request_id"]) % 2 == 0:
        case.path_parameters["request_id"] = real
    for cursor in ("starting_after", "ending_before"):
        if cursor in case.query and len(case.query) % 2:
            case.query[cursor] = real
    case.call_and_validate(base_url=live.url, checks=[_known[name] for name in _CHECKS])
