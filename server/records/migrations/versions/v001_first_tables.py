"""The first tables: keys, requests, turns and speeds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "001"
down_revision = None


def upgrade() -> None:
    """From an empty database."""
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("token_sha256", sa.Text, nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("requests_per_minute", sa.Double),
        sa.Column("megapixels_per_minute", sa.Double),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("remote", sa.Boolean, nullable=False),
        sa.Column("spending_limit_micros", sa.BigInteger),
        sa.Column("spent_micros", sa.BigInteger, nullable=False),
        sa.Column("reserved_micros", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, sa.ForeignKey("keys.id")),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("background", sa.Boolean, nullable=False),
        sa.Column("dry_run", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("modality", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("executed_model", sa.Text),
        sa.Column("provider", sa.Text),
        sa.Column("quote_micros", sa.BigInteger),
        sa.Column("cost_micros", sa.BigInteger, nullable=False),
        sa.Column("reserve_state", sa.Text, nullable=False),
        sa.Column("reserved_micros", sa.BigInteger, nullable=False),
        sa.Column("error_status", sa.Integer),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("trace_id", sa.Text),
        sa.Column("user", sa.Text),
        sa.Column("client", sa.Text),
        sa.Column("request_size_bytes", sa.BigInteger),
        sa.Column("response_size_bytes", sa.BigInteger),
        sa.Column("sent_to", sa.Text),
        sa.Column("sent_bytes", sa.BigInteger, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("fingerprint", sa.Text),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("expected_seconds", sa.Double),
        sa.Column("progress", sa.Text),
        sa.Column("order", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("reply", sa.Text),
        sa.Column("media", sa.Text),
        sa.Column("webhook_url", sa.Text),
        sa.Column("webhook_state", sa.Text),
        sa.Column("purged", sa.Boolean, nullable=False),
        sa.Column("owner", sa.Text),
    )
    op.create_table(
        "turns",
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("served", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "speeds",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("pixels", sa.BigInteger, nullable=False),
        sa.Column("expected_seconds", sa.Double, nullable=False),
        sa.Column("real_seconds", sa.Double, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "keys_name",
        "keys",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_index("requests_created", "requests", ["created_at", "id"])
    op.create_index("requests_by_key", "requests", ["key_id", "created_at", "id"])
    op.create_index("requests_by_status", "requests", ["status", "background"])
    op.create_index("requests_idempotency", "requests", ["caller", "idempotency_key"], unique=True)
    op.create_index("speeds_of", "speeds", ["network", "device", "id"])
