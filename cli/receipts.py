"""The receipt of a result as a JSON file beside it: `<name of the result>.json`."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from upscale.engine.receipt import Receipt
from upscale.errors import OutputFault


def receipt_path(target: Path) -> Path:
    """Where the receipt of `target` lies."""
    return target.with_name(target.name + ".json")


def write_receipt(target: Path, source: Path, receipt: Receipt, *, replace: bool) -> None:
    """Write it, whole or not at all; raises OutputFault."""
    path = receipt_path(target)
    data = {"source": str(source), "target": str(target), **receipt.to_json()}
    scratch = target.with_name(f".upscale-{secrets.token_hex(8)}.part")
    try:
        scratch.write_text(json.dumps(data, indent=2) + "\n", encoding="ascii")
        if os.path.lexists(path) and not replace:
            raise OutputFault(f"{path} exists; --overwrite replaces it.")
        scratch.replace(path)
    except OSError as error:
        raise OutputFault(f"The receipt {path} cannot be written: {error.strerror}.") from error
    finally:
        scratch.unlink(missing_ok=True)
