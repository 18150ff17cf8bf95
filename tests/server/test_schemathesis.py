"""Requests made up from the served description: no 5xx, and no reply that it does not describe.

`UPSCALE_TEST_EXAMPLES` of them for each operation; many more are for a machine that has the time.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.server.live import Live

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

from schemathesis import checks as _checks  # noqa: E402

from upscale.server import openapi  # noqa: E402

_EXAMPLES = int(os.environ.get("UPSCALE_TEST_EXAMPLES", "40"))
_CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance"]
_CHECKS += ["response_schema_conformance", "response_headers_conformance"]

schema = schemathesis.openapi.from_dict(openapi.document())
_known: Any = {each.__name__: each for each in _checks.CHECKS.get_all()}


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
def test_every_route_answers_as_described(case: Any, live: Live) -> None:
    case.call_and_validate(base_url=live.url, checks=[_known[name] for name in _CHECKS])
