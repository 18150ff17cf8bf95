"""A request as it arrives, as it is recorded, and as callers see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from sqlalchemy import Row as Found

from upscale.server.records.times import iso

Status = Literal["pending", "processing", "completed", "upstream_failure", "rejected", "cancelled"]
UNFINISHED: tuple[Status, ...] = ("pending", "processing")
ENDED: tuple[Status, ...] = ("completed", "upstream_failure", "rejected", "cancelled")

# Columns that nobody asks for after the end.
OF_WORK = ("order", "progress", "position")

_MICROS = 1_000_000
# Of what a caller may choose freely; longer ones are cut.
_LONGEST = 2000
_WHOLE = ("order", "reply", "progress", "webhook_url", "idempotency_key", "source")
# Told as plain data, kept as JSON.
_DATA = ("media", "remote_attempts", "remote_job")


@dataclass(frozen=True)
class Arrival:
    """What is known of a request when it arrives; `id` is the caller's, and unique.

    A background job needs `order` (JSON that its runner understands) and `source` (a file);
    `place` says whose disk that file is on, where servers with disks of their own share a database.
    """

    id: str
    endpoint: str
    key_id: str | None = None
    background: bool = False
    dry_run: bool = False
    modality: str = "image"
    model: str | None = None
    executed_model: str | None = None
    provider: str | None = None
    quote_micros: int | None = None
    session_id: str | None = None
    trace_id: str | None = None
    user: str | None = None
    client: str | None = None
    request_size_bytes: int | None = None
    idempotency_key: str | None = None
    fingerprint: str | None = None
    priority: int = 0
    position: int | None = None
    expected_seconds: float | None = None
    order: str | None = None
    source: str | None = None
    place: str = ""
    webhook_url: str | None = None
    created_at: int | None = None  # None: now


@dataclass(frozen=True)
class Row:
    """A recorded request; the fields are the columns of `tables.requests`.

    `remote_attempts`: what was tried at which provider, in order; `remote_job`: paid calls that may
    still be running there (`server.owed`), so that a restart can go on with them.
    `idempotency_kept`: a repeat would be paid for again, so that its name stays taken.
    """

    id: str
    key_id: str | None
    caller: str
    status: Status
    background: bool
    dry_run: bool
    created_at: int
    started_at: int | None
    finished_at: int | None
    duration_ms: int | None
    endpoint: str
    modality: str
    model: str | None
    executed_model: str | None
    provider: str | None
    quote_micros: int | None
    cost_micros: int
    reserve_state: Literal["none", "reserved", "settled", "released"]
    reserved_micros: int
    error_status: int | None
    error_code: str | None
    error_message: str | None
    session_id: str | None
    trace_id: str | None
    user: str | None
    client: str | None
    request_size_bytes: int | None
    response_size_bytes: int | None
    sent_to: str | None
    sent_bytes: int
    remote_attempts: tuple[dict[str, Any], ...]
    remote_job: dict[str, Any] | None
    idempotency_key: str | None
    idempotency_kept: bool
    fingerprint: str | None
    priority: int
    position: int | None
    attempts: int
    expected_seconds: float | None
    progress: str | None
    order: str | None
    source: str | None
    place: str
    reply: str | None
    media: tuple[str, ...]
    webhook_url: str | None
    webhook_state: Literal["pending", "delivered", "failed"] | None
    purged: bool
    owner: str | None

    @staticmethod
    def of(found: Found[Any]) -> Row:
        """From a row of the table."""
        columns: dict[str, Any] = found._asdict()
        data = {
            "media": tuple(json.loads(columns["media"] or "[]")),
            "remote_attempts": tuple(json.loads(columns["remote_attempts"] or "[]")),
            "remote_job": json.loads(columns["remote_job"] or "null"),
        }
        return Row(**{**columns, **data})

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


def to_public(row: Row) -> dict[str, Any]:
    """A request as `GET /v1/requests` shows it."""
    return {
        "id": row.id,
        "object": "request",
        "created_at": iso(row.created_at),
        "model": row.model,
        "modality": row.modality,
        "endpoint": row.endpoint,
        "status": row.status,
        "cost": row.cost_micros / _MICROS,
        "currency": "usd",
        "duration_ms": row.duration_ms,
        "key_id": row.key_id,
        "error_code": row.error_code,
        "error_message": row.error_message,
        "session_id": row.session_id,
        "trace_id": row.trace_id,
        "user": row.user,
        "request_size_bytes": row.request_size_bytes,
        "response_size_bytes": row.response_size_bytes,
    }


def remote_facts(row: Row) -> dict[str, Any]:
    """Who got what of it outside of the house, as `GET /v1/requests/{id}` shows it besides."""
    return {
        "sent_to": row.sent_to,
        "sent_bytes": row.sent_bytes,
        "remote_attempts": list(row.remote_attempts),
    }


def columns_of(arrival: Arrival, now: int) -> dict[str, Any]:
    """The row that an arrival makes."""
    given = {field.name: getattr(arrival, field.name) for field in fields(arrival)}
    return storable(given) | {
        "caller": arrival.key_id or "",
        "status": "pending",
        "created_at": now if arrival.created_at is None else arrival.created_at,
        "cost_micros": 0,
        "reserve_state": "none",
        "reserved_micros": 0,
        "sent_bytes": 0,
        "attempts": 0,
        "purged": False,
        "webhook_state": "pending" if arrival.webhook_url else None,
    }


def storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as every database takes them: texts without NUL and lone surrogates, not endless."""
    return {name: _storable(name, value) for name, value in values.items()}


def _storable(name: str, value: Any) -> Any:
    if name in _DATA and value is not None:
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if name in _WHOLE else text[:_LONGEST]
