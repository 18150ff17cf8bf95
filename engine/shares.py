"""How much of something bounded one caller may hold, so that there is some left for others. Knows
nothing of what it is.
"""

from __future__ import annotations


def refusal(mine: int, all: int, limit: int, more: int = 1) -> str | None:
    """Why a caller who holds `mine` of `all` may not have `more`; None: he may.

    `limit` is for one caller; all together hold a third more, and at least one, so that whoever
    fills his own part leaves room for others. Who holds nothing, beside others who hold nothing,
    may have anything.
    """
    of_all = limit + max(1, limit // 3)
    if mine and mine + more > limit:
        return f"one caller may have no more than {limit:,}"
    if all and all + more > of_all:
        return f"all callers together may have no more than {of_all:,}"
    return None
