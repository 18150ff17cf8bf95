"""The tables. `migrations` makes them; a test holds the two against each other.

Times (`…_at`) are milliseconds since 1970, UTC; money (`…_micros`) is in millionths of a dollar.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData()

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),  # of the token, to tell keys apart by
    Column("token_sha256", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("requests_per_minute", Double),
    Column("megapixels_per_minute", Double),
    Column("priority", Integer, nullable=False),
    Column("models", Text, nullable=False),  # JSON list; empty allows all
    Column("remote", Boolean, nullable=False),
    Column("spending_limit_micros", BigInteger),
    Column("spent_micros", BigInteger, nullable=False),
    Column("reserved_micros", BigInteger, nullable=False),
)
Index(
    "keys_name",
    keys.c.name,
    unique=True,
    sqlite_where=text("revoked_at IS NULL"),
    postgresql_where=text("revoked_at IS NULL"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key_id", Text, ForeignKey("keys.id")),
    Column("caller", Text, nullable=False),  # the key's id; '' for those without one
    Column("status", Text, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("dry_run", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("duration_ms", BigInteger),
    Column("endpoint", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("model", Text),
    Column("executed_model", Text),
    Column("provider", Text),
    Column("quote_micros", BigInteger),
    Column("cost_micros", BigInteger, nullable=False),
    Column("reserve_state", Text, nullable=False),  # none, reserved, settled or released
    Column("reserved_micros", BigInteger, nullable=False),
    Column("error_status", Integer),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("session_id", Text),
    Column("trace_id", Text),
    Column("user", Text),
    Column("client", Text),  # address of the caller
    Column("request_size_bytes", BigInteger),
    Column("response_size_bytes", BigInteger),
    Column("sent_to", Text),  # who got a picture outside of the house; null: nobody
    Column("sent_bytes", BigInteger, nullable=False),
    Column("remote_attempts", Text),  # JSON list: what was tried at which provider
    Column("remote_job", Text),  # JSON: a paid call at a provider that may still be running
    Column("idempotency_key", Text),
    # A repeat would be paid for again: the name stays taken however this one ends.
    Column("idempotency_kept", Boolean, nullable=False, server_default=false()),
    Column("fingerprint", Text),  # of the body that came with it
    Column("priority", Integer, nullable=False),
    Column("position", Integer),  # in the queue, when it was last told
    Column("attempts", Integer, nullable=False),
    Column("expected_seconds", Double),
    Column("progress", Text),  # JSON
    Column("order", Text),  # JSON: what a background job needs to run
    Column("source", Text),  # file name
    Column("place", Text, nullable=False),  # whose disk holds the source
    Column("reply", Text),  # JSON: the normal reply, when done
    Column("media", Text),  # JSON list of names
    Column("webhook_url", Text),
    Column("webhook_state", Text),  # pending, delivered or failed
    Column("purged", Boolean, nullable=False),
    Column("owner", Text),  # the server process at work on it; see `owner`
)
Index("requests_created", requests.c.created_at, requests.c.id)
Index("requests_by_key", requests.c.key_id, requests.c.created_at, requests.c.id)
Index("requests_by_status", requests.c.status, requests.c.background)
Index("requests_idempotency", requests.c.caller, requests.c.idempotency_key, unique=True)
Index(
    "requests_unsettled",
    requests.c.finished_at,
    sqlite_where=text("remote_job IS NOT NULL"),
    postgresql_where=text("remote_job IS NOT NULL"),
)
Index(
    "requests_untold",
    requests.c.place,
    requests.c.finished_at,
    requests.c.id,
    sqlite_where=text("webhook_state = 'pending'"),
    postgresql_where=text("webhook_state = 'pending'"),
)

# Whose turn it is: `served` grows by one with each job that is taken from the queue.
turns = Table(
    "turns",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("served", BigInteger, nullable=False),
)

speeds = Table(
    "speeds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("network", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("pixels", BigInteger, nullable=False),  # of the result
    Column("expected_seconds", Double, nullable=False),
    Column("real_seconds", Double, nullable=False),
    Column("at", BigInteger, nullable=False),
)
Index("speeds_of", speeds.c.network, speeds.c.device, speeds.c.id)
