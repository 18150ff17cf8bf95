"""Which names stay taken, and what is looked for again and again found by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "003"
down_revision = "002"


def upgrade() -> None:
    """From what remote providers have done."""
    kept = sa.Column("idempotency_kept", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("requests", kept)
    # What was passed on and is at work had no other sign.
    passed_on = "UPDATE requests SET idempotency_kept = true WHERE remote_job LIKE '{\"jobs\": []%'"
    op.execute(passed_on)
    for name, columns, where in (
        ("requests_unsettled", ["finished_at"], "remote_job IS NOT NULL"),
        ("requests_untold", ["place", "finished_at", "id"], "webhook_state = 'pending'"),
    ):
        some = sa.text(where)
        op.create_index(name, "requests", columns, sqlite_where=some, postgresql_where=some)
