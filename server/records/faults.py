"""What a database says when it cannot, as a RecordsFault: a reason in our words for callers, its
own words (which may hold paths and hosts) for the operator's log only.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from upscale.errors import RecordsFault

_BUSY = "another process or request holds them for too long"
_FULL = "the disk is full"
_READ_ONLY = "they are read-only"
_AWAY = "their database does not answer"
_SHUT = "their file cannot be opened"
_DAMAGED = "their file is damaged"

# By the beginnings of SQLite's names of errors, and of PostgreSQL's codes.
_REASONS = {
    "SQLITE_BUSY": _BUSY,
    "SQLITE_LOCKED": _BUSY,
    "SQLITE_FULL": _FULL,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_CANTOPEN": _SHUT,
    "SQLITE_PERM": _SHUT,
    "SQLITE_IOERR": "their file cannot be read or written",
    "SQLITE_CORRUPT": _DAMAGED,
    "SQLITE_NOTADB": _DAMAGED,
    "55P03": _BUSY,
    "40": _BUSY,
    "53100": _FULL,
    "53": "their database is overloaded",
    "25006": _READ_ONLY,
    "57P": _AWAY,
    "08": _AWAY,
}


def fault_of(error: SQLAlchemyError | OSError) -> RecordsFault:
    """The error as one of ours."""
    if isinstance(error, OSError):
        return _fault(f"{_SHUT} ({error.strerror or 'the system refuses'})", str(error))
    if isinstance(error, PoolTimeout):
        return _fault(_BUSY, "no connection came free")
    if not isinstance(error, DBAPIError):
        return _fault("", str(error))
    code = getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)
    fits = [reason for start, reason in _REASONS.items() if code and code.startswith(start)]
    away = _AWAY if code is None and isinstance(error, OperationalError) else ""
    return _fault(fits[0] if fits else away, str(error.orig))


def _fault(reason: str, detail: str) -> RecordsFault:
    told = f": {reason}" if reason else ""
    return RecordsFault(f"The records cannot be read or written{told}. Try again later.", detail)
