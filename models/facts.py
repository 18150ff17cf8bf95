"""What this machine has measured of a network, kept in one small file for each network.

Contract, and proofs of precision for each device. Torch-free, so that the server plans without
loading anything. The folder is a cache: deleting it costs a new measurement, nothing else.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from upscale import logs
from upscale.models.contract import Contract, Precision

log = logs.get("models")

# Raised when what is measured, or how, changes: older files are then measured anew.
_SCHEMA = 2


@dataclass(frozen=True)
class Proof:
    """One precision of a network on one device, against fp32 there.

    `psnr` in dB (peak 1) is the worse of two picture sizes, `gmacs` the measured speed in 1e9
    multiply-adds a second. `safe` says that it may be used; `reason` says why or why not.
    """

    precision: Precision
    method: str
    safe: bool
    psnr: float | None
    gmacs: float | None
    reason: str


@dataclass(frozen=True)
class Facts:
    """All that is known of a network here: its Contract, and proofs by device."""

    contract: Contract
    proofs: dict[str, tuple[Proof, ...]] = field(default_factory=dict)

    def best(self, device: str, allowed: tuple[Precision, ...]) -> Proof | None:
        """The fastest safe proof among the `allowed` precisions; None where none is known."""
        safe = [p for p in self.proofs.get(device, ()) if p.safe and p.precision in allowed]
        return max(safe, key=lambda p: p.gmacs or 0.0, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain data for a file or a pipe."""
        return {
            "schema": _SCHEMA,
            "contract": self.contract.to_json(),
            "proofs": {d: [asdict(p) for p in proofs] for d, proofs in self.proofs.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Facts:
        """The inverse of `to_json`; raises ValueError for data of another schema."""
        if data["schema"] != _SCHEMA:
            raise ValueError(f"schema {data['schema']}, {_SCHEMA} expected")
        return cls(
            contract=Contract.from_json(data["contract"]),
            proofs={
                device: tuple(Proof(**proof) for proof in proofs)
                for device, proofs in data["proofs"].items()
            },
        )


class FactsCache:
    """The folder of facts; keys are the hashes of what a network is made from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> Facts | None:
        """The facts of a network; None where nothing usable is stored."""
        try:
            return Facts.from_json(json.loads(self._path(key).read_text("utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("facts unreadable, measuring anew", extra=logs.fields(file=key, why=error))
            return None

    def save(self, key: str, facts: Facts) -> None:
        """Write the facts whole or not at all. A folder that cannot be written costs a warning."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(facts.to_json(), file, indent=1)
            Path(name).replace(self._path(key))
        except OSError as error:
            log.warning("facts not kept", extra=logs.fields(folder=self._folder, why=error))

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
