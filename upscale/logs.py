"""Structured logs: one line an event, with fields, without secrets.

`log = logs.get("server")`, then `log.info("job done", extra=fields(job=id, seconds=1.2))`.
The text form is `time level room: message key=value …`; the JSON form has one object a line. The
audit has that object in the text form, too, in place of message and fields.
Values of fields whose name looks like a secret, and bearer tokens or URL queries inside any value,
are masked before they are written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

AUDIT = "audit"
"""The room whose lines hold JSON in either form: programs read who sent what where."""

_SECRET_NAME = re.compile(r"key|token|secret|password|authorization|cookie", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Key|Basic|Token)\s+\S+", re.IGNORECASE)
_QUERY = re.compile(r"(https?://[^\s?#]+)\?[^\s]*")
_DATA_URI = re.compile(r"data:([\w/+.-]*)[;,][^\s]{32,}")


def setup(level: str = "info", form: Literal["text", "json"] = "text") -> None:
    """Send the package's logs to standard error in the given form. Safe to call twice."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    root = logging.getLogger("upscale")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
    # Written whatever the level is: a server that tells little still says who sent what where.
    get(AUDIT).setLevel(logging.INFO)


def get(room: str) -> logging.Logger:
    """The logger of a room."""
    return logging.getLogger(f"upscale.{room}")


def fields(**values: object) -> dict[str, Any]:
    """The `extra=` of a log call: structured fields beside the message."""
    return {"fields": values}


def mask(name: str, value: object) -> object:
    """`value` as it may be written in a log under `name`: numbers as they are, secrets masked."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAME.search(name):
        return "***"
    text = _BEARER.sub(r"\1 ***", str(value))
    text = _QUERY.sub(r"\1?***", text)
    return _DATA_URI.sub(r"data:\1;***", text)


def _masked(record: logging.LogRecord) -> tuple[str, Mapping[str, object]]:
    extra = getattr(record, "fields", {})
    return str(mask("", record.getMessage())), {k: mask(k, v) for k, v in extra.items()}


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message, extra = _masked(record)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        room = record.name.removeprefix("upscale.")
        begin = f"{clock} {record.levelname.lower():7} {room}: "
        if room == AUDIT:
            return begin + _JsonFormatter().format(record)
        line = begin + message
        for key, value in extra.items():
            line += f" {key}={value}"
        if record.exc_info:
            line += "\n" + str(mask("", self.formatException(record.exc_info)))
        return line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message, extra = _masked(record)
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "room": record.name.removeprefix("upscale."),
            "message": message,
            **extra,
        }
        if record.exc_info:
            line["trace"] = str(mask("", self.formatException(record.exc_info)))
        return json.dumps(line, ensure_ascii=False, default=str)
