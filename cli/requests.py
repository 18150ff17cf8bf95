"""`upscale requests`: what the server was asked, by whom, and what left the house."""

from __future__ import annotations

import json as jsons
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli.console import say
from upscale.cli.database import Json, dollars, local_time, records, show_table
from upscale.errors import InvalidParameter

if TYPE_CHECKING:
    from upscale.server.records.paging import Chosen
    from upscale.server.records.requests import RequestLog
    from upscale.server.records.rows import Row

_STATES = "pending, processing, completed, upstream_failure, rejected or cancelled"


def requests(
    key: Annotated[str | None, typer.Option(help="Of one key, by name or id.")] = None,
    status: Annotated[str | None, typer.Option(help=f"{_STATES}.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="24h, 7d, or a date (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    json: Json = False,
) -> None:
    """List the requests that the server has had, the newest first."""
    from upscale.server.records.keys import KeyRing
    from upscale.server.records.paging import Chosen
    from upscale.server.records.requests import RequestLog
    from upscale.server.records.rows import ENDED, UNFINISHED

    if status is not None and status not in (*UNFINISHED, *ENDED):
        raise InvalidParameter("--status", status, _STATES)
    with records() as database:
        ring, log = KeyRing(database), RequestLog(database)
        chosen = Chosen(
            key_id=None if key is None else ring.get(key).id,
            status=status,
            created_after=None if since is None else _moment(since),
        )
        rows = _read(log, chosen, limit)
        sums = log.summary(chosen)
        names = {one.id: one.name for one in ring.list()}
    if json:
        say(jsons.dumps([_shown(row) for row in rows], indent=2))
    elif not rows:
        say("There are no such requests.")
    else:
        columns = ("time", "id", "key", "model", "status", ">cost", ">seconds", "sent to", "error")
        show_table(columns, [_cells(row, names) for row in rows])
        counted = ", ".join(f"{count} {name}" for name, count in sums.statuses.items() if count)
        more = "" if sums.requests == len(rows) else f"; the newest {len(rows)} are shown"
        say(f"{counted}; {dollars(sums.cost_micros)}{more}.")


def _moment(text: str) -> int:
    from upscale.server.records.times import now_ms, read_span, read_time

    span = read_span(text)
    return read_time("--since", text) - 1 if span is None else now_ms() - span


def _read(log: RequestLog, chosen: Chosen, limit: int) -> list[Row]:
    """The first `limit` requests, page by page."""
    from upscale.server.records.paging import MOST

    rows: list[Row] = []
    while len(rows) < limit:
        cursor = rows[-1].id if rows else None
        page = log.page(chosen, limit=min(MOST, limit - len(rows)), starting_after=cursor)
        rows += page.rows
        if not page.older:
            break
    return rows


def _shown(row: Row) -> dict[str, Any]:
    """As the API shows it, and what only the operator may know; no link, no body, no hook."""
    from upscale.server.records.rows import remote_facts, to_public

    return to_public(row) | {
        "executed_model": row.executed_model,
        "provider": row.provider,
        "background": row.background,
        "dry_run": row.dry_run,
        "attempts": row.attempts,
        "client": row.client,
        "purged": row.purged,
        **remote_facts(row),
    }


def _cells(row: Row, names: dict[str, str]) -> tuple[str, ...]:
    return (
        local_time(row.created_at),
        row.id,
        names.get(row.caller, "-"),
        row.model or "-",
        row.status,
        dollars(row.cost_micros),
        "-" if row.duration_ms is None else f"{row.duration_ms / 1000:.1f}",
        "nobody" if row.sent_to is None else f"{row.sent_to} ({row.sent_bytes:,} bytes)",
        row.error_code or "",
    )
