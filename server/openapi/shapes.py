"""The small parts that schemas of bodies are put together from."""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
TRUTH = {"type": "boolean"}
MAYBE_TEXT = {"type": ["string", "null"]}
MAYBE_WHOLE = {"type": ["integer", "null"]}
MAYBE_NUMBER = {"type": ["number", "null"]}
TEXTS = {"type": "array", "items": TEXT}
ANYTHING = {"type": "object"}


def ref(name: str) -> dict[str, Any]:
    """A reference to the schema of that name."""
    return {"$ref": f"#/components/schemas/{name}"}


def thing(members: dict[str, Any], *optional: str, **more: Any) -> dict[str, Any]:
    """An object that has all of `members` but the optional ones."""
    required = [name for name in members if name not in optional]
    return {"type": "object", "properties": members, "required": required, **more}


def listed(item: dict[str, Any]) -> dict[str, Any]:
    """The gateway's lists, all of them alike."""
    return thing(
        {
            "object": {"type": "string", "const": "list"},
            "data": {"type": "array", "items": item},
        }
    )
