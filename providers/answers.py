"""What the status of an answer to a paid create says: that the provider refused, that it failed, or
that nobody can tell what was done. Every status is judged here; knows no provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from upscale.providers.outcome import Kind

IDLE = frozenset({425, 429, 503})
"""The provider did nothing for now: what may be sent again."""

FAILED = frozenset({500, 502})
"""In the provider's own words, it failed before there was a job; from anybody else, it is unclear.
Where jobs can be asked for, its word is not taken before it was."""

REFUSED: Mapping[int, Kind] = MappingProxyType(
    {
        400: Kind.INPUT,
        401: Kind.KEY,
        402: Kind.BALANCE,
        403: Kind.KEY,
        404: Kind.GONE,
        405: Kind.BROKEN,
        410: Kind.GONE,
        411: Kind.BROKEN,
        412: Kind.BALANCE,
        413: Kind.INPUT,
        414: Kind.BROKEN,
        415: Kind.INPUT,
        417: Kind.BROKEN,
        421: Kind.BROKEN,
        422: Kind.INPUT,
        425: Kind.BUSY,
        426: Kind.BROKEN,
        428: Kind.BROKEN,
        429: Kind.BUSY,
        431: Kind.BROKEN,
        503: Kind.BROKEN,
    }
)
"""Nothing was done, and why. Documented by providers, or by HTTP itself (405, 411, 414 and others,
which are said of a request before anybody looks into it)."""


def kind_of(status: int, own: bool) -> Kind:
    """What kind of failure an answer is; `own`: its body is the provider's own words.

    What is in no list is in doubt: time-outs and conflicts (408, 409, 504), redirects, which may
    follow a deed (303), what proxies tell of the server behind them (520 to 530).
    """
    if own and status in FAILED:
        return Kind.BROKEN
    return REFUSED.get(status, Kind.IN_DOUBT)
