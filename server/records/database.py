"""The database of records: a file of SQLite, or PostgreSQL by URL. Knows connections, transactions
and migrations, and no table.

Durability (docs/decisions/015-records.md): what was committed survives the death of the process,
at any moment; what was committed with `durable` survives a power cut too.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from upscale import logs
from upscale.errors import InvalidRequest, RecordsFault
from upscale.server.records.faults import fault_of
from upscale.server.records.owner import Owner
from upscale.server.records.patience import seconds_left, too_long
from upscale.settings import Settings

log = logs.get("records")

HEAD = "003"
_ALLOWED = "sqlite:////folder/records.db, or postgresql+psycopg://user@host/name"
_MIGRATING = 0x75707363616C65  # the number of PostgreSQL's lock for it
_CONNECTIONS, _MORE_CONNECTIONS = 4, 28


class Database:
    """The database at `url`; waits at most `busy_seconds` for others.

    Raises InvalidRequest for a URL that names no database that we can use.
    """

    def __init__(self, url: str, *, busy_seconds: float = 5.0) -> None:
        self._url = _checked(url)
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._opened = False
        self.file = Path(self._url.database or "") if self._is_sqlite else None
        self._engine = self._make_engine()
        self._owner = Owner(self._engine, self.file)

    @staticmethod
    def of(settings: Settings) -> Database:
        """The one that the settings name."""
        url = settings.database_url
        if url:
            return Database(url)
        path = settings.data_dir.absolute() / "records.db"
        return Database(URL.create("sqlite", database=str(path)).render_as_string())

    def open(self) -> None:
        """Make what is missing and migrate to HEAD, one process at a time; again does nothing.

        Raises RecordsFault, also for a database that a newer version has written.
        """
        if self._opened:
            return
        try:
            with self.faults():
                if self.file is not None:
                    _make_private(self.file)
                if self._revision() != HEAD:
                    self._migrate()
                self._identity = self._found()
            self._opened = True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of all connections, and of what this process owns."""
        self._opened = False
        self._owner.release()
        self._engine.dispose()

    @property
    def owner(self) -> Owner:
        """This process, as records name who is at work on them."""
        return self._owner

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that reads one state of the database. Raises RecordsFault."""
        with self.faults(), self._connected() as connection:
            reading = connection.execution_options(upscale_wait=_ms(self._busy_seconds))
            with reading.begin():
                yield reading

    @contextlib.contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A transaction that writes: committed when the block ends, undone when it raises.

        `durable`: on the disk when it is committed. Raises RecordsFault.
        """
        with self.faults(), self._in_turn(), self._connected() as connection:
            mode = "durable" if durable else "write"
            wait = _ms(seconds_left(self._busy_seconds))
            writing = connection.execution_options(upscale_mode=mode, upscale_wait=wait)
            with writing.begin():
                yield writing

    def serialise(self, connection: Connection, number: int) -> None:
        """Until the transaction ends, wait for others that do the same with this number.

        With SQLite, all that write do.
        """
        if not self._is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": number})

    def insert(self, table: Any) -> Any:
        """An INSERT with `on_conflict_…`, which both dialects have, but not in common."""
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)

    def scrub(self) -> None:
        """Leave nothing of what was deleted in SQLite's log of writes, unless a reader needs it."""
        if self._is_sqlite:
            with self.faults(), self._engine.connect() as connection:
                outside = connection.execution_options(upscale_mode="outside")
                outside.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Turns what a database or a disk raises into a RecordsFault."""
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            fault = fault_of(error)
            log.error("records fault", extra=logs.fields(why=fault.detail))
            raise fault from error

    def _connected(self) -> Connection:
        self._check_file()
        return self._engine.connect()

    def _check_file(self) -> None:
        """SQLite would go on in a file whose name is gone, and make an empty one beside it."""
        if self._identity is not None and self._found() != self._identity:
            raise RecordsFault(
                "The file of the records was removed or replaced. Put it back, or restart the "
                "server with the one that is there."
            )

    def _found(self) -> tuple[int, int] | None:
        """Which file is there now; None for none, and with PostgreSQL."""
        if self.file is None:
            return None
        try:
            facts = self.file.stat()
        except FileNotFoundError:
            return None
        return facts.st_dev, facts.st_ino

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """SQLite has one writer, and those who wait poll: threads of this process queue here."""
        if not self._is_sqlite:
            yield
            return
        if not self._turn.acquire(timeout=seconds_left(self._busy_seconds)):
            raise too_long()
        try:
            yield
        finally:
            self._turn.release()

    def _revision(self) -> str | None:
        """The form that the database has; None where it is empty."""
        with self._engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return None if found is None else str(found)

    def _migrate(self) -> None:
        from upscale.server.records.migrations import migrate  # takes a while to load

        with self._alone():
            if self._is_sqlite:
                with self._engine.connect() as connection:
                    outside = connection.execution_options(upscale_mode="outside")
                    outside.exec_driver_sql("PRAGMA journal_mode=WAL")
            with self.write(durable=True) as connection:
                self.serialise(connection, _MIGRATING)
                migrate(connection, self._revision())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process migrates this file meanwhile, however long it takes."""
        if self.file is None:
            yield
            return
        with open(os.open(f"{self.file}.lock", os.O_CREAT | os.O_RDWR, 0o600), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_engine(self) -> Engine:
        timeout = "timeout" if self._is_sqlite else "connect_timeout"
        seconds = self._busy_seconds if self._is_sqlite else max(2, int(self._busy_seconds))
        try:
            engine = create_engine(
                self._url,
                pool_size=_CONNECTIONS,
                max_overflow=_MORE_CONNECTIONS,
                pool_timeout=self._busy_seconds,
                pool_pre_ping=not self._is_sqlite,
                hide_parameters=True,
                connect_args={timeout: seconds},
            )
        except ImportError as error:
            raise InvalidRequest(
                "UPSCALE_DATABASE_URL needs the extra `postgres`: pip install 'upscale[postgres]'.",
                field="database_url",
            ) from error
        if self._is_sqlite:
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            event.listen(engine, "begin", _begin_postgres)
        return engine


def _checked(url: str) -> URL:
    """The URL with the driver that we use. It is never repeated: it may hold a password."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:
        raise _not_ours() from error
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    name = parsed.database or ""
    if backend != "sqlite" or not name or name == ":memory:" or name.startswith("file:"):
        raise _not_ours()
    return parsed.set(drivername="sqlite+pysqlite")


def _not_ours() -> InvalidRequest:
    return InvalidRequest(
        f"UPSCALE_DATABASE_URL names no database of ours. Allowed: {_ALLOWED}.",
        field="database_url",
    )


def _ms(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _make_private(file: Path) -> None:
    """Make the file, readable by this user alone; SQLite's own files beside it follow it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(raw: Any, _: object) -> None:
    raw.isolation_level = None  # transactions begin where `_begin_sqlite` says
    raw.execute("PRAGMA foreign_keys=ON")
    raw.execute("PRAGMA secure_delete=ON")  # what is purged is overwritten


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    mode = options.get("upscale_mode", "read")
    if mode == "outside":
        return
    if "upscale_wait" in options:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={options['upscale_wait']}")
    if mode == "read":
        connection.exec_driver_sql("BEGIN")
    else:
        level = "FULL" if mode == "durable" else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        # Two that read first and then want to write would wait for each other.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgres(connection: Connection) -> None:
    wait = connection.get_execution_options().get("upscale_wait")
    if wait is not None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait}")
