"""The audit: a line of the log for each request that ends, whoever or whatever ends it."""

from __future__ import annotations

from upscale import logs
from upscale.server.records.keys import Key
from upscale.server.records.rows import Row

log = logs.get(logs.AUDIT)


def sent(request: str, key: Key | None, host: str, size: int) -> None:
    """A picture that went out of the house for a dry run, which has no record."""
    log.info(
        "dry run sent",
        extra=logs.fields(
            request=request,
            who=_who(key.id if key is not None else None),
            bytes_out_of_the_house=size,
            sent_to=host,
        ),
    )


def tell(row: Row, what: str = "request ended") -> None:
    """One request that has just ended, as its record has it; or `what` became of it afterwards."""
    log.info(
        what,
        extra=logs.fields(
            request=row.id,
            who=_who(row.key_id),
            what=row.model,
            route=row.executed_model,
            status=row.status,
            cost_micros=row.cost_micros,
            bytes_out_of_the_house=row.sent_bytes,
            sent_to=row.sent_to,
        ),
    )


def _who(key_id: str | None) -> str:
    return key_id or "anonymous"
