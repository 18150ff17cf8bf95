"""Times as records hold them (milliseconds since 1970, UTC), and as people and clients write."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from upscale.errors import InvalidParameter

_SPAN = re.compile(r"(\d{1,6})\s*([smhdw])")
# A `+` that a query has unescaped arrives as a blank.
_BLANK_ZONE = re.compile(r"(.+[Tt ]\d{2}:?\d{2}.*) (\d{2}:?\d{2})")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799_999  # the end of the year 9999


def now_ms() -> int:
    """The time of the wall clock."""
    return time.time_ns() // 1_000_000


def iso(ms: int) -> str:
    """ISO 8601 with milliseconds: `2026-11-25T13:31:05.042Z`."""
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def read_time(field: str, text: str) -> int:
    """ISO 8601 (UTC where it names no zone) or Unix seconds. Raises InvalidParameter."""
    try:
        if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text):
            ms = round(float(text) * 1000)
        else:
            moment = datetime.fromisoformat(_BLANK_ZONE.sub(r"\1+\2", text))
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            ms = (zoned - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise InvalidParameter(
            field, text, "a date and time in ISO 8601, or Unix seconds"
        ) from error
    if not 0 <= ms <= _LAST:
        raise InvalidParameter(field, text, "a time from 1970 to the year 9999")
    return ms


def read_span(text: str) -> int | None:
    """Milliseconds of `30d`, `12h`, `90m`, `45s` or `2w`; None for any other text."""
    found = _SPAN.fullmatch(text.strip().lower())
    return int(found[1]) * _SECONDS[found[2]] * 1000 if found else None
