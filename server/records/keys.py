"""API keys: who may use the server, and within which limits. A token is shown once, when made.

Only the SHA-256 of a token is kept. A slow hash protects passwords, which can be guessed; a token
has 240 random bits, which nobody can try, and is looked up with every request.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from upscale.errors import InvalidParameter, NotFound
from upscale.server.records.database import Database
from upscale.server.records.tables import keys
from upscale.server.records.times import iso, now_ms

TOKEN_START = "upk_"
_ID_START = "key_"
_TOKEN_BYTES = 30  # 40 characters
_SHOWN = len(TOKEN_START) + 4
_NAMING = 0x6E616D65  # the number under which names are given out one at a time
_MOST_MODELS = 200

_LIMITS = (
    "expires",
    "requests_per_minute",
    "megapixels_per_minute",
    "priority",
    "models",
    "spending_limit_micros",
    "remote",
)


@dataclass(frozen=True)
class Key:
    """A key without its token; `prefix` is how that begins. None is no limit; no `models`: all.

    Times are milliseconds since 1970, money millionths of a dollar, megapixels those of results.
    `remote`: whether its pictures may go to remote providers.
    """

    id: str
    name: str
    prefix: str
    created: int
    expires: int | None
    revoked: int | None
    requests_per_minute: float | None
    megapixels_per_minute: float | None
    priority: int
    models: tuple[str, ...]
    remote: bool
    spending_limit_micros: int | None
    spent_micros: int
    reserved_micros: int

    @property
    def local_only(self) -> bool:
        """Whether its pictures must stay in the house."""
        return not self.remote

    @property
    def available_micros(self) -> int | None:
        """What it may still spend; None: as much as it likes."""
        if self.spending_limit_micros is None:
            return None
        return max(0, self.spending_limit_micros - self.spent_micros - self.reserved_micros)

    def state(self, now: int) -> str:
        """active, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"

    def to_public(self) -> dict[str, Any]:
        """As `GET /v1/keys` and the terminal's JSON show it."""
        limit = self.spending_limit_micros
        return {
            "id": self.id,
            "object": "key",
            "name": self.name,
            "prefix": self.prefix,
            "status": self.state(now_ms()),
            "created_at": iso(self.created),
            "expires_at": None if self.expires is None else iso(self.expires),
            "revoked_at": None if self.revoked is None else iso(self.revoked),
            "requests_per_minute": self.requests_per_minute,
            "megapixels_per_minute": self.megapixels_per_minute,
            "priority": self.priority,
            "models": list(self.models),
            "remote": self.remote,
            "spending_limit": None if limit is None else limit / 1e6,
            "spent": self.spent_micros / 1e6,
            "reserved": self.reserved_micros / 1e6,
            "currency": "usd",
        }


class KeyRing:
    """The keys in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._some = False

    def create(
        self,
        name: str,
        *,
        expires: int | None = None,
        requests_per_minute: float | None = None,
        megapixels_per_minute: float | None = None,
        priority: int = 0,
        models: Sequence[str] = (),
        spending_limit_micros: int | None = None,
        remote: bool = True,
    ) -> tuple[Key, str]:
        """A new key, and its token, which cannot be had again.

        Raises InvalidParameter for a name that an active key has, and for limits out of range.
        """
        limits = {
            "expires": expires,
            "requests_per_minute": requests_per_minute,
            "megapixels_per_minute": megapixels_per_minute,
            "priority": priority,
            "models": models,
            "spending_limit_micros": spending_limit_micros,
            "remote": remote,
        }
        if not _is_name(name) or name.startswith(_ID_START):
            raise InvalidParameter("name", name, f"1 to 100 characters, not '{_ID_START}' first")
        token = TOKEN_START + secrets.token_urlsafe(_TOKEN_BYTES)
        row = {
            "id": _ID_START + secrets.token_hex(10),
            "name": name,
            "prefix": token[:_SHOWN],
            "token_sha256": _hash(token),
            "created_at": now_ms(),
            "spent_micros": 0,
            "reserved_micros": 0,
            **_columns(limits),
        }
        with self._database.write(durable=True) as connection:
            self._database.serialise(connection, _NAMING)
            taken = select(keys.c.id).where(keys.c.name == name, keys.c.revoked_at.is_(None))
            if connection.scalar(taken) is not None:
                raise InvalidParameter("name", name, "a name that no other key has")
            connection.execute(insert(keys).values(row))
            return _get(connection, row["id"]), token

    def find(self, token: str) -> Key | None:
        """The key of a token; None where it is unknown, revoked or expired."""
        if not token.startswith(TOKEN_START) or not token.isascii():
            return None
        wanted = _hash(token)
        with self._database.read() as connection:
            row = connection.execute(select(keys).where(keys.c.token_sha256 == wanted)).first()
        if row is None or not hmac.compare_digest(row.token_sha256, wanted):
            return None
        key = _key(row)
        return key if key.state(now_ms()) == "active" else None

    def any(self) -> bool:
        """Whether a key was ever made. Revoking the last one opens the server to nobody."""
        if not self._some:
            with self._database.read() as connection:
                self._some = connection.scalar(select(keys.c.id).limit(1)) is not None
        return self._some

    def list(self) -> list[Key]:
        """All of them, the newest first."""
        with self._database.read() as connection:
            ordered = select(keys).order_by(keys.c.created_at.desc(), keys.c.id.desc())
            return [_key(row) for row in connection.execute(ordered)]

    def get(self, name: str) -> Key:
        """The key of that id or name; of several with it, the one in use. Raises NotFound."""
        with self._database.read() as connection:
            return _get(connection, name)

    def revoke(self, name: str) -> Key:
        """End the use of a key by id or name, for good; again changes nothing. Raises NotFound."""
        with self._database.write(durable=True) as connection:
            key = _get(connection, name)
            connection.execute(
                update(keys)
                .where(keys.c.id == key.id, keys.c.revoked_at.is_(None))
                .values(revoked_at=now_ms())
            )
            return _get(connection, key.id)

    def limit(self, name: str, **changes: Any) -> Key:
        """Change limits (those of `create`) of a key by id or name; None lifts one.

        Raises NotFound, InvalidParameter.
        """
        unknown = set(changes) - set(_LIMITS)
        if unknown:
            raise TypeError(f"no limits: {', '.join(sorted(unknown))}")
        values = _columns(changes)
        with self._database.write(durable=True) as connection:
            key = _get(connection, name)
            if values:
                connection.execute(update(keys).where(keys.c.id == key.id).values(values))
            return _get(connection, key.id)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("ascii")).hexdigest()


def _get(connection: Connection, name: str) -> Key:
    rows = connection.execute(
        select(keys)
        .where(or_(keys.c.id == name, keys.c.name == name))
        .order_by(keys.c.revoked_at.is_not(None), keys.c.created_at.desc())
        .limit(1)
    )
    row = rows.first()
    if row is None:
        raise NotFound(f"There is no key '{name[:100]}'. See: upscale keys list")
    return _key(row)


_TIMES = {"created": "created_at", "expires": "expires_at", "revoked": "revoked_at"}


def _key(row: Row[Any]) -> Key:
    columns = row._asdict() | {"models": tuple(json.loads(row.models))}
    return Key(**{f.name: columns[_TIMES.get(f.name, f.name)] for f in fields(Key)})


def _columns(limits: Mapping[str, Any]) -> dict[str, Any]:
    """Checked limits as the table has them."""
    return {_TIMES.get(name, name): _checked(name, value) for name, value in limits.items()}


def _checked(name: str, value: Any) -> Any:
    if name == "models":
        value = value or ()
        if not all(_is_name(model) for model in value) or len(value) > _MOST_MODELS:
            raise InvalidParameter(name, value, f"at most {_MOST_MODELS} names of models")
        return json.dumps(list(value))
    if name == "remote":
        return bool(value)
    if name == "priority":
        value = value or 0
        if not -100 <= value <= 100:
            raise InvalidParameter(name, value, "a whole number from -100 to 100")
    elif name.endswith("per_minute"):
        if value is not None and not 0 < value <= 1e9:
            raise InvalidParameter(name, value, "a number above 0, at most 1e9")
    elif value is not None and not 0 <= value < 1 << 62:
        raise InvalidParameter(name, value, "a whole number from 0")
    return value


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 100 and name.isprintable() and name == name.strip()
