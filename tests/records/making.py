"""Short ways to records."""

from __future__ import annotations

import itertools
from typing import Any

from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival, Row

_number = itertools.count()
PATH = "/openai/v1/images/edits"


def arrived(log: RequestLog, **fields: Any) -> str:
    """The id of a new request."""
    request_id = fields.pop("id", None) or f"req_{next(_number):06d}"
    assert log.arrive(Arrival(request_id, PATH, **fields)) is None
    return request_id


def waiting(log: RequestLog, **fields: Any) -> str:
    """The id of a new background job."""
    return arrived(log, background=True, order="{}", source="source.png", **fields)


def read(log: RequestLog, request_id: str) -> Row:
    """A request that must be there."""
    row = log.get(request_id)
    assert row is not None
    return row
