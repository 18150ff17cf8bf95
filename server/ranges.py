"""What a GET of something that never changes gets: all of it, a part, or word that it is known.

Pure: from the request's headers and the thing's size, tag and time to status and span (RFC 9110,
sections 13 and 14). Knows nothing of files. A Range that is malformed or asks for several parts is
ignored, as the standard allows; so is a date that is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r'(W/)?("[^"]*")')


@dataclass(frozen=True)
class Answer:
    """`status` 200, 206, 304, 412 or 416; the bytes to send: `start` up to `stop` (excluded)."""

    status: int
    start: int = 0
    stop: int = 0


def answer(
    headers: Mapping[str, str], size: int, tag: str, modified: float, *, ranges: bool = True
) -> Answer:
    """Decide. `tag` is the strong ETag with its quotes, `modified` in Unix seconds.

    `headers` are looked up by lower-case names, lines of one name joined by commas. Without
    `ranges` a Range counts for nothing, as for HEAD (RFC 9110, 14.2). The order of the conditions
    is that of 13.2.2.
    """
    if not _is_the_one(headers, tag, modified):
        return Answer(412)
    if _is_known(headers, tag, modified):
        return Answer(304)
    span = _span(headers.get("range", ""), size) if ranges else None
    if span is None or not _still_the_same(headers.get("if-range"), tag, modified):
        return Answer(200, 0, size)
    start, stop = span
    return Answer(206, start, stop) if start < stop else Answer(416)


def http_date(seconds: float) -> str:
    """Unix seconds as in Last-Modified."""
    return formatdate(int(seconds), usegmt=True)


def _is_the_one(headers: Mapping[str, str], tag: str, modified: float) -> bool:
    """Whether If-Match or, without it, If-Unmodified-Since lets the request go on."""
    wanted = headers.get("if-match")
    if wanted is not None:
        # A weak tag is never the same as a strong one here (8.8.3.2).
        strong = (match[2] for match in _TAG.finditer(wanted) if not match[1])
        return wanted.strip() == "*" or tag in strong
    since = _seconds(headers.get("if-unmodified-since", ""))
    return since is None or int(modified) <= since


def _is_known(headers: Mapping[str, str], tag: str, modified: float) -> bool:
    known = headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or tag in (match[2] for match in _TAG.finditer(known))
    since = _seconds(headers.get("if-modified-since", ""))
    return since is not None and int(modified) <= since


def _still_the_same(condition: str | None, tag: str, modified: float) -> bool:
    if condition is None:
        return True
    return condition.strip() in (tag, http_date(modified))


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last; an empty span where none of it exists."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        return max(0, size - int(match[2])), size
    start = int(match[1])
    if match[2] == "":
        return start, size
    last = int(match[2])
    return None if last < start else (start, min(last + 1, size))


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
