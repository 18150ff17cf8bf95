"""What a request has had done by remote providers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "002"
down_revision = "001"


def upgrade() -> None:
    """From the first tables."""
    op.add_column("requests", sa.Column("remote_attempts", sa.Text))
    op.add_column("requests", sa.Column("remote_job", sa.Text))
