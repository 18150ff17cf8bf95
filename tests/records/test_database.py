"""The database itself: migrations, and what happens where it cannot do its part."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, text

from tests.records.conftest import opened
from tests.records.making import PATH, arrived, read
from upscale.errors import InvalidRequest, RecordsFault
from upscale.server.records import database as module
from upscale.server.records import migrations
from upscale.server.records.database import HEAD, Database
from upscale.server.records.deliveries import Deliveries
from upscale.server.records.keys import KeyRing
from upscale.server.records.recovery import recover
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival
from upscale.server.records.tables import metadata
from upscale.settings import Settings


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_head_is_the_last_migration() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert script.get_heads() == [HEAD]


def test_a_database_that_is_there_is_opened_as_it_is(url: str) -> None:
    with opened(url) as database:
        KeyRing(database).create("one")
    with opened(url) as database:
        assert KeyRing(database).any()


@pytest.mark.parametrize("version", ["001", "002"])
def test_an_older_one_is_brought_up_to_date(url: str, version: str) -> None:
    with opened(url) as database:
        log = RequestLog(database)
        passed_on, asked_for = (arrived(log, idempotency_key=name) for name in "ab")
        log.change(passed_on, remote_job={"jobs": [], "spent_micros": 7})
        log.change(asked_for, remote_job={"jobs": [{"index": 0}], "spent_micros": 0})
        _back_to(database, version)
    with opened(url) as database:
        rows = [read(RequestLog(database), id) for id in (passed_on, asked_for)]
        assert all(row.remote_attempts == () for row in rows)
        # Of the first version there is nothing to be told from.
        assert [row.remote_job is not None for row in rows] == [version == "002"] * 2
        assert [row.idempotency_kept for row in rows] == [version == "002", False]
        with database.read() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []


def _back_to(database: Database, version: str) -> None:
    """Undo what later migrations have made."""
    columns = ["idempotency_kept"]
    if version == "001":
        columns += ["remote_attempts", "remote_job"]
    with database.write() as connection:
        for index in ("requests_unsettled", "requests_untold"):
            connection.execute(text(f"DROP INDEX {index}"))
        for column in columns:
            connection.execute(text(f"ALTER TABLE requests DROP COLUMN {column}"))
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))


def test_what_is_looked_for_again_and_again_is_found_by_an_index(tmp_path: Path) -> None:
    asked: list[tuple[str, Any]] = []
    with opened(f"sqlite:///{tmp_path}/records.db") as database:

        @event.listens_for(database._engine, "before_cursor_execute")
        def keep(_c: Any, _k: Any, statement: str, values: Any, *_: Any) -> None:
            asked.append((statement, values))

        assert RequestLog(database).unsettled() == []
        assert Deliveries(database).untold(limit=5) == []
        plans = []
        with database.read() as connection:
            for statement, values in [pair for pair in asked if "FROM requests" in pair[0]]:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                plans.append(" ".join(str(line[3]) for line in plan))
    found = zip(("requests_unsettled", "requests_untold"), plans, strict=True)
    assert [name in plan for name, plan in found] == [True, True]


def test_one_that_a_newer_version_has_written_is_refused(url: str) -> None:
    with opened(url) as database, database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '999'"))
    with pytest.raises(RecordsFault, match=r"form 999.*newer.*UPSCALE_DATABASE_URL"), opened(url):
        pass


def test_many_that_start_at_once_migrate_once(url: str) -> None:
    code = (
        "import sys; from upscale.server.records.database import Database\n"
        "from upscale.server.records.keys import KeyRing\n"
        "database = Database(sys.argv[1]); database.open()\n"
        "KeyRing(database).create(sys.argv[2]); database.close()"
    )
    starting = [
        subprocess.Popen([sys.executable, "-c", code, url, f"n{n}"], stderr=subprocess.PIPE)
        for n in range(4)
    ]
    for process in starting:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
    with opened(url) as database:
        assert len(KeyRing(database).list()) == 4


def test_the_file_is_private_and_where_the_settings_say(tmp_path: Path) -> None:
    database = Database.of(Settings(data_dir=tmp_path / "a?b%c #d"))
    database.open()
    arrived(RequestLog(database))
    files = list((tmp_path / "a?b%c #d").rglob("*"))
    assert {"records.db", "records.db-wal"} <= {file.name for file in files}
    modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert modes <= {0o600, 0o700}
    database.close()
    with opened(f"sqlite:///{tmp_path}/elsewhere.db") as other:
        assert other.file == tmp_path / "elsewhere.db"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=ro",
        "mysql://u:secret@h/d",
        "secret",
        "nothing+at+all://secret",
    ],
)
def test_urls_that_name_no_database_of_ours_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="UPSCALE_DATABASE_URL") as refused:
        Database(url)
    assert "secret" not in refused.value.message


def test_the_password_in_a_url_is_not_shown() -> None:
    settings = Settings(database_url="postgresql://u:se:cret@host/name")
    assert settings.model_dump(mode="json")["database_url"] == "postgresql://u:***@host/name"
    assert settings.database_url == "postgresql://u:se:cret@host/name"
    settings = Settings(database_url="postgresql:///name?password=secret&host=h")
    assert settings.model_dump()["database_url"] == "postgresql:///name?password=***&host=h"
    assert Settings(database_url="sqlite:////a@b/c.db").model_dump()["database_url"].count("*") == 0


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Database]:
    """A database that waits for nobody."""
    with opened(f"sqlite:///{tmp_path}/records.db", busy_seconds=0.1) as database:
        yield database


def test_a_lock_that_lasts_is_told_and_then_forgotten(impatient: Database) -> None:
    log = RequestLog(impatient)
    assert impatient.file is not None
    other = sqlite3.connect(impatient.file, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RecordsFault, match="holds them for too long") as fault:
        log.arrive(Arrival("req_1", PATH))
    assert (fault.value.status, fault.value.retry) == (503, None)
    assert str(impatient.file.parent) not in fault.value.message
    assert log.get("req_1") is None  # readers do not wait for a writer
    other.execute("ROLLBACK")
    other.close()
    assert log.arrive(Arrival("req_1", PATH)) is None


def test_a_lock_in_postgresql_is_told_too(request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue("postgres")
    where = f"host={folder}&options=-csearch_path%3Dlocked"
    with psycopg.connect(host=str(folder), user="upscale", dbname="postgres") as other:
        other.execute("CREATE SCHEMA locked")
        other.commit()
        url = f"postgresql://upscale@/postgres?{where}"
        with opened(url, busy_seconds=0.2) as database:
            other.execute("LOCK TABLE locked.requests")
            with pytest.raises(RecordsFault, match="holds them for too long"):
                arrived(RequestLog(database))
            other.rollback()
            arrived(RequestLog(database))


def test_threads_wait_for_each_other_no_longer_than_for_others(impatient: Database) -> None:
    log, ready, end = RequestLog(impatient), threading.Event(), threading.Event()

    def hold() -> None:
        with impatient.write():
            ready.set()
            end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(30)
    with pytest.raises(RecordsFault, match="too long"):
        log.arrive(Arrival("req_1", PATH))
    end.set()
    holder.join()
    assert log.arrive(Arrival("req_1", PATH)) is None


def test_a_full_disk_is_told_and_space_heals_it(sqlite: Database) -> None:
    """SQLite's own limit of pages stands for the disk: its error is the same."""
    log, pages = RequestLog(sqlite), [40]

    @event.listens_for(sqlite._engine, "begin")
    def limit(connection: object) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages[0]}")  # type: ignore[attr-defined]

    kept: list[str] = []

    def fill() -> None:
        for number in range(1000):
            log.arrive(Arrival(f"req_{number}", PATH, order="x" * 5000, background=True))
            kept.append(f"req_{number}")

    with pytest.raises(RecordsFault, match="the disk is full"):
        fill()
    assert kept
    assert all(log.get(name) is not None for name in kept)
    assert log.get(f"req_{len(kept)}") is None
    pages[0] = 1 << 30
    assert log.arrive(Arrival("req_again", PATH)) is None


def test_what_may_only_be_read_is_read(sqlite: Database) -> None:
    """SQLite's own switch stands for a read-only disk: its error is the same."""
    log = RequestLog(sqlite)
    request = arrived(log)

    @event.listens_for(sqlite._engine, "connect")
    @event.listens_for(sqlite._engine, "checkout")
    def read_only(raw: sqlite3.Connection, *_: object) -> None:
        raw.execute("PRAGMA query_only=ON")

    with pytest.raises(RecordsFault, match="read-only"):
        arrived(log)
    assert log.get(request) is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file_is_told(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path}/records.db") as database:
        arrived(RequestLog(database))
    (tmp_path / "records.db").chmod(0o400)
    with (
        opened(f"sqlite:///{tmp_path}/records.db") as database,
        pytest.raises(RecordsFault, match="read-only"),
    ):
        arrived(RequestLog(database))


def test_a_folder_that_cannot_be_made_and_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, and long enough to be looked at" * 30)
    for name, reason in (("file/records.db", "File exists"), ("file", "damaged")):
        with (
            pytest.raises(RecordsFault, match=reason) as fault,
            opened(f"sqlite:///{tmp_path}/{name}"),
        ):
            pass
        assert str(tmp_path) not in fault.value.message


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    url = f"postgresql://upscale:secret@/postgres?host={tmp_path}"
    with pytest.raises(RecordsFault, match="does not answer") as fault, opened(url):
        pass
    assert "secret" not in fault.value.message + fault.value.detail


def test_a_connection_that_was_cut_is_replaced_and_work_stays_ours(
    request: pytest.FixtureRequest,
) -> None:
    folder = request.getfixturevalue("postgres")
    with psycopg.connect(host=str(folder), user="upscale", dbname="postgres") as other:
        other.autocommit = True
        other.execute("CREATE SCHEMA cut")
        url = f"postgresql://upscale@/postgres?host={folder}&options=-csearch_path%3Dcut"
        with opened(url) as database, opened(url) as beside:
            log = RequestLog(database)
            mine = arrived(log)
            assert recover(beside, "").cancelled == ()
            cut = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = "
            other.execute(cut.encode() + b"'upscale' AND pid <> pg_backend_pid()")
            arrived(log)  # which notices, and takes the lock again
            arrived(log)
            assert recover(beside, "").cancelled == ()
            assert log.get(mine) is not None


def test_it_loads_without_torch_and_the_web() -> None:
    code = (
        "import sys, pkgutil, importlib, upscale.server.records as room\n"
        "for found in pkgutil.walk_packages(room.__path__, room.__name__ + '.'):\n"
        "    found.name.endswith('.env') or importlib.import_module(found.name)\n"
        "print(sorted({'torch', 'fastapi', 'starlette', 'uvicorn', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("[]", "['asyncio']")
    assert "alembic" not in vars(module)
