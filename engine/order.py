"""What travels to a device worker: a Plan with the paths it is about. Never pixels."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from upscale.engine.plan import Plan


@dataclass(frozen=True)
class JobOrder:
    """Upscale the picture at `source` as `plan` says; the result appears at `target`, whole.

    `replace` lets it take the place of an existing file. `scratch` is the name under which the
    result grows, in the target's folder: short and hidden, whatever the target is called.
    """

    id: str
    source: Path
    target: Path
    plan: Plan
    replace: bool = True
    scratch: str = field(default_factory=lambda: f".upscale-{secrets.token_hex(8)}.part")

    @property
    def scratch_path(self) -> Path:
        """Where the result grows."""
        return self.target.with_name(self.scratch)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a pipe. Names that are no UTF-8 travel as surrogates."""
        return {
            "id": self.id,
            "source": str(self.source),
            "target": str(self.target),
            "plan": self.plan.to_json(),
            "replace": self.replace,
            "scratch": self.scratch,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobOrder:
        """The inverse of `to_json`."""
        return cls(
            id=data["id"],
            source=Path(data["source"]),
            target=Path(data["target"]),
            plan=Plan.from_json(data["plan"]),
            replace=data["replace"],
            scratch=data["scratch"],
        )
