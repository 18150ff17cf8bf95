"""Writes `settings.md` from `upscale.settings.Settings`: `python docs/make_settings.py`."""

from __future__ import annotations

import types
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from upscale.settings import Settings

PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

Environment variables, read once at start. Options of the command line (`--host`, `--port`,
`--precision`, `--tile`) win over them. Made by `python docs/make_settings.py`.

| variable | type | default | meaning |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    meaning = (field.description or "").replace("|", "\\|")
    kind = _kind(field.annotation) + _bounds(field)
    return f"| `{_variable(name, field)}` | {kind} | {_default(field)} | {meaning} |\n"


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"UPSCALE_{name.upper()}"


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(str(value) for value in get_args(annotation))
    if isinstance(annotation, types.UnionType):
        return _kind(next(a for a in get_args(annotation) if a is not type(None)))
    numbers = {int: "whole number", float: "number", Decimal: "number"}
    others = {str: "text", SecretStr: "secret", bool: "0 or 1", Path: "folder"}
    return {**numbers, **others}[annotation]


def _bounds(field: FieldInfo) -> str:
    limits = {}
    for item in field.metadata:
        for sign in ("ge", "gt", "le", "lt"):
            if hasattr(item, sign):
                limits[sign] = getattr(item, sign)
    low = f"from {limits['ge']}" if "ge" in limits else ""
    low = f"above {limits['gt']}" if "gt" in limits else low
    high = f"to {limits['le']}" if "le" in limits else ""
    return f", {low} {high}".rstrip() if low or high else ""


def _default(field: FieldInfo) -> str:
    if field.default in (PydanticUndefined, None, "", SecretStr("")):
        return ""
    if isinstance(field.default, bool):
        return str(int(field.default))
    return f"`{field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
