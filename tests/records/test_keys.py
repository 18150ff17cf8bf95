"""Keys: made once, found by their token, limited, revoked; and never written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from upscale.errors import InvalidParameter, NotFound
from upscale.server.records import keys
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing


def test_a_token_finds_its_key_and_no_other(database: Database) -> None:
    ring = KeyRing(database)
    one, token = ring.create("one")
    two, other = ring.create("two", priority=3, models=["real-esrgan"], remote=False)
    assert token != other
    assert token.startswith("upk_")
    assert len(token) >= 44
    assert ring.find(token) == one
    assert ring.find(other) == two
    assert (two.priority, two.models, two.local_only) == (3, ("real-esrgan",), True)
    assert (one.local_only, one.remote) == (False, True)
    assert token.startswith(one.prefix)
    assert len(one.prefix) == 8
    for wrong in ("", "upk_", token[:-1], token + "x", token.upper(), "lmnfl_x", "upk_é", "\0"):
        assert ring.find(wrong) is None


def test_only_the_hash_of_a_token_reaches_the_disk(sqlite: Database, tmp_path: Path) -> None:
    ring = KeyRing(sqlite)
    key, token = ring.create("one")
    ring.revoke(key.id)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files)
    assert key.prefix.encode() in content
    assert token.encode() not in content
    assert token[len(key.prefix) :].encode() not in content


def test_revoked_and_expired_keys_are_not_found(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = KeyRing(database)
    key, token = ring.create("one")
    assert ring.revoke("one").revoked is not None
    assert ring.find(token) is None
    assert ring.revoke(key.id) == ring.get(key.id)
    later, token = ring.create("later", expires=keys.now_ms() + 60_000)
    assert ring.find(token) == later
    monkeypatch.setattr(keys, "now_ms", lambda: later.expires)
    assert ring.find(token) is None
    assert ring.get("later").to_public()["status"] == "expired"


def test_once_there_was_a_key_there_always_is(database: Database) -> None:
    ring = KeyRing(database)
    assert not ring.any()
    ring.create("one")
    assert ring.any()
    ring.revoke("one")
    assert ring.any()
    assert KeyRing(database).any()


def test_a_name_belongs_to_one_key_that_is_not_revoked(database: Database) -> None:
    ring = KeyRing(database)
    first, _ = ring.create("one")
    with pytest.raises(InvalidParameter, match="no other key"):
        ring.create("one")
    ring.revoke("one")
    second, _ = ring.create("one")
    assert ring.get("one") == second
    assert ring.get(first.id).revoked is not None
    assert {key.id for key in ring.list()} == {first.id, second.id}


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 101, "key_1", "a\0b"])
def test_names_that_confuse_are_refused(sqlite: Database, name: str) -> None:
    with pytest.raises(InvalidParameter, match="name"):
        KeyRing(sqlite).create(name)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("requests_per_minute", 0),
        ("megapixels_per_minute", -1),
        ("megapixels_per_minute", float("nan")),
        ("priority", 101),
        ("models", ["a\nb"]),
        ("spending_limit_micros", -1),
        ("expires", -1),
    ],
)
def test_limits_out_of_range_are_refused(sqlite: Database, limit: str, value: object) -> None:
    ring = KeyRing(sqlite)
    ring.create("one")
    with pytest.raises(InvalidParameter) as refused:
        ring.limit("one", **{limit: value})
    assert refused.value.field == limit


def test_limits_change_and_are_lifted(database: Database) -> None:
    ring = KeyRing(database)
    key, token = ring.create("one", spending_limit_micros=5_000_000)
    assert key.available_micros == 5_000_000
    changed = ring.limit("one", requests_per_minute=2.5, spending_limit_micros=None)
    assert changed == ring.find(token)
    assert (changed.requests_per_minute, changed.available_micros) == (2.5, None)
    assert ring.limit("one", priority=None, models=None) == changed
    with pytest.raises(NotFound, match="nobody"):
        ring.limit("nobody", priority=1)
    with pytest.raises(TypeError):
        ring.limit("one", spent_micros=0)


def test_what_is_shown_of_a_key_has_no_secret(sqlite: Database) -> None:
    key, token = KeyRing(sqlite).create("one", spending_limit_micros=1_500_000)
    shown = key.to_public()
    assert token[8:] not in str(shown)
    assert keys._hash(token) not in str(shown)
    assert (shown["spending_limit"], shown["spent"], shown["object"]) == (1.5, 0.0, "key")
