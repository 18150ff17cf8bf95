"""From an empty database to `tables`, step by step, by Alembic.

A change of a table is a new module in `versions`, never an edit of an old one; HEAD names the last.
Old servers may be running while a new one migrates: only add columns and tables, with defaults.
"""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from upscale.errors import RecordsFault

# Alembic keeps what it is at in module globals.
_one_at_a_time = threading.Lock()


def migrate(connection: Connection, current: str | None) -> None:
    """Bring the database from revision `current` (None: empty) to HEAD, in the open transaction.

    Raises RecordsFault for a revision that is not ours: a newer server has been here.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _one_at_a_time:
        if current is not None:
            try:
                ScriptDirectory.from_config(config).get_revision(current)
            except CommandError as error:
                raise RecordsFault(
                    f"The database of records has the form {current}, which this version of "
                    "upscale does not know: a newer one has written it. Start that one, or name "
                    "another database with UPSCALE_DATABASE_URL."
                ) from error
        command.upgrade(config, "head")
