"""Run by Alembic: migrates over the connection that `migrate` hands it."""

from __future__ import annotations

from alembic import context

from upscale.server.records.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters few things in place
)
with context.begin_transaction():
    context.run_migrations()
