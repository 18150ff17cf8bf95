"""`upscale keys` and `upscale requests`, while a server may use the same database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from upscale.cli.database import dollars
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Arrival
from upscale.server.records.times import now_ms
from upscale.weights.store import Store


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database as a running server has it open."""
    url = f"sqlite:///{tmp_path}/records.db"
    monkeypatch.setenv("UPSCALE_DATABASE_URL", url)
    database = Database(url)
    database.open()
    yield database
    database.close()


def test_a_key_is_made_limited_listed_and_revoked(call: Run, server: Database) -> None:
    ring = KeyRing(server)
    assert "no keys" in call("keys", "list").stdout
    made = call(
        *("keys", "create", "alice", "--expires", "30d", "--requests-per-minute", "10"),
        *("--spending-limit", "2.5", "--model", "real-esrgan", "-m", "bundled-x4", "--local-only"),
    )
    assert made.returncode == 0, made.stderr
    key = ring.find(made.stdout.strip())
    assert key is not None
    assert "shown this once" in made.stderr
    assert key.models == ("real-esrgan", "bundled-x4")
    assert (key.requests_per_minute, key.spending_limit_micros, key.remote) == (
        10,
        2_500_000,
        False,
    )
    assert key.expires is not None
    assert abs(key.expires - now_ms() - 30 * 86_400_000) < 600_000
    again = call("keys", "create", "alice")
    assert again.returncode == 2
    assert "no other key" in again.stderr

    limited = call(
        *("keys", "limit", "alice", "--requests-per-minute", "none", "-m", "all", "--remote"),
        *("--expires", "none", "--priority", "-5", "--megapixels-per-minute", "1.5"),
    )
    assert limited.returncode == 0, limited.stderr
    assert "1.5 MP/min; priority -5" in limited.stdout
    now = ring.get("alice")
    assert (now.requests_per_minute, now.models, now.expires) == (None, (), None)
    assert now.spending_limit_micros == 2_500_000

    listed = call("keys", "list")
    assert "alice" in listed.stdout
    assert "$2.50" in listed.stdout
    assert made.stdout.strip() not in listed.stdout
    assert call("keys", "revoke", "alice").returncode == 0
    assert ring.find(made.stdout.strip()) is None
    (row,) = json.loads(call("keys", "list", "--json").stdout)
    assert row["status"] == "revoked"
    created = json.loads(call("keys", "create", "bob", "--json").stdout)
    assert ring.find(created["token"]) is not None
    assert json.loads(call("keys", "limit", "bob", "--json").stdout)["name"] == "bob"


def test_a_key_is_for_models_that_there_are(
    call: Run, server: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSCALE_WEIGHTS_DIR", str(tmp_path / "weights"))
    file = tmp_path / "mine-x2.safetensors"
    file.write_bytes(b"mine")
    Store(tmp_path / "weights").register(file, name=None, serves=None, replace=False)
    wanted = ("esrgan", "mine-x2", "bundled-x4", "realesrgan_x4plus")
    made = call("keys", "create", "a", *(word for name in wanted for word in ("-m", name)))
    assert made.returncode == 0, made.stderr
    models = KeyRing(server).get("a").models
    assert models == ("real-esrgan", "mine-x2", "bundled-x4", "realesrgan_x4plus")
    wrong = call("keys", "limit", "a", "-m", "real-esrgam")
    assert "Did you mean 'real-esrgan'?" in wrong.stderr
    assert KeyRing(server).get("a").models == models
    # Somebody else may know it.
    monkeypatch.setenv("UPSCALE_PASSTHROUGH_BASE_URL", "http://127.0.0.1:8001/v1")
    passed = call("keys", "limit", "a", "-m", "gpt-image-1")
    assert passed.returncode == 0, passed.stderr
    assert "passed on" in passed.stderr
    assert KeyRing(server).get("a").models == ("gpt-image-1",)


@pytest.mark.parametrize("command", ["create", "list", "revoke", "limit", ""])
def test_every_command_has_help(call: Run, command: str) -> None:
    done = call("keys", command, "--help") if command else call("requests", "--help")
    assert done.returncode == 0
    assert "Usage: upscale" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create", ""),
        ("keys", "create", "a", "--expires", "2001-01-01"),
        ("keys", "create", "a", "--expires", "soon"),
        ("keys", "create", "a", "--spending-limit", "-1"),
        ("keys", "create", "a", "--requests-per-minute", "many"),
        ("keys", "create", "a", "--requests-per-minute", "0"),
        ("keys", "create", "a", "--model", "real-esrgam"),
        ("keys", "create", "a", "--model", "local/real-esrgan"),
        ("keys", "create", "a", "-m", "real-esrgan", "-m", "all"),
        ("keys", "revoke", "nobody"),
        ("keys", "limit", "nobody"),
        ("requests", "--status", "happy"),
        ("requests", "--since", "soon"),
        ("requests", "--key", "nobody"),
        ("requests", "--limit", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told(call: Run, server: Database, arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stderr
    assert not done.stdout


def test_requests_are_listed_without_secrets(call: Run, server: Database) -> None:
    log, ring = RequestLog(server), KeyRing(server)
    assert "no such requests" in call("requests").stdout
    key = ring.create("alice")[0].id
    for number in range(105):
        log.arrive(
            Arrival(
                f"req_{number:03d}",
                "/openai/v1/images/edits",
                key_id=key if number % 2 else None,
                model="real-esrgan\x1b[31m",
                webhook_url="https://example.com/SECRET",
                order='{"x": "SECRET"}',
                created_at=now_ms() - number * 60_000,
            )
        )
    log.finish(
        "req_001",
        "completed",
        cost_micros=1_234_567,
        media=["SECRET.png"],
        reply="SECRET",
        sent_to="fal",
        sent_bytes=4096,
        remote_attempts=[{"provider": "fal", "billed": "yes"}],
    )
    shown = call("requests")
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "req_019" in shown.stdout
    assert "req_020" not in shown.stdout
    assert "fal (4,096 bytes)" in shown.stdout
    assert "104 pending, 1 completed; $1.234567; the newest 20 are shown." in shown.stdout
    rows = json.loads(call("requests", "--limit", "1000", "--json").stdout)
    assert [row["id"] for row in rows] == [f"req_{n:03d}" for n in range(105)]
    assert (rows[1]["sent_to"], rows[1]["sent_bytes"]) == ("fal", 4096)
    assert rows[1]["remote_attempts"] == [{"provider": "fal", "billed": "yes"}]
    chosen = call("requests", "--key", "alice", "--since", "30m30s", "--json")
    assert chosen.returncode == 2
    chosen = call("requests", "--key", "alice", "--since", "30m", "--status", "pending", "--json")
    assert [row["id"] for row in json.loads(chosen.stdout)] == [
        f"req_{n:03d}" for n in range(3, 30, 2)
    ]
    for done in (shown, chosen):
        assert "SECRET" not in done.stdout
    assert "SECRET" not in json.dumps(rows)


def test_a_database_that_cannot_be_used_is_one_line(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no database, and long enough to be looked at" * 30)
    monkeypatch.setenv("UPSCALE_DATABASE_URL", f"sqlite:///{tmp_path}/file")
    done = call("keys", "list")
    assert done.returncode == 1
    assert "Error: The records cannot be read or written: their file is damaged" in done.stderr
    monkeypatch.setenv("UPSCALE_DATABASE_URL", "mysql://host")
    done = call("requests")
    assert done.returncode == 2
    assert "UPSCALE_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, "$0.00"), (40_000, "$0.04"), (123, "$0.000123"), (12_500_000, "$12.50")],
)
def test_dollars(micros: int, text: str) -> None:
    assert dollars(micros) == text
