"""Which server process is at work on a record, and whether it still lives.

A process is a random number under a lock that the system lets go of when the process dies: of a
file beside SQLite's, or of PostgreSQL. So the next server knows which requests nobody answers any
more, and leaves alone those of a server that runs beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, Engine, ExceptionContext, event, text

from upscale.server.locks import is_held

_NEW = ".new"


class Owner:
    """This process; `file` is SQLite's, None with PostgreSQL."""

    def __init__(self, engine: Engine, file: Path | None) -> None:
        self._engine = engine
        self._folder = None if file is None else file.with_name(file.name + ".owners")
        self._number = secrets.randbits(60)
        self._taking = threading.Lock()
        self._lock: BinaryIO | None = None
        self._session: Connection | None = None
        event.listen(engine, "handle_error", self._on_error)

    def token(self) -> str:
        """The process's name in records; its lock is taken the first time, and held.

        Raises OSError and what SQLAlchemy raises.
        """
        with self._taking:
            if self._folder is None:
                self._hold_session()
            elif self._lock is None:
                self._lock = _locked(self._folder, _name(self._number))
        return _name(self._number)

    def alive(self, connection: Connection, token: str) -> bool:
        """Whether the process of that name lives; asked within a transaction that writes."""
        if token == _name(self._number):
            return True
        if self._folder is not None:
            return is_held(self._folder / token)
        asked = text("SELECT pg_try_advisory_xact_lock(:n)")
        return not connection.scalar(asked, {"n": int(token, 16)})

    def sweep(self) -> None:
        """Remove the locks of processes that are gone."""
        if self._folder is not None and self._folder.is_dir():
            for lock in self._folder.iterdir():
                if not lock.name.endswith(_NEW) and not is_held(lock):
                    lock.unlink(missing_ok=True)

    def release(self) -> None:
        """Let go of the lock: what this process still owns is nobody's."""
        with self._taking:
            if self._lock is not None:
                if self._folder is not None:
                    with contextlib.suppress(OSError):
                        (self._folder / _name(self._number)).unlink()
                self._lock.close()
                self._lock = None
            if self._session is not None:
                self._session.invalidate()
                self._session.close()
                self._session = None

    def _hold_session(self) -> None:
        """A connection of its own keeps the lock; one that was cut is replaced here."""
        if self._session is None:
            session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            asked = text("SELECT pg_try_advisory_lock(:n)")
            if session.scalar(asked, {"n": self._number}):
                self._session = session
            else:  # what is left of the cut connection still has it: asked for again next time
                session.close()

    def _on_error(self, context: ExceptionContext) -> None:
        """A database that went away took the lock along, whichever connection noticed."""
        if context.is_disconnect and self._session is not None:
            session, self._session = self._session, None
            session.invalidate()
            session.close()


def _name(number: int) -> str:
    return f"{number:015x}"


def _locked(folder: Path, name: str) -> BinaryIO:
    folder.mkdir(mode=0o700, exist_ok=True)
    new = folder / (name + _NEW)
    file = os.fdopen(os.open(new, os.O_CREAT | os.O_RDWR, 0o600), "r+b")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Named when it is held: nobody ever sees it free.
    new.rename(folder / name)
    return file
