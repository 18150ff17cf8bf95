"""Databases to test with: SQLite always, PostgreSQL where its server is installed."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from upscale.server.records.database import Database

_number = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database (of PostgreSQL: a schema) of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    folder: Path = request.getfixturevalue("postgres")
    name = f"test{next(_number)}"
    with psycopg.connect(host=str(folder), user="upscale", dbname="postgres") as connection:
        connection.autocommit = True
        connection.execute(f"CREATE SCHEMA {name}".encode())
    where = f"host={folder}&options=-csearch_path%3D{name}"
    return f"postgresql+psycopg://upscale@/postgres?{where}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """An open database of each kind."""
    with opened(url) as found:
        yield found


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """An open database, for what does not depend on the kind."""
    with opened(f"sqlite:///{tmp_path}/records.db") as found:
        yield found


class opened:
    """`Database(url)`, open within the block."""

    def __init__(self, url: str, busy_seconds: float = 5.0) -> None:
        self._database = Database(url, busy_seconds=busy_seconds)

    def __enter__(self) -> Database:
        self._database.open()
        return self._database

    def __exit__(self, *_: object) -> None:
        self._database.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    """The folder of the socket of a real server, for its user `upscale`."""
    programs = {name: shutil.which(name) for name in ("initdb", "postgres")}
    if not all(programs.values()):
        pytest.skip("no PostgreSQL server is installed (initdb, postgres)")
    # It refuses to run as root.
    user = _other_user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid}
        new = [programs["initdb"], "-D", folder / "data", "-U", "upscale", "-A", "trust", "-N"]
        subprocess.run([*map(str, new)], check=True, capture_output=True, cwd=folder, **who)
        run = [programs["postgres"], "-D", folder / "data", "-k", folder]
        run += ["-c", "listen_addresses=", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([*map(str, run)], stdout=log, stderr=log, cwd=folder, **who)
        try:
            _await(folder, server)
            yield folder
        finally:
            server.send_signal(signal.SIGINT)  # does not wait for its clients
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


def _await(folder: Path, server: subprocess.Popen[bytes]) -> None:
    """Until it answers: it tells nobody else when that is."""
    until = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(host=str(folder), user="upscale", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
